//! `hgc run`: from prompts and control images to pictures.

mod inputs;
mod sheet;
mod work;

use std::path::{Path, PathBuf};

use anyhow::bail;
use hgc::unstable::engine::SessionOptions;
use hgc::unstable::pipeline::{
    Denoised, Drawing, Folder, Loop, Row, Version, encode, picture, shortened,
};
use hgc::unstable::plan::parameter::{SOLVER, Solver, Value};
use hgc::unstable::plan::policy::Policy;
use hgc::unstable::plan::{Plan, choose};
use hgc::unstable::sampler::{Config, Method};
use image::RgbImage;
use serde::Serialize;

use super::Outcome;
use super::args::{Format, finite, table};
use super::engine::EngineArgs;
use super::plan::Told;
use super::terminal::{print, print_json, warn};
use sheet::sheet;
use work::Work;

/// Options of `hgc run`.
#[derive(clap::Args)]
pub struct Args {
    /// Pipeline folder, original or compiled
    pipeline: PathBuf,
    /// What to draw; may be repeated
    #[arg(long, required_unless_present = "prompts")]
    prompt: Vec<String>,
    /// File with one prompt a line
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// What not to draw
    #[arg(long, default_value = "")]
    negative_prompt: String,
    /// Control image; once for each ControlNet
    #[arg(long, value_name = "IMAGE")]
    control: Vec<PathBuf>,
    /// Strength of the control
    #[arg(long, default_value_t = 1.0, value_parser = finite::<f32>)]
    control_scale: f32,
    /// Picture to write (PNG or JPEG); several get numbers
    #[arg(long, short, value_name = "IMAGE")]
    output: PathBuf,
    /// Denoising steps [default: the plan's, or 20]
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the first picture; the next pictures have the next seeds
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Guidance scale
    #[arg(long, default_value_t = 7.5, value_parser = finite::<f64>)]
    guidance: f64,
    /// Pictures to draw of each prompt, at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    batch: u64,
    /// Width in pixels [default: the control image's, or what the model was trained at]
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=16_384))]
    width: Option<u32>,
    /// Height in pixels [default: as the width]
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=16_384))]
    height: Option<u32>,
    /// ddim, euler, euler-ancestral, dpm++2m or unipc [default: as the scheduler's file says]
    #[arg(long)]
    sampler: Option<Method>,
    /// Run original and cached from the same seeds and write them side by side, with their
    /// difference; an original pipeline is compiled in memory
    #[arg(long)]
    compare: bool,
    /// Policy that --compare compiles an original with, with parameters or without
    /// [default: hgc]
    #[arg(long, value_name = "POLICY[:KEY=VALUE,...]", requires = "compare")]
    policy: Option<String>,
    /// Plan that --compare compiles an original with (see `hgc tune`)
    #[arg(
        long,
        value_name = "FILE",
        requires = "compare",
        conflicts_with = "policy"
    )]
    plan: Option<PathBuf>,
    #[command(flatten)]
    told: Told,
    #[command(flatten)]
    engine: EngineArgs,
    /// Replace existing pictures
    #[arg(long)]
    force: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// One picture that was written.
#[derive(Serialize)]
struct Drawn {
    file: PathBuf,
    prompt: String,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    psnr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssim: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    pictures: Vec<Drawn>,
    steps: usize,
    /// Seconds of all denoising steps; of the cached ones with `--compare`.
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_original: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_up: Option<f64>,
}

/// Says so where a plan was fitted on other generations.
fn warn_beyond_fit(plan: &Plan, sampler: &Config, drawing: &Drawing) {
    let sampler = sampler.method.name();
    if let Some(what) = plan.beyond_fit(sampler, drawing.steps, drawing.guidance) {
        warn(format_args!(
            "the plan was fitted on {what}; pictures may be further from the original's than it says"
        ));
    }
}

