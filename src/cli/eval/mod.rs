//! `hgc eval`: what each policy costs in pictures.

mod html;
mod kept;
mod report;
mod table;

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::bail;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::{Engine, SessionOptions};
use hgc::unstable::eval::{EvalOptions, Evaluation, Measured, Scene, Set, sensitivity};
use hgc::unstable::pipeline::{self, Folder, picture};
use hgc::unstable::plan::Reuse;
use hgc::unstable::plan::parameter::{Parameters, REUSE, Value};
use hgc::unstable::plan::policy::{self, Nothing, Point, Policy as _};
use hgc::unstable::sampler::Method;
use image::RgbImage;

use super::Outcome;
use super::args::{Format, finite};
use super::engine::EngineArgs;
use super::plan::Told;
use super::progress::Progress;
use super::terminal::{json, print, print_json, warn};
use kept::KeptPoints;
use report::{Failed, Report, Strip};

/// Scenes that the report shows pictures of.
const SHOWN: usize = 6;

/// Options of `hgc eval`.
#[derive(clap::Args)]
pub struct Args {
    /// Pipeline folder, not compiled
    pipeline: PathBuf,
    /// Set of scenes (JSON): prompts, control images, seeds, and what pictures must show
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "prompts", "control"])]
    set: Option<PathBuf>,
    /// What to draw, where there is no set; may be repeated
    #[arg(long, required_unless_present_any = ["set", "prompts"])]
    prompt: Vec<String>,
    /// File with one prompt a line
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Control image for all prompts; once for each ControlNet
    #[arg(long, value_name = "IMAGE")]
    control: Vec<PathBuf>,
    /// Seed of the first prompt; the next ones have the next seeds
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Policy to score, with parameters or without: hgc, deepcache:interval=2|3|5,cut=1;
    /// may be repeated [default: all but none]
    #[arg(long, value_name = "POLICY[:KEY=A|B,...]")]
    policy: Vec<String>,
    /// Score each policy that is named without parameters over its published grid
    #[arg(long)]
    grid: bool,
    /// Change of the pictures for every site and step when only that site is reused there
    #[arg(long, conflicts_with_all = ["policy", "grid", "output"])]
    sensitivity: bool,
    /// Denoising steps
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Guidance scale
    #[arg(long, default_value_t = 7.5, value_parser = finite::<f64>)]
    guidance: f64,
    /// Strength of the control
    #[arg(long, default_value_t = 1.0, value_parser = finite::<f32>)]
    control_scale: f32,
    /// Scenes to draw, from the first [default: all]
    #[arg(long, value_name = "N")]
    scenes: Option<usize>,
    /// Scenes to draw at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    batch: u64,
    /// Batches of each point on which original and cached run in turns for the time ratio;
    /// 0 for none, then only one of them is in memory
    #[arg(long, default_value_t = 2)]
    timed: usize,
    /// ddim, euler, euler-ancestral, dpm++2m or unipc [default: as the scheduler's file says]
    #[arg(long)]
    sampler: Option<Method>,
    #[command(flatten)]
    told: Told,
    #[command(flatten)]
    engine: EngineArgs,
    /// Folder for report.html and report.json, and for points.json, which --resume reads
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace existing reports
    #[arg(long)]
    force: bool,
    /// Go on where an evaluation into the same folder was interrupted, or add points to it
    #[arg(long, requires = "output")]
    resume: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs `hgc eval`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let reports = args.reports()?;
    let folder = Folder::read(&args.pipeline)?;
    if folder.plan.is_some() {
        bail!(
            "{} is compiled; give the original, eval compiles it with every policy",
            args.pipeline.display()
        )
    }
    for note in &folder.notes {
        warn(note);
    }
    let set = args.read_set()?;
    let drawing = pipeline::Drawing {
        steps: args.steps,
        guidance: args.guidance,
        control_scale: args.control_scale,
        control_window: args.told.over(Parameters::new(args.steps)).control_window(),
        size: folder.size_for(set.scenes[0].controls.first()),
    };
    let base = args.engine.target().parameters(drawing.parameters());
    let base = args.told.over(base);
    base.check()?;
    let inputs = Inputs::read(&folder.path, &[])?;
    let sizes = folder.sizes(drawing.size, drawing.rows(), folder.tokens()?);
    let project = Project::new(&inputs, sizes)?;
    let points = args.points(&base, project.skips())?;
    let engine = args.engine.start()?;
    let options = SessionOptions::on(args.engine.ep, &args.engine.ep_option);
    let settings = EvalOptions {
        run: drawing,
        batch: usize::try_from(args.batch)?,
        timed: if args.sensitivity { 0 } else { args.timed },
    };
    let sampler = folder.sampler(args.sampler)?;
    let (name, ep) = (engine.info().name(), &args.engine);
    let name = format!("{name} {:?} {:?}", ep.ep, ep.ep_option);
    let key = kept::key(&folder, &set, &settings, &sampler, &name)?;
    let kept = args.output.as_ref().map(|o| o.join("points.json"));
    let mut progress = KeptPoints::open(kept, key, args.resume)?;
    if let Some(class) = &sampler.stands_for {
        warn(super::args::stands_for(class, sampler.method));
    }
    let mut evaluation = Evaluation::new(
        engine,
        &folder,
        &project,
        sampler,
        &options,
        &set,
        settings,
        &mut |text: &str| warn(text),
    )?;
    let bar = Progress::new("original", "{bar:30} {pos}/{len} {msg} {eta}");
    bar.set_length(evaluation.batches() as u64);
    let originals = evaluation.original(&mut || bar.inc(1))?;
    if args.sensitivity {
        let found = args.sensitivities(&mut evaluation, &project, &base, &originals, &bar)?;
        bar.finish();
        match args.format {
            Format::Json => print_json("hgc.sensitivity.v1", &found)?,
            Format::Table => print(&table::sensitivities(&found))?,
        }
        return Ok(Outcome::Done);
    }
    bar.set_length((evaluation.batches() * (points.len() + 1)) as u64);
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    let asked = points.len();
    let points = args.with_kept(points, &progress, &base);
    let shown = &set.scenes[..originals.len().min(SHOWN)];
    let controls = (0..shown.first().map_or(0, |s| s.controls.len())).map(|i| {
        let maps: Vec<RgbImage> = shown.iter().map(|s| s.controls[i].clone()).collect();
        Strip::new("control", &maps)
    });
    let mut strips: Vec<Strip> = controls.collect();
    strips.push(Strip::new("original", &originals[..shown.len()]));
    for (index, point) in points.iter().enumerate() {
        bar.set_message(point.label.clone());
        let scored = score(
            &mut evaluation,
            point,
            index < asked,
            (&originals, &mut progress),
            &bar,
        );
        match scored? {
            Scored::Measured(found, strip) => {
                measured.push(*found);
                strips.push(strip);
            }
            Scored::Failed(reason) => failed.push(reason),
            Scored::Changed => warn(format_args!(
                "{} was planned otherwise before; it is left out",
                point.label
            )),
        }
    }
    bar.finish();
    let baseline = evaluation.quality(&originals, &originals);
    if let Some(first) = failed.first().filter(|_| measured.is_empty()) {
        bail!("{}: {}", first.label, first.reason)
    }
    let report = Report::new(args.about(&set, engine), &baseline, &measured, failed);
    if let Some([html, data]) = &reports {
        let prompts: Vec<&str> = shown.iter().map(|s| s.prompt.as_str()).collect();
        let page = html::page(&report, &strips, &prompts)?;
        let text = json("hgc.eval.v1", std::slice::from_ref(&report))?;
        let mut transaction = hgc::unstable::onnx::Transaction::new(args.force || args.resume);
        transaction.add_bytes(html, page.as_bytes())?;
        transaction.add_bytes(data, text.as_bytes())?;
        transaction.commit()?;
    }
    let page = reports.as_ref().map(|[html, _]| html);
    match (args.format, page) {
        (Format::Json, _) => print_json("hgc.eval.v1", &[report])?,
        (Format::Table, None) => print(&table::points(&report))?,
        (Format::Table, Some(html)) => {
            let points = table::points(&report);
            print(&format!("{points}\nreport: {}", html.display()))?;
        }
    }
    Ok(Outcome::Done)
}

