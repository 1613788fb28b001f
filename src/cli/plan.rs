//! `hgc plan`: choose what to cache and print it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use hgc::compile::{Inputs, Planned, Session};
use hgc::plan::policy::{Options, Policy};
use hgc::plan::schedule::GuidanceStep;
use hgc::plan::{Plan, Prompted, Reuse};
use serde::Serialize;

use super::Outcome;
use super::args::{Format, SizeArgs, bytes, macs, table};

/// Options of `hgc plan`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub models: ModelArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Write the plan to this TOML file as well, to edit it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// The models to work on.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// UNet (an ONNX file) or pipeline folder
    #[arg(value_name = "UNET")]
    pub model: PathBuf,
    /// ControlNet that feeds the UNet; several are planned together
    #[arg(long, value_name = "CN")]
    pub controlnet: Vec<PathBuf>,
}

/// Policy and its parameters, or a plan that was made before.
#[derive(clap::Args)]
pub struct PolicyArgs {
    /// none, lossless, deepcache, faster-diffusion, tgate, hgc-paper or hgc
    #[arg(long, default_value = "hgc", conflicts_with = "plan")]
    policy: Policy,
    /// Model evaluations in a generation
    #[arg(long, required_unless_present = "plan")]
    steps: Option<usize>,
    /// Plan to use instead of a policy (see `hgc plan -o`)
    #[arg(long, value_name = "FILE", conflicts_with = "steps")]
    plan: Option<PathBuf>,
    /// Outermost decoder skip connections that still run on a reuse step
    #[arg(long)]
    cut: Option<usize>,
    /// deepcache: steps from one refresh to the next
    #[arg(long, default_value_t = 3)]
    interval: usize,
    /// faster-diffusion: steps on which the encoder runs
    #[arg(long, value_delimiter = ',')]
    key_steps: Option<Vec<usize>>,
    /// Step from which guidance is fused; the number of steps for never [default: nine tenths
    /// of the steps with hgc, half with tgate and hgc-paper]
    #[arg(long)]
    gate_step: Option<usize>,
    /// Share of steps on which deeper blocks refresh
    #[arg(long, default_value_t = Options::new(1).lambda_inter)]
    lambda_inter: f64,
    /// Share of refreshed steps on which the modules inside a block do
    #[arg(long, default_value_t = Options::new(1).lambda_intra)]
    lambda_intra: f64,
    /// hgc: share of refreshed steps before the gate step on which both halves run
    #[arg(long, default_value_t = Options::new(1).lambda_guidance)]
    lambda_guidance: f64,
    /// hgc: what is read on a reuse step, hold (the last value) or linear (a forecast)
    #[arg(long, default_value_t)]
    reuse: Reuse,
    /// The ControlNet refreshes on every n-th refresh of the UNet
    #[arg(long, default_value_t = 1)]
    control_interval: usize,
    /// Share of the generation after which control switches on
    #[arg(long, default_value_t = 0.0)]
    control_start: f64,
    /// Share of the generation after which control switches off
    #[arg(long, default_value_t = 1.0)]
    control_end: f64,
    /// Which half of a guided batch carries the prompt: last or first; none where the model
    /// runs without classifier-free guidance
    #[arg(long, default_value = "last", value_parser = parse_half)]
    prompted: Half,
}

/// The half of a batch with the prompt, if there are two. An alias: clap would take an
/// `Option` for an argument that may be left out.
type Half = Option<Prompted>;

fn parse_half(text: &str) -> Result<Half, String> {
    match text {
        "last" => Ok(Some(Prompted::Last)),
        "first" => Ok(Some(Prompted::First)),
        "none" => Ok(None),
        _ => Err(format!("{text:?} is none of last, first, none")),
    }
}

impl PolicyArgs {
    /// Plans `session` as asked.
    pub fn plan(&self, session: &Session<'_>) -> anyhow::Result<Planned> {
        if let Some(path) = &self.plan {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the plan {}", path.display()))?;
            let plan: Plan = toml::from_str(&text)
                .with_context(|| format!("{} is not a plan", path.display()))?;
            return session
                .adopt(plan)
                .with_context(|| format!("plan {}", path.display()));
        }
        let mut options = Options::new(self.steps.unwrap_or_default());
        options.cut = self.cut;
        options.interval = self.interval;
        options.key_steps.clone_from(&self.key_steps);
        options.gate_step = self.gate_step;
        options.lambda_inter = self.lambda_inter;
        options.lambda_intra = self.lambda_intra;
        options.lambda_guidance = self.lambda_guidance;
        options.reuse = self.reuse;
        options.control_interval = self.control_interval;
        options.control_start = self.control_start;
        options.control_end = self.control_end;
        options.prompted = self.prompted;
        Ok(session.plan(self.policy, &options)?)
    }
}

