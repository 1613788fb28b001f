//! `hgc run`: from prompts and control images to pictures.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hgc::compile::{Inputs, Session};
use hgc::engine::{Engine, SessionOptions};
use hgc::pipeline::{
    Batch, Denoised, Encoded, Folder, Loop, PipelineError, Settings, Version, decode, encode,
    picture,
};
use hgc::plan::Plan;
use hgc::plan::policy::{Options, Policy};
use hgc::sampler::{Config, Method};
use image::RgbImage;
use serde::Serialize;

use super::Outcome;
use super::args::{Format, progress_bar, table};
use super::engine::EngineArgs;

/// Steps where neither the command line nor a plan says how many.
const DEFAULT_STEPS: usize = 20;
/// Pixels that one value covers at the lowest level of a UNet of four levels: graphs with
/// skip connections want whole ones.
const USUAL_MULTIPLE: u32 = 64;

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
    #[arg(long, default_value_t = 1.0)]
    control_scale: f32,
    /// Share of the steps after which control switches on [default: the plan's, or 0]
    #[arg(long)]
    control_start: Option<f64>,
    /// Share of the steps after which control switches off [default: the plan's, or 1]
    #[arg(long)]
    control_end: Option<f64>,
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
    #[arg(long, default_value_t = 7.5)]
    guidance: f64,
    /// Pictures to draw of each prompt, at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    batch: u64,
    /// Width in pixels [default: the control image's, or what the model was trained at]
    #[arg(long)]
    width: Option<u32>,
    /// Height in pixels [default: as the width]
    #[arg(long)]
    height: Option<u32>,
    /// ddim, euler, euler-ancestral, dpm++2m or unipc [default: as the scheduler's file says]
    #[arg(long)]
    sampler: Option<Method>,
    /// Run original and cached from the same seeds and write them side by side, with their
    /// difference; an original pipeline is compiled in memory
    #[arg(long)]
    compare: bool,
    /// Policy that --compare compiles an original with
    #[arg(long, default_value = "hgc", requires = "compare")]
    policy: Policy,
    #[command(flatten)]
    engine: EngineArgs,
    /// Replace existing pictures
    #[arg(long)]
    force: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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

/// Runs `hgc run`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let folder = Folder::read(&args.pipeline)?;
    let prompts = args.read_prompts()?;
    let files = args.outputs(prompts.len())?;
    let controls: Vec<RgbImage> = args
        .control
        .iter()
        .map(|p| picture::read(p))
        .collect::<Result<_, _>>()?;
    let settings = args.settings(&folder, &controls)?;
    let sampler = args.sampler(&folder)?;
    let engine = args.engine.start()?;
    let options = SessionOptions::on(args.engine.ep, &args.engine.ep_option);
    // Encoders, networks and decoder are never in memory together.
    let mut texts = prompts.clone();
    texts.push(args.negative_prompt.clone());
    let encoded = encode(engine, &folder, &options, &texts)?;
    encoded
        .warnings
        .iter()
        .for_each(|w| eprintln!("hgc: warning: {w}"));
    let batches = args.batches(&encoded, prompts.len(), &controls, &settings)?;
    let work = Work {
        engine,
        folder: &folder,
        options: &options,
        settings: &settings,
        batches: &batches,
    };
    let (first, second) = if args.compare {
        let original = Loop::open(
            engine,
            &folder,
            sampler.clone(),
            Version::Original,
            &options,
        )?;
        let original = work.run(original, "original")?;
        (original, Some(work.cached(args, sampler)?))
    } else {
        let own = Loop::open(engine, &folder, sampler, Version::AsIs, &options)?;
        (work.run(own, "denoise")?, None)
    };
    let pictures = work.decode(&first)?;
    let others = second.as_ref().map(|s| work.decode(s)).transpose()?;
    let mut report = Report {
        pictures: Vec::new(),
        steps: settings.steps,
        seconds: seconds(second.as_ref().unwrap_or(&first)),
        seconds_original: second.as_ref().map(|_| seconds(&first)),
        speed_up: second
            .as_ref()
            .map(|s| seconds(&first) / seconds(s).max(1e-9)),
    };
    for (index, (own, file)) in pictures.iter().zip(files).enumerate() {
        let mut drawn = Drawn {
            prompt: prompts[index / batches[0].count].clone(),
            seed: settings
                .seed
                .wrapping_add((index % batches[0].count) as u64),
            file,
            psnr: None,
            ssim: None,
        };
        match others.as_ref().and_then(|o| o.get(index)) {
            Some(other) => {
                drawn.psnr = Some(picture::psnr(own, other));
                drawn.ssim = Some(picture::ssim(own, other));
                picture::write(&picture::side_by_side(own, other), &drawn.file)?;
            }
            None => picture::write(own, &drawn.file)?,
        }
        report.pictures.push(drawn);
    }
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        Format::Table => write!(out, "{}", render(&report))?,
    }
    Ok(Outcome::Done)
}