/// What became of a point.
enum Scored {
    Measured(Box<Measured>, Strip),
    /// The models or the engine refuse it.
    Failed(Failed),
    /// Not asked for; an earlier evaluation measured it, with another plan.
    Changed,
}

/// Takes a point from an earlier evaluation, or draws it if it is asked for and keeps it.
fn score(
    evaluation: &mut Evaluation<'_>,
    point: &Point,
    asked: bool,
    (originals, progress): (&[RgbImage], &mut KeptPoints),
    bar: &Progress,
) -> anyhow::Result<Scored> {
    let planned = match evaluation.plan(point) {
        Ok(planned) => planned,
        Err(e) => return Ok(Scored::Failed(Failed::new(point, e))),
    };
    if let Some((found, strip)) = progress.take(point, &planned.plan, originals.len()) {
        bar.inc(evaluation.batches() as u64);
        return Ok(Scored::Measured(Box::new(found), strip));
    }
    if !asked {
        return Ok(Scored::Changed);
    }
    let mut found = match evaluation.point((point, &planned), originals, &mut || bar.inc(1)) {
        Ok(found) => found,
        Err(e) => return Ok(Scored::Failed(Failed::new(point, e))),
    };
    found.pictures.truncate(SHOWN);
    let strip = Strip::new(&point.label, &found.pictures);
    found.pictures.clear();
    progress.put(&found, &planned.plan, &strip)?;
    Ok(Scored::Measured(Box::new(found), strip))
}

