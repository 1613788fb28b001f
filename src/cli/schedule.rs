//! `hgc schedule`: list, add and remove schedules of a compiled folder.

use std::path::PathBuf;

use anyhow::{Context, bail};
use hgc::unstable::compile::{Configured, Installed, Project};
use hgc::unstable::plan::parameter::{Parameters, SOLVER, Solver, Value};
use hgc::unstable::plan::policy::{Point, Policy};
use hgc::unstable::plan::{Kind, Schedule};
use hgc::unstable::sampler::solver::told_by;
use serde::Serialize;

use super::Outcome;
use super::args::{Format, table};
use super::evaluations::EvaluationArgs;
use super::plan::Told;
use super::terminal::{note, print, print_json};

const EXAMPLES: &str = "\
Examples:
  hgc schedule list sd15-cached
  hgc schedule add sd15-cached --steps 30
  hgc schedule add sd15-cached --inference-steps 25 --sampler pndm
  hgc schedule remove sd15-cached --steps 30";

/// Options of `hgc schedule`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show the kinds of evaluations and the schedules over them
    List(List),
    /// Plan a schedule for another number of evaluations, over the kinds that are there
    Add(Box<Add>),
    /// Take a schedule away
    Remove(Remove),
}

#[derive(clap::Args)]
struct List {
    /// Folder that `hgc compile` wrote
    folder: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(clap::Args)]
struct Add {
    /// Folder that `hgc compile` wrote
    folder: PathBuf,
    #[command(flatten)]
    evaluations: EvaluationArgs,
    /// Sampler that the schedule is for; any where not given
    #[arg(long, value_name = "NAME", value_parser = lower)]
    sampler: Option<String>,
    /// Policy to plan by, with or without parameters; that of the compiled plan where not given
    #[arg(long, value_name = "POLICY[:KEY=VALUE,...]")]
    policy: Option<String>,
    /// Do at each share of the way what the first schedule does there
    #[arg(long, conflicts_with = "policy")]
    spread: bool,
    #[command(flatten)]
    told: Told,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(clap::Args)]
struct Remove {
    /// Folder that `hgc compile` wrote
    folder: PathBuf,
    /// Evaluations of the schedule
    #[arg(long, value_name = "N")]
    steps: usize,
    /// Its sampler, if it has one
    #[arg(long, value_name = "NAME", value_parser = lower)]
    sampler: Option<String>,
    /// How to print what is left
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Samplers are told apart in lower case.
#[allow(clippy::unnecessary_wraps)]
fn lower(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_lowercase())
}

#[derive(Serialize)]
struct Report {
    folder: String,
    kinds: Vec<KindReport>,
    schedules: Vec<ScheduleReport>,
}

#[derive(Serialize)]
struct KindReport {
    #[serde(flatten)]
    kind: Kind,
    /// MACs of all models.
    macs: u64,
}

#[derive(Serialize)]
struct ScheduleReport {
    evaluations: usize,
    sampler: Option<String>,
    /// Whether callers that only count follow it.
    counted: bool,
    /// Share of MACs that a generation is spared.
    saved: f64,
    kinds: Vec<String>,
}

impl Args {
    /// Whether results are asked for as JSON.
    pub fn speaks_json(&self) -> bool {
        let format = match &self.action {
            Action::List(args) => args.format,
            Action::Add(args) => args.format,
            Action::Remove(args) => args.format,
        };
        format == Format::Json
    }
}

/// Runs `hgc schedule`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    match &args.action {
        Action::List(args) => show(&Installed::open(&args.folder)?, &args.folder, args.format)?,
        Action::Add(args) => add(args)?,
        Action::Remove(args) => {
            let mut installed = Installed::open(&args.folder)?;
            installed.remove(args.steps, args.sampler.as_deref())?;
            installed.write()?;
            show(&installed, &args.folder, args.format)?;
        }
    }
    Ok(Outcome::Done)
}

fn add(args: &Add) -> anyhow::Result<()> {
    let mut installed = Installed::open(&args.folder)?;
    let Some(evaluations) = args.evaluations.of(&args.folder)? else {
        bail!("for how many evaluations? give --steps N, or --inference-steps N")
    };
    // The range of steps is that of all plans.
    let base = Parameters::new(evaluations);
    base.check()?;
    let mut base = told_by(&args.folder, base);
    if let Some(name) = &args.sampler {
        let solver = name.parse().unwrap_or_else(|()| Solver::of(name));
        base.set(&SOLVER, Value::Solver(solver));
    }
    let mut schedule = match planned(args, &installed, base)? {
        Some(schedule) => schedule,
        None => {
            let flows = installed.flows().context("the folder has no models")?;
            flows.spread(&installed.schedules()[0], evaluations)
        }
    };
    schedule.sampler = args.sampler.clone();
    installed.add(schedule)?;
    installed.write()?;
    show(&installed, &args.folder, args.format)
}

