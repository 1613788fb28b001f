//! `hgc eval`: what each policy costs in pictures.

mod html;
mod kept;
mod matrix;
mod report;
mod subjects;
mod table;

use std::path::{Path, PathBuf};

use anyhow::bail;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::{Engine, SessionOptions};
use hgc::unstable::eval::{EvalOptions, Evaluation, Measured, Set, Subject, sensitivity};
use hgc::unstable::plan::Reuse;
use hgc::unstable::plan::parameter::{Parameters, REUSE, Value};
use hgc::unstable::sampler::solver::told_of;
use image::RgbImage;

use super::Outcome;
use super::args::Format;
use super::engine::EngineArgs;
use super::plan::Told;
use super::progress::Progress;
use super::scenes::SceneArgs;
use super::terminal::{json, print, print_json, warn};
use kept::KeptPoints;
pub use kept::key;
use report::{Failed, Report, Strip};
use subjects::{Reference, SubjectArgs};

/// Scenes that the report shows pictures of.
const SHOWN: usize = 6;

/// Options that the file of a matrix tells for each of its cells.
const OF_CELLS: [&str; 19] = [
    "pipeline",
    "set",
    "prompt",
    "prompts",
    "control",
    "seed",
    "guidance",
    "control_scale",
    "batch",
    "sampler",
    "steps",
    "count",
    "timed",
    "reference",
    "sensitivity",
    "policy",
    "plan",
    "grid",
    "fewer",
];

/// Options of `hgc eval`.
#[derive(clap::Args)]
pub struct Args {
    /// Pipeline folder, not compiled
    #[arg(required_unless_present = "matrix")]
    pipeline: Option<PathBuf>,
    /// Pipelines, samplers and numbers of steps (TOML) in the place of one pipeline: a report for each,
    /// and one over all
    #[arg(long, value_name = "FILE", conflicts_with_all = OF_CELLS)]
    matrix: Option<PathBuf>,
    #[command(flatten)]
    scenes: SceneArgs,
    #[command(flatten)]
    subjects: SubjectArgs,
    /// What PSNR and SSIM are measured to
    #[arg(long, value_enum, default_value_t)]
    reference: Reference,
    /// Change of the pictures for every site and step when only that site is reused there
    #[arg(long, conflicts_with_all = ["policy", "grid", "output"])]
    sensitivity: bool,
    /// Denoising steps
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Scenes to draw, from the first [default: all]
    #[arg(long = "scenes", value_name = "N")]
    count: Option<usize>,
    /// Batches of each point on which original and cached run in turns for the time ratio;
    /// 0 for none, then only one of them is in memory
    #[arg(long, default_value_t = 2)]
    timed: usize,
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
    if let Some(file) = &args.matrix {
        return matrix::run(args, file);
    }
    let Some(report) = evaluate(args)? else {
        return Ok(Outcome::Done);
    };
    let page = args.files().map(|[html, _]| html);
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

/// Draws what is asked for, and writes the reports that are; none where sensitivities were asked for,
/// which are printed.
fn evaluate(args: &Args) -> anyhow::Result<Option<Report>> {
    let reports = args.reports()?;
    let scenes = &args.scenes;
    let folder = scenes.folder(args.folder(), "eval compiles it with every policy")?;
    let set = scenes.read_set(args.count)?;
    let drawing = scenes.drawing(args.steps, &folder, &set, &args.told);
    let base = args.engine.target().parameters(drawing.parameters());
    let sampler = scenes.sampler(&folder)?;
    let base = told_of(&sampler, base);
    let base = args.told.over(base);
    base.check()?;
    let inputs = Inputs::read(&folder.path, &[])?;
    let sizes = folder.sizes(drawing.size, drawing.rows(), folder.tokens()?);
    let project = Project::new(&inputs, sizes)?;
    let method = sampler.method;
    let told = (method, args.scenes.guidance);
    let asked = args.subjects.asked(&base, &project, told)?;
    let engine = args.engine.start()?;
    let options = SessionOptions::on(args.engine.ep, &args.engine.ep_option);
    let settings = EvalOptions {
        run: drawing,
        batch: scenes.batch()?,
        timed: if args.sensitivity { 0 } else { args.timed },
    };
    let sampler_name = method.name();
    let (name, ep) = (engine.info().name(), &args.engine);
    let name = format!("{name} {:?} {:?} {:?}", ep.ep, ep.ep_option, args.reference);
    let key = key(&folder, &set, &settings, &sampler, &name)?;
    let kept = args.output.as_ref().map(|o| o.join("points.json"));
    let mut progress = KeptPoints::open(kept, key, args.resume)?;
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
    let converged = match args.reference {
        Reference::Original => None,
        Reference::Converged => Some(subjects::converged(&evaluation, &bar)?),
    };
    let reference = converged.as_deref().unwrap_or(&originals);
    if args.sensitivity {
        let found = args.sensitivities(&mut evaluation, &project, &base, &originals, &bar)?;
        bar.finish();
        match args.format {
            Format::Json => print_json("hgc.sensitivity.v1", &found)?,
            Format::Table => print(&table::sensitivities(&found))?,
        }
        return Ok(None);
    }
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    let count = asked.len();
    let subjects = args
        .subjects
        .all(asked, &progress, &base, (&evaluation, method));
    bar.set_length((evaluation.batches() * (subjects.len() + 1)) as u64);
    let shown = &set.scenes[..originals.len().min(SHOWN)];
    let controls = (0..shown.first().map_or(0, |s| s.controls.len())).map(|i| {
        let maps: Vec<RgbImage> = shown.iter().map(|s| s.controls[i].clone()).collect();
        Strip::new("control", &maps)
    });
    let mut strips: Vec<Strip> = controls.collect();
    strips.push(Strip::new("original", &originals[..shown.len()]));
    for (index, subject) in subjects.iter().enumerate() {
        bar.set_message(subject.label.clone());
        let scored = score(
            &mut evaluation,
            subject,
            index < count || !progress.has(&subject.label),
            (reference, &mut progress),
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
                subject.label
            )),
        }
    }
    bar.finish();
    let baseline = evaluation.quality(&originals, &originals);
    if let Some(first) = failed.first().filter(|_| measured.is_empty()) {
        bail!("{}: {}", first.label, first.reason)
    }
    let report = Report::new(
        args.about(&set, sampler_name, engine),
        &baseline,
        &measured,
        failed,
    );
    if let Some([html, data]) = &reports {
        let prompts: Vec<&str> = shown.iter().map(|s| s.prompt.as_str()).collect();
        let page = html::page(&report, &strips, &prompts)?;
        let text = json("hgc.eval.v1", std::slice::from_ref(&report))?;
        let mut transaction = hgc::unstable::onnx::Transaction::new(args.force || args.resume);
        transaction.add_bytes(html, page.as_bytes())?;
        transaction.add_bytes(data, text.as_bytes())?;
        transaction.commit()?;
    }
    Ok(Some(report))
}