impl Args {
    fn read_prompts(&self) -> anyhow::Result<Vec<String>> {
        let mut prompts = self.prompt.clone();
        if let Some(file) = &self.prompts {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the prompts {}", file.display()))?;
            let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
            prompts.extend(lines.map(str::to_owned));
        }
        if prompts.is_empty() {
            bail!("no prompt given; use --prompt, or a file with one a line")
        }
        Ok(prompts)
    }

    /// A file for every picture; none that exists without `--force`.
    fn outputs(&self, prompts: usize) -> anyhow::Result<Vec<PathBuf>> {
        let count = prompts * usize::try_from(self.batch)?;
        let stem = self
            .output
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let Some(ending) = self.output.extension().map(|e| e.to_string_lossy()) else {
            bail!(
                "{}: give a name that ends in .png or .jpg",
                self.output.display()
            )
        };
        if image::ImageFormat::from_extension(ending.as_ref()).is_none_or(|f| !f.can_write()) {
            bail!(
                "{}: pictures are written as .png or .jpg",
                self.output.display()
            )
        }
        let named = |i| match count {
            1 => self.output.clone(),
            _ => self.output.with_file_name(format!("{stem}-{i}.{ending}")),
        };
        let files: Vec<PathBuf> = (0..count).map(named).collect();
        let folder = self.output.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(missing) = folder.filter(|p| !p.is_dir()) {
            bail!("{}: no such folder to write to", missing.display())
        }
        if let Some(file) = files.iter().find(|f| f.exists() && !self.force) {
            bail!("{} exists; use --force to replace it", file.display())
        }
        Ok(files)
    }

    fn sampler(&self, folder: &Folder) -> anyhow::Result<Config> {
        let file = &folder.scheduler;
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let config = Config::parse(&text, self.sampler);
        Ok(config.map_err(|source| PipelineError::Scheduler {
            file: file.clone(),
            source,
        })?)
    }

    fn settings(&self, folder: &Folder, controls: &[RgbImage]) -> anyhow::Result<Settings> {
        let plan = folder.plan.as_ref();
        let step = u32::try_from(folder.down_sampling).unwrap_or(8);
        let trained = folder.sample_size.and_then(|s| u32::try_from(s).ok());
        let trained = trained.map_or(512, |s| s.saturating_mul(step));
        let round = |side: u32| (side / step * step).max(step);
        let (width, height) = match (self.width, self.height, controls.first()) {
            (Some(w), h, _) => (w, h.unwrap_or(w)),
            (None, Some(h), _) => (h, h),
            (None, None, Some(c)) => (round(c.width()), round(c.height())),
            (None, None, None) => (trained, trained),
        };
        if width % USUAL_MULTIPLE != 0 || height % USUAL_MULTIPLE != 0 {
            eprintln!(
                "hgc: warning: {width}x{height} is no multiple of {USUAL_MULTIPLE}, which most \
                 exported UNets need"
            );
        }
        for (control, file) in controls.iter().zip(&self.control) {
            if control.dimensions() != (width, height) {
                let (w, h) = control.dimensions();
                let file = file.display();
                eprintln!("hgc: warning: {file} is {w}x{h}; resized to {width}x{height}");
            }
        }
        Ok(Settings {
            steps: self
                .steps
                .or(plan.map(|p| p.steps))
                .unwrap_or(DEFAULT_STEPS),
            guidance: self.guidance,
            seed: self.seed,
            control_scale: self.control_scale,
            control_window: (
                of_plan(plan, "control-start", self.control_start, 0.0)?,
                of_plan(plan, "control-end", self.control_end, 1.0)?,
            ),
            size: (width, height),
        })
    }

    fn batches(
        &self,
        encoded: &Encoded,
        prompts: usize,
        controls: &[RgbImage],
        settings: &Settings,
    ) -> anyhow::Result<Vec<Batch>> {
        let (width, height) = settings.size;
        let images: Vec<RgbImage> = controls
            .iter()
            .map(|c| picture::resized(c, width, height))
            .collect();
        let count = usize::try_from(self.batch)?;
        let all = prompts + 1;
        let batch = |i: usize| Batch {
            prompt: encoded.states_of(i).to_vec(),
            negative: encoded.states_of(prompts).to_vec(),
            text_shape: [encoded.tokens, encoded.width],
            pooled: [
                encoded.pooled_of(i, all).to_vec(),
                encoded.pooled_of(prompts, all).to_vec(),
            ],
            images: images.clone(),
            count,
        };
        Ok((0..prompts).map(batch).collect())
    }
}

