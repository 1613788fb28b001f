//! `hgc bench`: time the denoising loop of original and compiled models.

use std::path::PathBuf;

use anyhow::bail;
use comfy_table::Table;
use hgc::unstable::compile::models_of;
use hgc::unstable::measure::bench::{BenchOptions, FileReport, Timings, bench};
use hgc::unstable::measure::pairs::plan_of;

use super::Outcome;
use super::args::{Format, finite, macs, table};
use super::engine::EngineArgs;
use super::progress::Progress;
use super::sizes::SizeArgs;
use super::terminal::{print, print_json};

/// Options of `hgc bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Original models (files, or one pipeline folder), then the folder that `hgc compile` wrote
    #[arg(required = true, num_args = 2.., value_name = "ORIGINAL... REWRITTEN_DIR")]
    paths: Vec<PathBuf>,
    /// Steps to run; all of the plan where not given
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the made-up inputs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Memory in GB that sessions may take; more than that runs file by file
    #[arg(long, value_name = "GB", value_parser = finite::<f64>)]
    memory: Option<f64>,
    /// Print every step, not the medians of each kind
    #[arg(long)]
    every_step: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs `hgc bench`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let Some((folder, originals)) = args.paths.split_last() else {
        bail!("no models given")
    };
    // A pipeline folder stands for the models in it.
    let originals = originals.iter().map(|path| models_of(path));
    let originals: Vec<_> = originals.collect::<Result<_, _>>()?;
    // A folder without a plan is refused before the engine starts.
    plan_of(folder)?;
    args.engine.warn_of(folder);
    let engine = args.engine.start()?;
    let settings = BenchOptions {
        sizes: args.sizes.of(args.paths.first().unwrap_or(folder))?.sizes,
        steps: args.steps,
        seed: args.seed,
        provider: args.engine.ep,
        provider_options: args.engine.ep_option.clone(),
        memory: args.memory.map(|gb| (gb * 1e9) as u64),
    };
    let bar = Progress::new("timing", "{msg:12} {bar:30} {pos}/{len} runs {eta}");
    let report = bench(
        engine,
        &originals.concat(),
        folder,
        &settings,
        &mut |done, total, name| {
            bar.set_length(total);
            bar.set_message(name);
            bar.set_position(done);
        },
    )?;
    bar.finish();
    match args.format {
        Format::Json => print_json("hgc.bench.v1", std::slice::from_ref(&report))?,
        Format::Table => print(&render(&report, args.every_step))?,
    }
    Ok(if report.macs_match == Some(false) {
        Outcome::No
    } else {
        Outcome::Done
    })
}

fn render(report: &Timings, every: bool) -> String {
    let mut text = String::new();
    for file in &report.files {
        let rows = if every { steps(file) } else { kinds(file) };
        text.push_str(&format!("{}\n{rows}\n\n", file.name));
    }
    if !report.interleaved {
        text.push_str("the models do not fit in memory together; each file ran by itself\n");
    }
    text.push_str(&format!(
        "{} steps: {:.2} s -> {:.2} s, {:.2} times faster; MACs predict {:.2} times ({:.0} % of it reached)\n",
        report.steps,
        report.seconds_original,
        report.seconds_rewritten,
        report.speed_up,
        report.speed_up_macs,
        100.0 * report.efficiency
    ));
    match report.macs_match {
        Some(true) => text.push_str("on every step the MACs that ran are those of the plan\n"),
        Some(false) => {
            text.push_str("the MACs that ran are NOT those of the plan; see --every-step\n")
        }
        None => {}
    }
    text
}

/// A row a kind.
fn kinds(file: &FileReport) -> Table {
    let header = [
        "kind",
        "steps",
        "original",
        "compiled",
        "ratio",
        "MACs of original",
    ];
    let mut rows = table(&header, &[1, 2, 3, 4, 5]);
    for kind in file.by_kind() {
        rows.add_row([
            kind.kind.clone(),
            kind.count.to_string(),
            format!("{:.3} s", kind.original),
            format!("{:.3} s", kind.rewritten),
            format!("{:.2}", kind.ratio),
            format!("{:.1} %", 100.0 * kind.share),
        ]);
    }
    rows
}

/// A row a step.
fn steps(file: &FileReport) -> Table {
    let header = [
        "step",
        "kind",
        "original",
        "compiled",
        "ratio",
        "MACs",
        "of original",
        "executed",
    ];
    let mut rows = table(&header, &[0, 2, 3, 4, 5, 6]);
    for step in &file.steps {
        #[allow(clippy::cast_precision_loss)]
        let share = step.macs_planned as f64 / (file.macs_original as f64).max(1.0);
        let executed = match step.macs_executed {
            Some(n) if n == step.macs_planned => "as planned".to_owned(),
            Some(n) => macs(n),
            None => "-".to_owned(),
        };
        rows.add_row([
            step.step.to_string(),
            step.kind.clone(),
            format!("{:.3} s", step.original),
            format!("{:.3} s", step.rewritten),
            format!("{:.2}", step.rewritten / step.original.max(1e-9)),
            macs(step.macs_planned),
            format!("{:.1} %", 100.0 * share),
            executed,
        ]);
    }
    rows
}