/// MACs of a generation before and after.
#[derive(Serialize)]
pub struct Totals {
    /// All MACs, original.
    pub macs_before: u64,
    /// All MACs, as planned.
    pub macs_after: u64,
    /// MACs of weight operators, original.
    pub macs_weights_before: u64,
    /// MACs of weight operators, as planned.
    pub macs_weights_after: u64,
    /// Share of weight-operator MACs saved.
    pub reduction: f64,
    /// Bytes of all caches.
    pub cache_bytes: u64,
}

/// One gate for programs.
#[derive(Serialize)]
pub struct GateReport {
    model: String,
    gate: String,
    schedule: String,
    refresh_steps: Vec<usize>,
    sites: Vec<String>,
}

impl Totals {
    /// Adds up all models.
    pub fn of(planned: &Planned) -> Self {
        let sum = |f: &dyn Fn(&hgc::plan::cost::Cost) -> u64| planned.costs.iter().map(f).sum();
        let before: u64 = sum(&|c| c.before().weights);
        let after: u64 = sum(&|c| c.after().weights);
        #[allow(clippy::cast_precision_loss)]
        let reduction = if before == 0 {
            0.0
        } else {
            1.0 - after as f64 / before as f64
        };
        Self {
            macs_before: sum(&|c| c.before().all),
            macs_after: sum(&|c| c.after().all),
            macs_weights_before: before,
            macs_weights_after: after,
            reduction,
            cache_bytes: sum(&|c| c.cache_bytes),
        }
    }
}

/// All gates of a plan.
pub fn gates(plan: &Plan) -> Vec<GateReport> {
    let of_model = plan
        .models
        .iter()
        .flat_map(|m| m.gates.iter().map(move |g| (m, g)));
    of_model
        .map(|(m, g)| GateReport {
            model: m.name.clone(),
            gate: g.name.clone(),
            schedule: g.schedule.to_string(),
            refresh_steps: g.schedule.refresh_steps(),
            sites: m
                .sites
                .iter()
                .filter(|s| s.gate == g.name)
                .map(|s| s.name.clone())
                .collect(),
        })
        .collect()
}

/// Whether a policy was asked to cache something and found nothing to cache.
pub fn found_nothing(plan: &Plan) -> bool {
    plan.policy != Policy::None.name() && !plan.changes_anything()
}

