//! `hgc compile`: rewrite a UNet and its ControlNets.

use std::path::PathBuf;

use hgc::compile::{Inputs, Planned, Project};
use serde::Serialize;

use super::Outcome;
use super::args::{Format, print, progress_bar};
use super::plan::{GateReport, ModelArgs, PolicyArgs, Totals, found_nothing, gates, summary};
use super::sizes::{Known, SizeArgs};

/// Options of `hgc compile`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    sizes: SizeArgs,
    /// Folder for the compiled models and plan.toml
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Replace existing files (never an input)
    #[arg(long)]
    force: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    policy: String,
    steps: usize,
    files: Vec<String>,
    totals: Totals,
    gates: Vec<GateReport>,
    refused: Vec<RefusalReport>,
}

#[derive(Serialize)]
struct RefusalReport {
    model: String,
    candidate: String,
    reason: String,
}

/// Runs `hgc compile`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let inputs = Inputs::read(&args.models.model, &args.models.controlnet)?;
    let known = args.sizes.of(&args.models.model)?;
    let project = Project::new(&inputs, known.sizes)?;
    let planned = args.policy.plan(&project)?;
    if found_nothing(&planned.plan) {
        for model in &planned.plan.models {
            for refusal in &model.refusals {
                eprintln!(
                    "hgc: {}: refused {}: {}",
                    model.name, refusal.candidate, refusal.reason
                );
            }
        }
        eprintln!("hgc: the policy found no site to cache; nothing was written");
        return Ok(Outcome::No);
    }
    let bar = progress_bar("copying weights {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
    let mut report_progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let compiled = project.compile(&planned)?;
    let files = compiled.write(&args.output, args.force, &mut report_progress)?;
    bar.finish_and_clear();
    let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    let refused = planned.plan.models.iter().flat_map(|m| {
        m.refusals.iter().map(|r| RefusalReport {
            model: m.name.clone(),
            candidate: r.candidate.clone(),
            reason: r.reason.clone(),
        })
    });
    let report = Report {
        policy: planned.plan.policy.clone(),
        steps: planned.plan.steps,
        totals: Totals::of(&planned),
        gates: gates(&planned.plan),
        refused: refused.collect(),
        files,
    };
    print(&match args.format {
        Format::Json => serde_json::to_string_pretty(&report)?,
        Format::Table => render(&report, &planned, &known),
    })?;
    Ok(Outcome::Done)
}

fn render(report: &Report, planned: &Planned, known: &Known) -> String {
    let mut lines: Vec<String> = vec![known.to_string()];
    lines.extend(report.refused.iter().map(|r| {
        let (model, candidate, reason) = (&r.model, &r.candidate, &r.reason);
        format!("{model}: refused {candidate}: {reason}")
    }));
    lines.extend(report.gates.iter().map(ToString::to_string));
    lines.push(summary(planned).trim_end().to_owned());
    lines.extend(report.files.iter().map(|file| format!("wrote {file}")));
    lines.join("\n")
}