/// What became of a subject.
enum Scored {
    Measured(Box<Measured>, Strip),
    /// The models or the engine refuse it.
    Failed(Failed),
    /// Not asked for; an earlier evaluation measured it, with another plan.
    Changed,
}

/// Takes a subject from an earlier evaluation, or draws it if it is asked for and keeps it.
fn score(
    evaluation: &mut Evaluation<'_>,
    subject: &Subject,
    asked: bool,
    (reference, progress): (&[RgbImage], &mut KeptPoints),
    bar: &Progress,
) -> anyhow::Result<Scored> {
    let planned = match evaluation.plan(subject) {
        Ok(planned) => planned,
        Err(e) => return Ok(Scored::Failed(Failed::new(subject, e))),
    };
    if let Some((found, strip)) = progress.take(subject, &planned.plan, reference.len()) {
        bar.inc(evaluation.batches() as u64);
        return Ok(Scored::Measured(Box::new(found), strip));
    }
    if !asked {
        return Ok(Scored::Changed);
    }
    let mut found = match evaluation.point((subject, &planned), reference, &mut || bar.inc(1)) {
        Ok(found) => found,
        Err(e) => return Ok(Scored::Failed(Failed::new(subject, e))),
    };
    found.pictures.truncate(SHOWN);
    let strip = Strip::new(&subject.label, &found.pictures);
    found.pictures.clear();
    progress.put(&found, &planned.plan, &strip)?;
    Ok(Scored::Measured(Box::new(found), strip))
}

impl Args {
    /// The pipeline; clap sees to it that there is one.
    fn folder(&self) -> &Path {
        self.pipeline.as_deref().unwrap_or(Path::new(""))
    }

    /// The files of a report.
    fn files(&self) -> Option<[PathBuf; 2]> {
        let folder = self.output.as_ref()?;
        Some(["report.html", "report.json"].map(|name| folder.join(name)))
    }

    /// The files to write; none that exists without `--force`.
    fn reports(&self) -> anyhow::Result<Option<[PathBuf; 2]>> {
        let (Some(folder), Some(files)) = (&self.output, self.files()) else {
            return Ok(None);
        };
        let kept = folder.join("points.json");
        self.may_write(files.iter().chain([&kept]))?;
        Ok(Some(files))
    }

    /// Refuses to replace files that are there, unless that is asked for.
    fn may_write<'f>(&self, mut files: impl Iterator<Item = &'f PathBuf>) -> anyhow::Result<()> {
        let found = files.find(|f| f.exists());
        match found.filter(|_| !self.force && !self.resume) {
            None => Ok(()),
            Some(file) => bail!(
                "{} exists; use --force to replace it, or --resume to go on",
                file.display()
            ),
        }
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

    fn about(&self, set: &Set, sampler: &str, engine: &Engine) -> report::About {
        report::About {
            pipeline: self.folder().display().to_string(),
            set: self.scenes.set.as_ref().map(|s| s.display().to_string()),
            scenes: set.scenes.len(),
            steps: self.steps,
            guidance: self.scenes.guidance,
            sampler: sampler.to_owned(),
            reference: format!("{:?}", self.reference).to_lowercase(),
            engine: engine.info().name(),
        }
    }
}
