//! `hgc tune`: the plan that suits one pipeline, found by drawing with it.

mod goal;
mod report;
mod runs;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::SessionOptions;
use hgc::unstable::eval::{EvalOptions, batches};
use hgc::unstable::onnx::Transaction;
use hgc::unstable::pipeline::{Batch, Folder};
use hgc::unstable::plan::parameter::{
    CONTROL_END, CONTROL_ROWS, CONTROL_START, CUT, PROMPTED, Parameter, WHOLE_BATCH,
};
use hgc::unstable::sampler::Method;
use hgc::unstable::tune::{Aim, Allowance, Case, Pictures, Setup, Tuned, Tuner, TunerOptions};

use super::Outcome;
use super::args::{Format, share};
use super::engine::EngineArgs;
use super::eval::key;
use super::plan::Told;
use super::progress::Progress;
use super::scenes::SceneArgs;
use super::terminal::{note, print, print_json, warn};
use goal::{CostUnit, FRONTIER, Granularity, Steps, largest, times};
use report::{ChoiceReport, Report, render};
use runs::KeptRuns;

const EXAMPLES: &str = "\
Examples:
  hgc tune sd15-onnx --prompt \"a red house\" --control map.png --steps 20 -o plan.toml
  hgc tune sd15-onnx --set scenes.json --steps 20,30 --sampler ddim,dpm++2m -o plan.toml
  hgc tune sd15-onnx --set scenes.json --steps 20 --frontier -o plans
  hgc compile sd15-onnx --plan plan.toml -o sd15-cached";

/// Parameters of plans that a search does not choose.
static USED: [&Parameter; 6] = [
    &CUT,
    &PROMPTED,
    &CONTROL_ROWS,
    &WHOLE_BATCH,
    &CONTROL_START,
    &CONTROL_END,
];

/// Options of `hgc tune`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Pipeline folder, not compiled
    pipeline: PathBuf,
    #[command(flatten)]
    scenes: SceneArgs,
    /// Denoising steps; several, joined by commas, or several samplers make a plan with a schedule for
    /// each. A range (8..30) leaves the number to tune: the one that comes nearest to the converged
    /// picture (100 steps of DPM++ 2M) for the MACs that --save leaves of the longest; without --sampler
    /// the sampler too
    #[arg(long, value_name = "N,...|A..B", value_delimiter = ',', required = true, value_parser = Steps::read)]
    steps: Vec<Steps>,
    /// Share of the MACs of weight operators to save
    #[arg(long, value_name = "SHARE", default_value_t = 0.65, value_parser = share, conflicts_with_all = ["faster", "frontier", "psnr"])]
    save: f64,
    /// How many times fewer MACs: 2.5 saves 60 %
    #[arg(long, value_name = "TIMES", value_parser = times, conflicts_with_all = ["frontier", "psnr"])]
    faster: Option<f64>,
    /// The largest saving, of 40 to 75 %, at which pictures keep this PSNR in dB; up to three searches
    #[arg(long, value_name = "DB", value_parser = super::args::finite::<f64>, conflicts_with = "frontier")]
    psnr: Option<f64>,
    /// A plan for each of several savings, 40 to 75 %; -o names their folder
    #[arg(long)]
    frontier: bool,
    /// What --save and --faster count: MACs, or the time of each kind of evaluation as it is measured here
    #[arg(long, value_enum, default_value_t)]
    cost: CostUnit,
    /// What runs on evaluations of its own: all blocks below the cut together, or parts that further cuts divide
    /// them into
    #[arg(long, value_enum, default_value_t)]
    granularity: Granularity,
    /// Plan a gate that decides while the model runs which evaluations refresh, by how far latent and
    /// timestep have moved; --save is then a mean
    #[arg(long, conflicts_with_all = ["cost", "effort", "granularity"])]
    adaptive: bool,
    /// What one search may cost, in generations of the original
    #[arg(long, value_name = "GENERATIONS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    effort: u64,
    /// Scenes to draw, from the first
    #[arg(long = "scenes", value_name = "N", default_value_t = 8)]
    count: usize,
    /// Seed of the search
    #[arg(long, default_value_t = 0)]
    search_seed: u64,
    #[command(flatten)]
    told: Told,
    #[command(flatten)]
    engine: EngineArgs,
    /// File for the plan (TOML), for `hgc compile --plan`
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Go on where a search for the same file was interrupted
    #[arg(long)]
    resume: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Other pictures that decide between the best schedules, at least.