/// Whether a formula that tells kinds of samplers apart planned for another kind than this one's, and no
/// schedule was added for this one.
fn has_other_solver(plan: &Plan, sampler: &Config, steps: usize) -> bool {
    let policy = plan.policy.parse::<&'static dyn Policy>();
    let tells = policy.is_ok_and(|p| p.uses().iter().any(|u| u.parameter.name == SOLVER.name));
    let told = plan.parameters.get(SOLVER.name);
    let planned = told.and_then(|text| SOLVER.read(text).ok());
    let planned = match planned {
        Some(Value::Solver(solver)) => solver,
        _ => Solver::default(),
    };
    let name = sampler.method.name();
    let chosen = choose(&plan.schedules, steps, Some(name)).and_then(|i| plan.schedules.get(i));
    let served = chosen.is_some_and(|s| s.is_made_for(Some(name)));
    tells && planned != sampler.method.solver() && !served
}

/// Runs `hgc run`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let folder = Folder::read(&args.pipeline)?;
    for note in &folder.notes {
        warn(note);
    }
    let prompts = args.read_prompts()?;
    let files = args.outputs(prompts.len())?;
    let controls: Vec<RgbImage> = args
        .control
        .iter()
        .map(|p| picture::read(p))
        .collect::<Result<_, _>>()?;
    let settings = args.settings(&folder, &controls)?;
    args.check(&folder, &settings)?;
    let sampler = folder.sampler(args.sampler)?;
    let engine = args.engine.start()?;
    let options = SessionOptions::on(args.engine.ep, &args.engine.ep_option);
    if let Some(class) = &sampler.stands_for {
        warn(super::args::stands_for(class, sampler.method));
    }
    let cached = args.compare || folder.plan.as_ref().is_some_and(Plan::changes_anything);
    if cached && sampler.method == Method::EulerAncestral {
        warn(
            "an ancestral sampler draws new noise on every step, which caches fit \
             badly: --sampler euler keeps pictures close",
        );
    }
    if let Some(plan) = &folder.plan {
        args.engine.warn_of(&folder.path);
        warn_beyond_fit(plan, &sampler, &settings);
        if has_other_solver(plan, &sampler, settings.steps) {
            let name = sampler.method.name();
            warn(format_args!(
                "compiled for another kind of sampler than {name}, which wants other refreshes: `hgc \
                 schedule add {} --steps {} --sampler {name}` adds a schedule for it",
                folder.path.display(),
                settings.steps
            ));
        }
    }
    // Encoders, networks and decoder are not in memory together, but where prompts follow.
    let mut texts = prompts.clone();
    texts.push(args.negative_prompt.clone());
    let encoded = encode(engine, &folder, &options, &texts, prompts.len())?;
    encoded.warnings.iter().for_each(warn);
    let batches = args.batches(&encoded, prompts.len(), &controls, &settings);
    let work = Work {
        engine,
        folder: &folder,
        options: &options,
        settings: &settings,
        batches: &batches,
    };
    let mut out = Written {
        args,
        prompts: &prompts,
        files: files.into_iter(),
        report: Report::new(settings.steps),
    };
    if args.compare {
        let original = Loop::open(
            engine,
            &folder,
            sampler.clone(),
            Version::Original,
            &options,
        )?;
        let original = work.run(original, "original")?;
        let cached = work.cached(args, sampler)?;
        let (first, second) = (work.decode(&original)?, work.decode(&cached)?);
        out.report.compared(seconds(&original), seconds(&cached));
        let count = batches[0].rows.len();
        for (index, pair) in first.iter().zip(&second).enumerate() {
            out.write(
                (index / count, &batches[index / count].rows[index % count]),
                pair.0,
                Some(pair.1),
            )?;
        }
    } else {
        let networks = Loop::open(engine, &folder, sampler, Version::AsIs, &options)?;
        let mut prompt = 0;
        work.each(networks, "denoise", &mut |denoised| {
            let denoised = [denoised];
            out.report.seconds += seconds(&denoised);
            for (row, picture) in batches[prompt].rows.iter().zip(work.decode(&denoised)?) {
                out.write((prompt, row), &picture, None)?;
            }
            prompt += 1;
            Ok(())
        })?;
    }
    let report = out.report;
    match args.format {
        Format::Json => print_json("hgc.run.v1", &[report])?,
        Format::Table => print(&render(&report))?,
    }
    Ok(Outcome::Done)
}