/// The schedule by a policy; none where it is to be spread.
fn planned(
    args: &Add,
    installed: &Installed,
    base: Parameters,
) -> anyhow::Result<Option<Schedule>> {
    if args.spread {
        return Ok(None);
    }
    let policy = installed.plan.policy.parse::<&'static dyn Policy>();
    if args.policy.is_none() && policy.is_err() {
        note(format_args!(
            "the plan was not made by a policy with a formula ({}); its schedule is spread",
            installed.plan.policy
        ));
        return Ok(None);
    }
    let inputs = installed.originals()?;
    let project = Project::new(&inputs, Configured::of(&args.folder)?.sizes())?;
    let point = match &args.policy {
        Some(text) => args.told.point(text, base)?,
        None => {
            let policy = policy?;
            let told = installed.told(&project, policy, base.steps)?;
            // What the sampler is, or what it was compiled for.
            let told = match args.sampler.is_some() || told.get(&SOLVER).is_none() {
                true => told.with(&SOLVER, Value::Solver(base.solver())),
                false => told,
            };
            Point::new(policy, args.told.over(told))
        }
    };
    Ok(Some(installed.by_policy(
        &project,
        point.policy,
        &point.parameters,
    )?))
}

fn show(installed: &Installed, folder: &std::path::Path, format: Format) -> anyhow::Result<()> {
    let flows = installed.flows().context("the folder has no models")?;
    let of = |kinds: Vec<String>| {
        flows.macs(&Schedule {
            sampler: None,
            kinds,
            rows: Vec::new(),
            adaptive: None,
        })
    };
    let kinds: Vec<KindReport> = installed
        .plan
        .kinds
        .iter()
        .map(|kind| KindReport {
            kind: kind.clone(),
            macs: of(vec![kind.name.clone()]),
        })
        .collect();
    let whole = kinds.first().map_or(0, |k| k.macs);
    let report = |(index, schedule): (usize, &Schedule)| {
        #[allow(clippy::cast_precision_loss)]
        let (after, before) = (
            flows.macs(schedule) as f64,
            whole as f64 * schedule.evaluations() as f64,
        );
        ScheduleReport {
            evaluations: schedule.evaluations(),
            sampler: schedule.sampler.clone(),
            counted: index == 0,
            saved: 1.0 - after / before.max(1.0),
            kinds: schedule.kinds.clone(),
        }
    };
    let report = Report {
        folder: folder.display().to_string(),
        schedules: installed
            .schedules()
            .iter()
            .enumerate()
            .map(report)
            .collect(),
        kinds,
    };
    match format {
        Format::Json => print_json("hgc.schedule.v1", &[report]),
        Format::Table => print(&render(&report)),
    }
}

/// Kinds with a letter each, and schedules as rows of these letters.
fn render(report: &Report) -> String {
    let whole = report.kinds.first().map_or(1, |k| k.macs.max(1));
    let mut kinds = table(&["", "kind", "MACs", "guidance", "refreshes"], &[2]);
    for (index, KindReport { kind, macs }) in report.kinds.iter().enumerate() {
        let gates: Vec<&str> = kind
            .refresh
            .iter()
            .chain(&kind.restart)
            .map(String::as_str)
            .collect();
        let all = index == 0;
        #[allow(clippy::cast_precision_loss)]
        let share = 100.0 * *macs as f64 / whole as f64;
        kinds.add_row([
            letter(index).to_string(),
            kind.name.clone(),
            format!("{share:.1} %"),
            format!("{:?}", kind.guidance).to_lowercase(),
            if all {
                "everything".to_owned()
            } else {
                gates.join(" ")
            },
        ]);
    }
    let mut schedules = table(&["evaluations", "sampler", "saved", "kinds"], &[0, 2]);
    for schedule in &report.schedules {
        let position = |name: &String| report.kinds.iter().position(|k| k.kind.name == *name);
        let row: String = schedule
            .kinds
            .iter()
            .filter_map(position)
            .map(letter)
            .collect();
        schedules.add_row([
            schedule.evaluations.to_string(),
            schedule.sampler.clone().unwrap_or_else(|| "any".to_owned()),
            format!("{:.1} %", 100.0 * schedule.saved),
            row,
        ]);
    }
    format!(
        "{kinds}\n\n{schedules}\n\ncallers that only count evaluations follow the first schedule\n"
    )
}

fn letter(kind: usize) -> char {
    let letters = ('A'..='Z').chain('a'..='z').chain('0'..='9');
    letters.clone().nth(kind).unwrap_or('?')
}