const FRESH: usize = 4;
/// How many times as many more of them decide which of the best few it is: what fails on one picture of ten is seen.
const LAST: usize = 2;
/// Generations of the original that fitting a gate costs, about.
const ADAPTIVE: u64 = 40;
/// Steps of the converged picture.
const CONVERGED: usize = 100;

/// Runs `hgc tune`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let scenes = &args.scenes;
    let folder = scenes.folder(&args.pipeline, "tune compiles it itself")?;
    let plans = args.plans()?;
    if let Some(parameter) = args.told.other_than(&USED) {
        bail!(
            "--{} is what tune decides by itself; leave it out",
            parameter.name
        )
    }
    let all = scenes.read_set(None)?;
    let judges = args.count.clamp(FRESH, all.scenes.len().max(FRESH));
    let (set, others) = all.split(args.count, judges * (1 + LAST));
    let (others, last) = others.split(judges, judges * LAST);
    let cases = args.cases(&folder)?;
    let drawing = scenes.drawing(cases[0].steps, &folder, &set, &args.told);
    let base = args.engine.target().parameters(drawing.parameters());
    let base = args.told.over(base);
    base.check()?;
    let inputs = Inputs::read(&folder.path, &[])?;
    let own: Vec<PathBuf> = inputs
        .sources
        .iter()
        .flat_map(|s| s.model.files())
        .collect();
    let real = |file: &Path| file.canonicalize().ok();
    let is_own = |file: &Path| {
        own.iter()
            .any(|f| real(f).is_some_and(|f| real(file) == Some(f)))
    };
    if let Some((_, file)) = plans.iter().find(|(_, file)| is_own(file)) {
        bail!(
            "{} is a file of the pipeline; choose another -o",
            file.display()
        )
    }
    let sizes = folder.sizes(drawing.size, drawing.rows(), folder.tokens()?);
    let project = Project::new(&inputs, sizes)?;
    let engine = args.engine.start()?;
    let session = SessionOptions::on(args.engine.ep, &args.engine.ep_option);
    let settings = EvalOptions {
        run: drawing.clone(),
        batch: scenes.batch()?,
        timed: 0,
    };
    let (name, ep) = (engine.info().name(), &args.engine);
    let parameters: Vec<String> = base.given().map(|(k, v)| format!("{k}={v}")).collect();
    let version = env!("CARGO_PKG_VERSION");
    let range = args.range()?;
    let aim = match range {
        None => Aim::Original,
        Some(_) => Aim::Of(Box::new(Case {
            sampler: folder.sampler(Some(Method::DpmSolver))?,
            steps: CONVERGED,
        })),
    };
    let far = matches!(aim, Aim::Of(_)).then_some(" converged");
    let name = format!(
        "{name} {version} {:?} {:?} {:?} {:?} {parameters:?}{}",
        args.cost,
        args.granularity,
        ep.ep,
        ep.ep_option,
        far.unwrap_or_default()
    );
    let key = key(&folder, &set, &settings, &cases[0].sampler, &name)?;
    // What does not fit is told at once; a new file is begun when there is something to keep.
    let open = || KeptRuns::open(&runs::path_of(&args.output), &key, args.resume);
    let resumed = args.resume.then(open).transpose()?;
    let mut told = |text: &str| warn(text);
    let mut batches = |set| -> anyhow::Result<Vec<Batch>> {
        Ok(batches(
            engine, &folder, &session, set, &settings, &mut told,
        )?)
    };
    let searched = batches(&set)?;
    let fresh = batches(&others)?;
    let last = batches(&last)?;
    let pictures = set.scenes.len();
    let each = match (&range, args.psnr, cases.len() * plans.len()) {
        (Some(_), ..) => ", and up to half as long to choose the number of steps".to_owned(),
        (_, Some(_), n) => format!(" for each of up to {} searches", 3 * n),
        (_, _, 1) => String::new(),
        (_, _, n) => format!(" for each of {n} searches"),
    };
    let effort = if args.adaptive { ADAPTIVE } else { args.effort };
    note(format_args!(
        "{pictures} pictures; it takes as long as {effort} times drawing them with the original{each}"
    ));
    let bar = Progress::new("original", "{bar:30} {pos}/{len} {msg} {eta}");
    bar.set_length(((searched.len() + fresh.len() + last.len()) * cases.len()) as u64);
    #[allow(clippy::cast_precision_loss)]
    let options = TunerOptions {
        effort: args.effort as f64,
        seed: args.search_seed,
        unit: args.cost.into(),
        inner_cuts: args.granularity.inner_cuts(),
    };
    let subject = Setup {
        engine,
        folder: &folder,
        project: &project,
        session: &session,
    };
    let mut tuner = Tuner::new(
        subject,
        base,
        (
            drawing,
            Pictures {
                searched: &searched,
                fresh: &fresh,
                last: &last,
            },
        ),
        (&cases, &aim),
        options,
        &mut || {
            bar.inc(1);
        },
    )?;
    if range.is_none()
        && args.psnr.is_none()
        && let Some(error) = tuner.unreachable(plans[0].0).filter(|_| !args.frontier)
    {
        return Err(error.into());
    }
    let mut runs = match resumed {
        Some(runs) => runs,
        None => open()?,
    };
    let mut reports = Vec::new();
    bar.set_length(1000);
    let (mut cases, mut plans, mut choice) = (cases, plans, None);
    if let Some((_, longest)) = range {
        let allowance = args.allowance(longest);
        let found = tuner.choose(allowance, &mut runs, &mut |case, best| {
            bar.set_message(format!("{case}: {best:.2} dB"));
        })?;
        cases = vec![cases[found.case].clone()];
        plans[0].0 = allowance.save(cases[0].steps);
        tuner = tuner.only(found.case);
        choice = Some(ChoiceReport::of(&found));
    }
    let mut search = |save: f64| -> anyhow::Result<Tuned> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mut said = |case: &str, spent: f64, best: f64| {
            bar.set_position((1000.0 * spent) as u64);
            bar.set_message(format!("{case}, {:.0} %: {best:.2} dB", 100.0 * save));
        };
        Ok(match args.adaptive {
            true => tuner.tune_adaptive(save, &mut said)?,
            false => tuner.tune(save, &mut runs, &mut said)?,
        })
    };
    // Each when it is found: the next search may be interrupted.
    let write = |file: &Path, found: &Tuned| -> anyhow::Result<Report> {
        let text = toml::to_string(&found.planned.plan)?;
        let mut transaction = Transaction::new(args.force);
        own.iter().for_each(|f| transaction.protect(f));
        transaction.add_bytes(file, text.as_bytes())?;
        transaction.commit()?;
        Ok(Report::new(file.to_owned(), found, &cases, pictures))
    };
    if let Some(psnr) = args.psnr {
        let found = largest(psnr, &mut search)?;
        reports.push(write(&plans[0].1, &found)?);
        plans.clear();
    }
    for (save, file) in &plans {
        if let Some(error) = tuner.unreachable(*save).filter(|_| args.frontier) {
            warn(format_args!("{}: {error}; left out", file.display()));
            continue;
        }
        let mut report = write(file, &search(*save)?)?;
        report.choice = choice.take();
        reports.push(report);
    }
    bar.finish();
    if reports.is_empty() {
        bail!("no saving of the frontier can be reached in so few steps; take more steps")
    }
    for report in &mut reports {
        report.seconds = start.elapsed().as_secs_f64();
    }
    match args.format {
        Format::Json => print_json("hgc.tune.v1", &reports)?,
        Format::Table => print(&render(&reports))?,
    }
    Ok(Outcome::Done)
}

