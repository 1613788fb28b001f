//! `hgc plan`: choose what to cache and print it.

mod options;
mod svg;
mod table;
mod totals;

use std::path::PathBuf;

use hgc::unstable::compile::{Planned, Project};
use hgc::unstable::plan::Plan;
use serde::Serialize;

use super::Outcome;
use super::sizes::SizeArgs;
use super::terminal::{note, print, print_json};
pub use options::{ModelArgs, PolicyArgs, Told};
pub use table::others;
pub use totals::{GateReport, Totals, gates, totals_table};

/// Output formats of `plan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// A picture: the network, its gates, and MACs step by step
    Svg,
}

const EXAMPLES: &str = "\
Examples:
  hgc plan sd15-onnx --steps 20
  hgc plan sd15-onnx --steps 20 --policy deepcache:interval=3 --format svg > plan.svg
  hgc plan sd15-onnx --steps 20 -o plan.toml       to edit, then: hgc compile --plan plan.toml";

/// Options of `hgc plan`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub models: ModelArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: PlanFormat,
    /// Write the plan to this TOML file as well, to edit it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// Runs `hgc plan`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let inputs = args.models.read()?;
    let known = args.sizes.of(&args.models.model)?;
    let project = Project::new(&inputs, known.sizes)?;
    let planned = args.policy.plan(&project, &args.models.model)?;
    let nothing = planned.plan.found_nothing();
    if let Some(path) = args.output.as_ref().filter(|_| !nothing) {
        let mut transaction = hgc::unstable::onnx::Transaction::new(args.force);
        inputs
            .sources
            .iter()
            .flat_map(|s| s.model.files())
            .for_each(|f| transaction.protect(&f));
        transaction.add_bytes(path, toml::to_string(&planned.plan)?.as_bytes())?;
        transaction.commit()?;
    }
    match args.format {
        PlanFormat::Table => print(table::render(&planned, &known).trim_end())?,
        PlanFormat::Json => print_json("hgc.plan.v1", &[report(&planned)])?,
        PlanFormat::Svg => print(&svg::draw(&project, &planned))?,
    }
    if nothing {
        note("the policy found no site to cache; nothing was written");
        return Ok(Outcome::No);
    }
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct PlanReport<'p> {
    plan: &'p Plan,
    totals: Totals,
    gates: Vec<GateReport>,
    macs_weights_by_step: Vec<u64>,
    macs_by_step: Vec<u64>,
}

fn report(planned: &Planned) -> PlanReport<'_> {
    let by_step = |pick: &dyn Fn(&hgc::unstable::analysis::macs::Macs) -> u64| -> Vec<u64> {
        let at = |s: usize| {
            planned
                .costs
                .iter()
                .filter_map(|c| c.steps.get(s))
                .map(pick)
                .sum()
        };
        (0..planned.plan.steps).map(at).collect()
    };
    PlanReport {
        plan: &planned.plan,
        totals: Totals::of(planned),
        gates: gates(&planned.plan),
        macs_weights_by_step: by_step(&|m| m.weights),
        macs_by_step: by_step(&|m| m.all),
    }
}
