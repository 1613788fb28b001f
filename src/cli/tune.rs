//! `hgc tune`: the plan that suits one pipeline, found by drawing with it.

use std::path::PathBuf;
use std::time::Instant;

use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::SessionOptions;
use hgc::unstable::eval::{EvalOptions, batches};
use hgc::unstable::onnx::Transaction;
use hgc::unstable::tune::{Goal, Tuned, Tuner, TunerOptions};
use serde::Serialize;

use super::Outcome;
use super::args::{Format, share};
use super::engine::EngineArgs;
use super::plan::Told;
use super::progress::Progress;
use super::scenes::SceneArgs;
use super::terminal::{note, print, print_json, warn};

const EXAMPLES: &str = "\
Examples:
  hgc tune sd15-onnx --prompt \"a red house\" --control map.png --steps 20 -o plan.toml
  hgc tune sd15-onnx --set scenes.json --steps 20 --sampler dpm++2m --save 0.5 -o plan.toml
  hgc compile sd15-onnx --plan plan.toml -o sd15-cached";

/// Options of `hgc tune`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Pipeline folder, not compiled
    pipeline: PathBuf,
    #[command(flatten)]
    scenes: SceneArgs,
    /// Denoising steps
    #[arg(long, value_name = "N")]
    steps: usize,
    /// Share of the MACs of weight operators to save
    #[arg(long, value_name = "SHARE", default_value_t = 0.65, value_parser = share)]
    save: f64,
    /// What the search may cost, in generations of the original
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
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Serialize)]
struct Report {
    plan: PathBuf,
    steps: usize,
    sampler: String,
    pictures: usize,
    /// Share of the MACs of weight operators that is saved.
    saved: f64,
    /// Signal-to-noise ratio of the final latents to those of the original, dB.
    signal: f64,
    /// That of the best formula at the same budget.
    formula: f64,
    /// Schedules that were drawn.
    runs: usize,
    seconds: f64,
}

/// Runs `hgc tune`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let scenes = &args.scenes;
    let folder = scenes.folder(&args.pipeline, "tune compiles it itself")?;
    let mut transaction = Transaction::new(args.force);
    transaction.add_bytes(&args.output, b"")?;
    drop(transaction);
    let set = scenes.read_set(Some(args.count))?;
    let drawing = scenes.drawing(args.steps, &folder, &set, &args.told);
    let base = args.engine.target().parameters(drawing.parameters());
    let base = args.told.over(base);
    base.check()?;
    let inputs = Inputs::read(&folder.path, &[])?;
    let sizes = folder.sizes(drawing.size, drawing.rows(), folder.tokens()?);
    let project = Project::new(&inputs, sizes)?;
    let sampler = scenes.sampler(&folder)?;
    let name = sampler.method.name();
    let engine = args.engine.start()?;
    let options = SessionOptions::on(args.engine.ep, &args.engine.ep_option);
    let settings = EvalOptions {
        run: drawing.clone(),
        batch: scenes.batch()?,
        timed: 0,
    };
    let mut told = |text: &str| warn(text);
    let batches = batches(engine, &folder, &options, &set, &settings, &mut told)?;
    note(format_args!(
        "{} pictures at once, {} steps of {name}: the search takes as long as {} such generations \
         with the original",
        set.scenes.len(),
        args.steps,
        args.effort
    ));
    let bar = Progress::new("original", "{bar:30} {pos}/{len} {msg} {eta}");
    bar.set_length(batches.len() as u64);
    #[allow(clippy::cast_precision_loss)]
    let tuner_options = TunerOptions {
        run: drawing,
        effort: args.effort as f64,
        seed: args.search_seed,
    };
    let mut tuner = Tuner::new(
        engine,
        &folder,
        &project,
        sampler,
        &options,
        base,
        &batches,
        tuner_options,
        &mut || bar.inc(1),
    )?;
    const PARTS: f64 = 1000.0;
    bar.set_length(1000);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let found = tuner.tune(Goal::Save(args.save), &mut |spent, best| {
        bar.set_position((PARTS * spent) as u64);
        bar.set_message(format!("{best:.2} dB"));
    })?;
    bar.finish();
    let mut transaction = Transaction::new(args.force);
    for file in inputs.sources.iter().flat_map(|s| s.model.files()) {
        transaction.protect(&file);
    }
    let text = toml::to_string(&found.planned.plan)?;
    transaction.add_bytes(&args.output, text.as_bytes())?;
    transaction.commit()?;
    let report = Report {
        plan: args.output.clone(),
        steps: args.steps,
        sampler: name.to_owned(),
        pictures: set.scenes.len(),
        saved: found.saved,
        signal: found.signal,
        formula: found.start,
        runs: found.runs,
        seconds: start.elapsed().as_secs_f64(),
    };
    match args.format {
        Format::Json => print_json("hgc.tune.v1", &[report])?,
        Format::Table => print(&told_of(&report, &found))?,
    }
    Ok(Outcome::Done)
}

fn told_of(report: &Report, found: &Tuned) -> String {
    let plan = &found.planned.plan;
    let mut text = String::new();
    let guidance = String::from(plan.guidance.schedule.clone());
    text += &format!("{:28}{guidance}\n", "guidance");
    for model in &plan.models {
        for gate in model.gates.iter().filter(|g| g.name != "once") {
            let name = format!("{} {}", model.name, gate.name);
            text += &format!("{name:28}{}\n", gate.schedule);
        }
    }
    text += &format!(
        "\n{:.1} % of the MACs saved; latents {:.2} dB from the original's, by the best formula \
         {:.2} dB ({} schedules, {:.0} s)\nplan: {}",
        100.0 * report.saved,
        report.signal,
        report.formula,
        report.runs,
        report.seconds,
        report.plan.display()
    );
    text
}