impl Args {
    /// The range of steps to choose from, if there is one.
    fn range(&self) -> anyhow::Result<Option<(usize, usize)>> {
        let range = self.steps.iter().find_map(|s| match s {
            Steps::Range(from, to) => Some((*from, *to)),
            Steps::One(_) => None,
        });
        if range.is_some() && (self.steps.len() > 1 || self.psnr.is_some() || self.frontier) {
            bail!("a range of --steps stands alone, with --save or --faster")
        }
        Ok(range)
    }

    /// What the savings leave of the longest generation.
    #[allow(clippy::cast_precision_loss)]
    fn allowance(&self, longest: usize) -> Allowance {
        Allowance((1.0 - self.saved()) * longest as f64)
    }

    fn saved(&self) -> f64 {
        self.faster.map_or(self.save, |times| 1.0 - 1.0 / times)
    }

    /// What to save, and the file of each plan, which does not exist without `--force`.
    fn plans(&self) -> anyhow::Result<Vec<(f64, PathBuf)>> {
        let plans: Vec<(f64, PathBuf)> = if self.frontier {
            let file = |save: &f64| {
                let name = format!("save-{:.0}.toml", 100.0 * save);
                (*save, self.output.join(name))
            };
            FRONTIER.iter().map(file).collect()
        } else {
            vec![(self.saved(), self.output.clone())]
        };
        let mut files = plans.iter().map(|(_, file)| file);
        if let Some(file) = files.find(|f| f.exists() && !self.force) {
            bail!("{} exists; use --force to replace it", file.display())
        }
        if let Some((_, file)) = plans.iter().find(|(_, file)| file.is_dir()) {
            bail!("{} is a folder; -o names a file", file.display())
        }
        if self.frontier && self.output.exists() && !self.output.is_dir() {
            bail!(
                "{} is a file; with --frontier -o names a folder",
                self.output.display()
            )
        }
        let kept = runs::path_of(&self.output);
        if kept.exists() && !self.force && !self.resume {
            bail!(
                "{} holds the runs of an earlier search: --resume goes on with it, --force begins anew",
                kept.display()
            )
        }
        let folder = |file: &Path| file.parent().map(Path::to_owned).unwrap_or_default();
        let missing = |f: &PathBuf| !f.as_os_str().is_empty() && !f.is_dir();
        // Told before an hour of work.
        if let Some(none) = Some(folder(&self.output)).filter(missing) {
            bail!("there is no folder {}", none.display())
        }
        Ok(plans)
    }

    /// Every number of steps with every sampler.
    fn cases(&self, folder: &Folder) -> anyhow::Result<Vec<Case>> {
        let mut cases: Vec<Case> = Vec::new();
        let range = self.range()?;
        let samplers = match range {
            Some(_) if !self.scenes.names_sampler() => {
                let calm = Method::ALL.into_iter().filter(|m| !m.adds_noise());
                calm.map(|m| folder.sampler(Some(m)))
                    .collect::<Result<_, _>>()?
            }
            _ => self.scenes.samplers(folder)?,
        };
        let steps: Vec<usize> = match range {
            Some((from, to)) => self.allowance(to).tried(from, to),
            None => {
                let one = |s: &Steps| match s {
                    Steps::One(steps) | Steps::Range(steps, _) => *steps,
                };
                self.steps.iter().map(one).collect()
            }
        };
        for sampler in samplers {
            for steps in &steps {
                let case = Case {
                    sampler: sampler.clone(),
                    steps: *steps,
                };
                if cases.iter().all(|c| c.name() != case.name()) {
                    cases.push(case);
                }
            }
        }
        Ok(cases)
    }
}