/// Runs `hgc plan`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let inputs = Inputs::read(&args.models.model, &args.models.controlnet)?;
    let session = Session::new(&inputs, args.sizes.into())?;
    let planned = args.policy.plan(&session)?;
    let nothing = found_nothing(&planned.plan);
    if let Some(path) = args.output.as_ref().filter(|_| !nothing) {
        let mut transaction = hgc::onnx::Transaction::new(args.force);
        inputs
            .sources
            .iter()
            .flat_map(|s| s.model.files())
            .for_each(|f| transaction.protect(&f));
        transaction.add_bytes(path, toml::to_string(&planned.plan)?.as_bytes())?;
        transaction.commit()?;
    }
    let text = match args.format {
        Format::Table => render(&planned),
        Format::Json => json(&planned)?,
    };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    if nothing {
        eprintln!("hgc: the policy found no site to cache; nothing was written");
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

fn json(planned: &Planned) -> anyhow::Result<String> {
    let by_step = |pick: &dyn Fn(&hgc::analysis::macs::Macs) -> u64| -> Vec<u64> {
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
    let report = PlanReport {
        plan: &planned.plan,
        totals: Totals::of(planned),
        gates: gates(&planned.plan),
        macs_weights_by_step: by_step(&|m| m.weights),
        macs_by_step: by_step(&|m| m.all),
    };
    Ok(serde_json::to_string_pretty(&report)?)
}

/// The plan for people: a step-by-gate grid, sites, costs and refusals.
pub fn render(planned: &Planned) -> String {
    let plan = &planned.plan;
    let mut text = format!("policy {}, {} steps", plan.policy, plan.steps);
    for (key, value) in &plan.parameters {
        let _ = write!(text, ", {key} {value}");
    }
    text.push_str("\n\n");
    let width = plan
        .models
        .iter()
        .flat_map(|m| m.gates.iter().map(|g| m.name.len() + g.name.len() + 1))
        .max()
        .unwrap_or(0)
        .max("guidance".len());
    let tens: String = (0..plan.steps)
        .map(|s| if s % 10 == 0 { digit(s / 10) } else { ' ' })
        .collect();
    let ones: String = (0..plan.steps).map(|s| digit(s % 10)).collect();
    let _ = writeln!(text, "{:width$}  {}\n{:width$}  {ones}", "step", tens, "");
    let _ = writeln!(
        text,
        "{:width$}  {}",
        "guidance",
        String::from(plan.guidance.schedule.clone())
    );
    for gate in gates(plan) {
        let name = format!("{} {}", gate.model, gate.gate);
        let _ = writeln!(
            text,
            "{name:width$}  {}  {} sites",
            gate.schedule,
            gate.sites.len()
        );
    }
    let _ = writeln!(text, "\n{}", legend(plan));
    let _ = writeln!(text, "{}\n", steps_table(planned));
    for (model, (layout, cost)) in plan
        .models
        .iter()
        .zip(planned.layouts.iter().zip(&planned.costs))
    {
        let _ = writeln!(
            text,
            "{}: {} sites, caches {}",
            model.name,
            model.sites.len(),
            bytes(cost.cache_bytes)
        );
        let mut sites = table(
            &["  site", "gate", "reuse", "rows", "nodes", "cache", "why"],
            &[4, 5],
        );
        for (placed, size) in layout.sites.iter().zip(&cost.site_bytes) {
            sites.add_row([
                format!("  {}", placed.site.name),
                placed.site.gate.clone(),
                format!("{:?}", placed.site.reuse).to_lowercase(),
                format!("{:?}", placed.site.rows).to_lowercase(),
                placed.region.count().to_string(),
                bytes(*size),
                placed.site.why.clone(),
            ]);
        }
        if !model.sites.is_empty() {
            let _ = writeln!(text, "{sites}");
        }
        for refusal in &model.refusals {
            let _ = writeln!(text, "  refused {}: {}", refusal.candidate, refusal.reason);
        }
        text.push('\n');
    }
    text.push_str(&summary(planned));
    text
}

fn digit(n: usize) -> char {
    u32::try_from(n)
        .ok()
        .and_then(|n| char::from_digit(n % 10, 10))
        .unwrap_or(' ')
}

fn legend(plan: &Plan) -> String {
    let mut text = "R refresh, . reuse; guidance F both halves".to_owned();
    let schedule = &plan.guidance.schedule;
    if schedule.has(GuidanceStep::Held) {
        text.push_str(", H prompted half, difference held");
    }
    if schedule.has(GuidanceStep::Fused) {
        text.push_str(", U prompted half for both");
    }
    if plan
        .models
        .iter()
        .any(|m| m.gates.iter().any(|g| !g.schedule.restarts().is_empty()))
    {
        text.push_str("; N refresh from nothing");
    }
    text.push('\n');
    text
}

fn steps_table(planned: &Planned) -> comfy_table::Table {
    let mut header = vec!["step".to_owned()];
    header.extend(planned.plan.models.iter().map(|m| m.name.clone()));
    header.extend(["weights only".to_owned(), "all MACs".to_owned()]);
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let right: Vec<usize> = (0..names.len()).collect();
    let mut steps = table(&names, &right);
    for step in 0..planned.plan.steps {
        let at: Vec<_> = planned
            .costs
            .iter()
            .filter_map(|c| c.steps.get(step))
            .collect();
        let mut row = vec![step.to_string()];
        row.extend(at.iter().map(|m| macs(m.weights)));
        row.push(macs(at.iter().map(|m| m.weights).sum()));
        row.push(macs(at.iter().map(|m| m.all).sum()));
        steps.add_row(row);
    }
    steps
}

/// Two lines: MACs of the generation before and after, cache memory.
pub fn summary(planned: &Planned) -> String {
    let totals = Totals::of(planned);
    format!(
        "MACs of {} steps, weights only: {} -> {} ({:.1} % less); all: {} -> {}\n\
         cache memory: {}\n",
        planned.plan.steps,
        macs(totals.macs_weights_before),
        macs(totals.macs_weights_after),
        100.0 * totals.reduction,
        macs(totals.macs_before),
        macs(totals.macs_after),
        bytes(totals.cache_bytes)
    )
}

impl std::fmt::Display for GateReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sites = self.sites.len();
        write!(
            f,
            "{} {}: {}  {sites} sites",
            self.model, self.gate, self.schedule
        )
    }
}