impl Args {
    /// The files to write; none that exists without `--force`.
    fn reports(&self) -> anyhow::Result<Option<[PathBuf; 2]>> {
        let Some(folder) = &self.output else {
            return Ok(None);
        };
        let files = ["report.html", "report.json"].map(|name| folder.join(name));
        let kept = folder.join("points.json");
        let found = files.iter().chain([&kept]).find(|f| f.exists());
        if let Some(file) = found.filter(|_| !self.force && !self.resume) {
            bail!(
                "{} exists; use --force to replace it, or --resume to go on",
                file.display()
            )
        }
        Ok(Some(files))
    }

    fn read_set(&self) -> anyhow::Result<Set> {
        let mut set = match &self.set {
            Some(file) => Set::read(file)?,
            None => self.own_set()?,
        };
        if let Some(count) = self.scenes {
            set.scenes.truncate(count);
        }
        if set.scenes.is_empty() {
            bail!("there is nothing to draw; give a prompt, and --scenes 1 or more")
        }
        Ok(set)
    }

    /// Every prompt with the same control images.
    fn own_set(&self) -> anyhow::Result<Set> {
        let mut prompts = self.prompt.clone();
        prompts.extend(super::args::prompts(self.prompts.as_deref())?);
        let controls = self.control.iter().map(|p| picture::read(p));
        let controls: Vec<RgbImage> = controls.collect::<Result<_, _>>()?;
        let scenes = (self.seed..).zip(prompts).map(|(seed, prompt)| Scene {
            prompt,
            negative_prompt: String::new(),
            controls: controls.clone(),
            seed,
            truth: None,
        });
        Ok(Set {
            scenes: scenes.collect(),
            appearance: None,
        })
    }

    fn points(&self, base: &Parameters, skips: usize) -> anyhow::Result<Vec<Point>> {
        let all = policy::ALL.iter().filter(|p| p.name() != Nothing.name());
        let texts: Vec<String> = if self.policy.is_empty() {
            all.map(ToString::to_string).collect()
        } else {
            self.policy.clone()
        };
        let mut found = Vec::new();
        for text in &texts {
            let parsed = Point::parse(text, base)?;
            if let Some(point) = parsed.first().filter(|_| self.grid && !text.contains(':')) {
                found.extend(Point::grid(point.policy, base, skips));
            }
            found.extend(parsed);
        }
        let mut seen = HashSet::new();
        found.retain(|p| seen.insert(p.label.clone()));
        Ok(found)
    }

    /// Points of an evaluation that is resumed stay in its report.
    fn with_kept(
        &self,
        mut points: Vec<Point>,
        kept: &KeptPoints,
        base: &Parameters,
    ) -> Vec<Point> {
        let mut more = Vec::new();
        for label in kept.labels() {
            if points.iter().all(|p| p.label != label) {
                more.extend(Point::parse(label, base).unwrap_or_default());
            }
        }
        points.append(&mut more);
        points
    }

    fn sensitivities(
        &self,
        evaluation: &mut Evaluation<'_>,
        project: &Project<'_>,
        base: &Parameters,
        originals: &[RgbImage],
        bar: &Progress,
    ) -> anyhow::Result<Vec<sensitivity::Sensitivity>> {
        let candidates = sensitivity::candidates(project, base)?;
        let runs = candidates.len() * self.steps.saturating_sub(1);
        bar.inc_length((runs * evaluation.batches()) as u64);
        let mut found = Vec::new();
        let reuse = match base.get(&REUSE) {
            Some(Value::Reuse(reuse)) => *reuse,
            _ => Reuse::Hold,
        };
        for candidate in &candidates {
            bar.set_message(candidate.name.clone());
            let mut told = || bar.inc(1);
            let one =
                sensitivity::measure(evaluation, candidate, base, reuse, originals, &mut told);
            found.push(one?);
        }
        Ok(found)
    }

    fn about(&self, set: &Set, engine: &Engine) -> report::About {
        report::About {
            pipeline: self.pipeline.display().to_string(),
            set: self.set.as_ref().map(|s| s.display().to_string()),
            scenes: set.scenes.len(),
            steps: self.steps,
            guidance: self.guidance,
            engine: engine.info().name(),
        }
    }
}