/// A setting that a compiled pipeline has fixed.
fn of_plan(plan: Option<&Plan>, key: &str, given: Option<f64>, usual: f64) -> anyhow::Result<f64> {
    let planned = plan.map(|p| {
        p.parameters
            .get(key)
            .and_then(|v| v.parse().ok())
            .unwrap_or(usual)
    });
    match (planned, given) {
        (Some(planned), Some(given)) if (planned - given).abs() > 1e-9 => bail!(
            "the pipeline was compiled with --{key} {planned}; compile again with --{key} {given}"
        ),
        (planned, given) => Ok(given.or(planned).unwrap_or(usual)),
    }
}

/// What all versions of a pipeline are run on.
struct Work<'w> {
    engine: &'static Engine,
    folder: &'w Folder,
    options: &'w SessionOptions,
    settings: &'w Settings,
    batches: &'w [Batch],
}

impl Work<'_> {
    fn run(&self, mut networks: Loop, title: &str) -> anyhow::Result<Vec<Denoised>> {
        let bar = progress_bar("{bar:30} {pos}/{len} {msg} {eta}");
        bar.set_length((self.settings.steps * self.batches.len()) as u64);
        bar.set_message(title.to_owned());
        let plan = networks.plan().cloned();
        let mut results = Vec::new();
        for batch in self.batches {
            let mut told = |step: usize, seconds: f64| {
                let gates = plan.as_ref().map(|p| pattern(p, step)).unwrap_or_default();
                bar.set_message(format!("{title} {seconds:.2} s {gates}"));
                bar.inc(1);
            };
            results.push(networks.run(batch, self.settings, &mut told)?);
        }
        bar.finish_and_clear();
        Ok(results)
    }

    /// The compiled pipeline as it is, or an original compiled in memory.
    fn cached(&self, args: &Args, sampler: Config) -> anyhow::Result<Vec<Denoised>> {
        if self.folder.plan.is_some() {
            let (engine, folder, options) = (self.engine, self.folder, self.options);
            let networks = Loop::open(engine, folder, sampler, Version::AsIs, options)?;
            return self.run(networks, "cached");
        }
        let inputs = Inputs::read(&self.folder.path, &[])?;
        let (width, height) = self.settings.size;
        let step = self.folder.down_sampling as u64;
        let batch = &self.batches[0];
        let sizes = hgc::analysis::shapes::Sizes {
            batch: 2 * batch.count as u64,
            height: u64::from(height) / step,
            width: u64::from(width) / step,
            tokens: batch.text_shape[0] as u64,
        };
        let session = Session::new(&inputs, sizes)?;
        let mut options = Options::new(self.settings.steps);
        (options.control_start, options.control_end) = self.settings.control_window;
        let planned = session.plan(args.policy, &options)?;
        let made = (&inputs, &session, &planned);
        let networks = Loop::compiled(self.engine, self.folder, sampler, made, self.options)?;
        self.run(networks, "cached")
    }

    fn decode(&self, denoised: &[Denoised]) -> anyhow::Result<Vec<RgbImage>> {
        let latents: Vec<_> = denoised.iter().map(|d| d.latents.clone()).collect();
        Ok(decode(self.engine, self.folder, self.options, &latents)?)
    }
}

fn seconds(denoised: &[Denoised]) -> f64 {
    denoised.iter().flat_map(|d| &d.seconds).sum()
}

/// One sign a gate: `R` where it refreshes on a step.
fn pattern(plan: &Plan, step: usize) -> String {
    let gates = plan.models.iter().flat_map(|m| &m.gates);
    gates
        .map(|g| if g.schedule.refreshes(step) { 'R' } else { '.' })
        .collect()
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
        row.push(drawn.prompt.clone());
        rows.add_row(row);
    }
    let mut text = format!("{rows}\n\n");
    let steps = report.steps;
    match (report.seconds_original, report.speed_up) {
        (Some(original), Some(speed_up)) => text.push_str(&format!(
            "{steps} steps: {original:.2} s -> {:.2} s, {speed_up:.2} times faster\n\
             pictures show original, cached and their difference (x4)\n",
            report.seconds
        )),
        _ => text.push_str(&format!("{steps} steps: {:.2} s\n", report.seconds)),
    }
    text
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