/// Pictures as they are written, with what is reported of them.
struct Written<'a> {
    args: &'a Args,
    prompts: &'a [String],
    files: std::vec::IntoIter<PathBuf>,
    report: Report,
}

impl Written<'_> {
    /// Writes a picture of a prompt, or original and cached side by side.
    fn write(
        &mut self,
        (prompt, row): (usize, &Row),
        own: &RgbImage,
        cached: Option<&RgbImage>,
    ) -> anyhow::Result<()> {
        let Some(file) = self.files.next() else {
            bail!("the pipeline drew more pictures than it was asked for")
        };
        let force = self.args.force;
        match cached {
            Some(cached) => {
                let shown = sheet(&self.panels(row, own, cached));
                picture::write(&shown, &file, force)?;
            }
            None => picture::write(own, &file, force)?,
        }
        self.report.pictures.push(Drawn {
            prompt: self.prompts[prompt].clone(),
            seed: row.seed,
            file,
            psnr: cached.map(|c| picture::psnr(own, c)),
            ssim: cached.map(|c| picture::ssim(own, c)),
        });
        Ok(())
    }
}

impl Written<'_> {
    /// Control maps, original, cached and their difference, with what is to be known of each.
    fn panels(&self, row: &Row, own: &RgbImage, cached: &RgbImage) -> Vec<(String, RgbImage)> {
        let mut panels: Vec<(String, RgbImage)> = row
            .images
            .iter()
            .map(|map| ("control".to_owned(), map.clone()))
            .collect();
        let faster = self.report.speed_up.unwrap_or(1.0);
        panels.push(("original".to_owned(), own.clone()));
        panels.push((format!("cached {faster:.2}x"), cached.clone()));
        let psnr = picture::psnr(own, cached);
        let difference = picture::difference(own, cached);
        panels.push((format!("x4, {psnr:.1} dB"), difference));
        panels
    }
}

impl Report {
    fn new(steps: usize) -> Self {
        Self {
            pictures: Vec::new(),
            steps,
            seconds: 0.0,
            seconds_original: None,
            speed_up: None,
        }
    }

    fn compared(&mut self, original: f64, cached: f64) {
        self.seconds = cached;
        self.seconds_original = Some(original);
        self.speed_up = Some(original / cached.max(1e-9));
    }
}

fn seconds(denoised: &[Denoised]) -> f64 {
    denoised.iter().flat_map(|d| &d.seconds).sum()
}

fn render(report: &Report) -> String {
    let compared = report.speed_up.is_some();
    let mut header = vec!["picture", "seed"];
    if compared {
        header.extend(["PSNR", "SSIM"]);
    }
    header.push("prompt");
    let mut rows = table(&header, &[1, 2, 3][..if compared { 3 } else { 1 }]);
    for drawn in &report.pictures {
        let mut row = vec![display(&drawn.file), drawn.seed.to_string()];
        if let (Some(psnr), Some(ssim)) = (drawn.psnr, drawn.ssim) {
            row.extend([format!("{psnr:.2} dB"), format!("{ssim:.4}")]);
        }
        row.push(shortened(&drawn.prompt));
        rows.add_row(row);
    }
    let mut text = format!("{rows}\n\n");
    let steps = report.steps;
    match (report.seconds_original, report.speed_up) {
        (Some(original), Some(speed_up)) => text.push_str(&format!(
            "{steps} steps: {original:.2} s -> {:.2} s, {speed_up:.2} times faster\n\
             pictures show the control, original, cached and their difference (x4)\n",
            report.seconds
        )),
        _ => text.push_str(&format!("{steps} steps: {:.2} s\n", report.seconds)),
    }
    text
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
