//! `hgc compile`: rewrite a UNet and its ControlNets.

use std::path::PathBuf;

use hgc::unstable::compile::{Compiled, OutputForm, Planned, Project};
use hgc::unstable::measure::verify::{Verdict, VerifyOptions};
use serde::Serialize;

use super::Outcome;
use super::args::Format;
use super::engine::EngineArgs;
use super::plan::{GateReport, ModelArgs, PolicyArgs, Totals, gates, others, totals_table};
use super::progress::Progress;
use super::sizes::{Known, SizeArgs};
use super::terminal::{note, print, print_json, warn};
use super::verify::{self, prove};

const EXAMPLES: &str = "\
Examples:
  hgc compile sd15-onnx --steps 20 -o sd15-cached
  hgc compile unet.onnx --controlnet cn.onnx --steps 30 --policy deepcache:interval=3 -o out
  hgc compile sd15-onnx --plan plan.toml -o out    a plan of `hgc plan -o`, edited";

/// Options of `hgc compile`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    sizes: SizeArgs,
    /// Folder for the compiled models and plan.toml
    #[arg(long, short, value_name = "DIR", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// How to write them: gated (one file, kinds of evaluations as branches) or variants (a file a
    /// kind, without control flow) [default: as the target needs it]
    #[arg(long, value_enum)]
    form: Option<FormArg>,
    /// Leave sizes of variants as open as the original has them; else those that are told or
    /// configured are written into them
    #[arg(long)]
    dynamic: bool,
    /// Do everything but write
    #[arg(long, conflicts_with = "verify")]
    dry_run: bool,
    /// Prove what was written, as `hgc verify` does
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    engine: EngineArgs,
    /// Replace existing files (never an input)
    #[arg(long)]
    force: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Forms of compiled models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormArg {
    Gated,
    Variants,
}

impl Args {
    fn form(&self) -> OutputForm {
        let variants = OutputForm::Variants {
            fixed: !self.dynamic,
        };
        match (self.form, self.policy.target.form()) {
            (Some(FormArg::Gated), _) | (None, OutputForm::Gated) => OutputForm::Gated,
            (Some(FormArg::Variants), _) | (None, OutputForm::Variants { .. }) => variants,
        }
    }
}

#[derive(Serialize)]
struct Report {
    policy: String,
    steps: usize,
    /// Files that were written; that would be, in a dry run.
    files: Vec<String>,
    totals: Totals,
    gates: Vec<GateReport>,
    refused: Vec<RefusalReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Vec<Verdict>>,
}

#[derive(Serialize)]
struct RefusalReport {
    model: String,
    candidate: String,
    reason: String,
}

/// Runs `hgc compile`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let inputs = args.models.read()?;
    let known = args.sizes.of(&args.models.model)?;
    let project = Project::new(&inputs, known.sizes)?;
    let planned = args.policy.plan(&project, &args.models.model)?;
    if planned.plan.found_nothing() {
        for refusal in refusals(&planned) {
            note(format_args!("{refusal}"));
        }
        note("the policy found no site to cache; nothing was written");
        return Ok(Outcome::No);
    }
    let compiled = project.compile_as(&planned, args.form())?;
    let files = match &args.output {
        Some(folder) if !args.dry_run => write(&compiled, folder, args.force)?,
        _ => Vec::new(),
    };
    let verified = match args.verify {
        true => Some(args.prove(&compiled, &known)?),
        false => None,
    };
    let pass = verified.iter().flatten().all(|v| v.pass);
    let named = if args.dry_run {
        let folder = args.output.clone().unwrap_or_default();
        let models = compiled.models.iter();
        models.map(|m| folder.join(m.destination())).collect()
    } else {
        files
    };
    let report = Report {
        policy: planned.plan.policy.clone(),
        steps: planned.plan.steps,
        totals: Totals::of(&planned),
        gates: gates(&planned.plan),
        refused: refusals(&planned),
        files: named.iter().map(|f| f.display().to_string()).collect(),
        verified,
    };
    match args.format {
        Format::Json => print_json("hgc.compile.v1", &[report])?,
        Format::Table => print(&render(&report, &planned, &known, args.dry_run))?,
    }
    Ok(if pass { Outcome::Done } else { Outcome::No })
}

/// Writes all files, and shows how far it is.
fn write(
    compiled: &Compiled,
    folder: &std::path::Path,
    force: bool,
) -> anyhow::Result<Vec<PathBuf>> {
    let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    let bar = Progress::new("copying weights", template);
    let mut told = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let files = compiled.write(folder, force, &mut told)?;
    bar.finish();
    Ok(files)
}

impl Args {
    /// Proves every model that was written.
    fn prove(&self, compiled: &Compiled, known: &Known) -> anyhow::Result<Vec<Verdict>> {
        let folder = self.output.clone().unwrap_or_default();
        let pairs: Vec<_> = compiled
            .models
            .iter()
            .map(|m| (m.path.clone(), folder.join(m.destination())))
            .collect();
        let settings = VerifyOptions {
            sizes: known.sizes,
            seed: 0,
            provider: self.engine.ep,
            provider_options: self.engine.ep_option.clone(),
        };
        let verdicts = prove(self.engine.start()?, &pairs, &settings)?;
        if verdicts.iter().any(|v| !v.pass) {
            warn("a proof failed: do not use what was written, and please report it");
        }
        Ok(verdicts)
    }
}

fn refusals(planned: &Planned) -> Vec<RefusalReport> {
    let of_model = planned.plan.models.iter().flat_map(|m| {
        m.refusals.iter().map(|r| RefusalReport {
            model: m.name.clone(),
            candidate: r.candidate.clone(),
            reason: r.reason.clone(),
        })
    });
    of_model.collect()
}

impl std::fmt::Display for RefusalReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: refused {}: {}",
            self.model, self.candidate, self.reason
        )
    }
}

fn render(report: &Report, planned: &Planned, known: &Known, dry_run: bool) -> String {
    let mut lines: Vec<String> = vec![known.to_string()];
    lines.extend(report.refused.iter().map(ToString::to_string));
    lines.extend(report.gates.iter().map(ToString::to_string));
    lines.extend(others(&planned.plan));
    lines.push(format!("\n{}\n", totals_table(planned)));
    let verdicts = report.verified.iter().flatten();
    lines.extend(verdicts.map(|v| verify::render(v).trim_end().to_owned()));
    let word = if dry_run { "would write" } else { "wrote" };
    lines.extend(report.files.iter().map(|file| format!("{word} {file}")));
    lines.join("\n")
}
