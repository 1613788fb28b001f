//! What `hgc eval` draws: policies, plans, and the original in fewer steps.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hgc::unstable::analysis::macs::Macs;
use hgc::unstable::compile::Project;
use hgc::unstable::eval::{Evaluation, SKIPS, Skip, Subject, Way};
use hgc::unstable::plan::cost::{Cost, fewest_steps, saved};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::{self, Nothing, Point, Policy as _};
use hgc::unstable::plan::{Plan, Schedule, choose};
use hgc::unstable::sampler::Method;
use image::RgbImage;

use super::kept::KeptPoints;
use crate::cli::args::read_plan;
use crate::cli::progress::Progress;
use crate::cli::terminal::warn;

/// What pictures are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reference {
    /// The original's pictures in as many steps
    #[default]
    Original,
    /// The original's pictures in 100 steps of DPM++ 2M from the same noise: what any sampler would
    /// draw if its steps were free
    Converged,
}

/// Steps of the converged pictures.
const CONVERGED: usize = 100;

/// Which runs of the original in fewer steps are drawn as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fewer {
    /// With the sampler of the others
    #[default]
    Own,
    /// With each of the samplers that add no noise
    All,
    /// None
    None,
}

/// Options that say what is drawn.
#[derive(clap::Args)]
pub struct SubjectArgs {
    /// Policy to score, with parameters or without: hgc, deepcache:interval=2|3|5,cut=1;
    /// may be repeated [default: all but none]
    #[arg(long, value_name = "POLICY[:KEY=A|B,...]")]
    policy: Vec<String>,
    /// Plan to score (see `hgc tune`); may be repeated
    #[arg(long, value_name = "FILE")]
    plan: Vec<PathBuf>,
    /// Score each policy that is named without parameters over its published grid
    #[arg(long)]
    grid: bool,
    /// Score the original too, in as few steps as leave it the MACs of each of the others
    #[arg(long, value_enum, default_value_t)]
    fewer: Fewer,
}

impl SubjectArgs {
    /// Policies and plans.
    ///
    /// Of a plan with several schedules the one for this sampler and so many steps is scored.
    pub fn asked(
        &self,
        base: &Parameters,
        project: &Project<'_>,
        (sampler, guidance): (Method, f64),
    ) -> anyhow::Result<Vec<Subject>> {
        let all = policy::ALL.iter().filter(|p| p.name() != Nothing.name());
        let texts: Vec<String> = if self.policy.is_empty() && self.plan.is_empty() {
            let all = all.map(ToString::to_string);
            all.chain(SKIPS.map(str::to_owned)).collect()
        } else {
            self.policy.clone()
        };
        let (mut points, mut rules) = (Vec::new(), Vec::new());
        for text in &texts {
            if let Some(found) = Skip::parse(text, self.grid) {
                rules.extend(found.map_err(anyhow::Error::msg)?);
                continue;
            }
            let parsed = Point::parse(text, base)?;
            if let Some(point) = parsed.first().filter(|_| self.grid && !text.contains(':')) {
                points.extend(Point::grid(point.policy, base, project.skips()));
            }
            points.extend(parsed);
        }
        let points = points.into_iter().map(Subject::of_policy);
        let rules = rules.into_iter();
        let mut found: Vec<Subject> = points
            .chain(rules.map(|(label, rule)| Subject::of_rule(label, rule)))
            .collect();
        for file in &self.plan {
            let label = file.display().to_string();
            let read = read_plan(file)?;
            let plan = scheduled(&read, project, base.steps, sampler);
            let plan = plan.with_context(|| format!("plan {label}"))?;
            // Told before anything is drawn.
            let placed = project.adopt(plan.clone());
            placed.with_context(|| format!("plan {label}"))?;
            if let Some(what) = read.beyond_fit(sampler.name(), base.steps, guidance) {
                warn(format_args!("plan {label} was fitted on {what}"));
            }
            found.push(Subject::of_plan(&label, plan));
        }
        let mut seen = HashSet::new();
        found.retain(|s| seen.insert(s.label.clone()));
        Ok(found)
    }

    /// These, the points of an evaluation that is resumed, and fewer steps for all of them.
    pub fn all(
        &self,
        mut subjects: Vec<Subject>,
        kept: &KeptPoints,
        base: &Parameters,
        (evaluation, own): (&Evaluation<'_>, Method),
    ) -> Vec<Subject> {
        let mut more = Vec::new();
        for label in kept.labels() {
            if subjects.iter().all(|s| s.label != label) {
                let points = Point::parse(label, base).unwrap_or_default();
                more.extend(points.into_iter().map(Subject::of_policy));
                let rules = Skip::parse(label, false).and_then(Result::ok);
                let rules = rules.into_iter().flatten();
                more.extend(rules.map(|(label, rule)| Subject::of_rule(label, rule)));
                let plan = Path::new(label)
                    .is_file()
                    .then(|| read_plan(label.as_ref()));
                let plan = plan.and_then(Result::ok);
                let project = evaluation.project();
                let plan = plan.and_then(|p| scheduled(&p, project, base.steps, own).ok());
                more.extend(plan.map(|p| Subject::of_plan(label, p)));
            }
        }
        subjects.append(&mut more);
        let samplers: Vec<Option<Method>> = match self.fewer {
            Fewer::None => return subjects,
            Fewer::Own => vec![None],
            Fewer::All => {
                let calm = Method::ALL
                    .into_iter()
                    .filter(|m| !m.adds_noise() && *m != own);
                std::iter::once(None).chain(calm.map(Some)).collect()
            }
        };
        let mut counts: Vec<usize> = subjects
            .iter()
            .filter(|s| !matches!(s.way, Way::Fewer { .. }))
            .filter_map(|s| steps_for(s, evaluation, base.steps))
            .collect();
        counts.sort_unstable();
        counts.dedup();
        for steps in counts {
            subjects.extend(samplers.iter().map(|s| Subject::of_steps(steps, *s)));
        }
        subjects
    }
}

/// The plan with the schedule alone that is for so many steps of this sampler, or of any; one for other steps
/// is spread over these, as a compiled pipeline does.
fn scheduled(
    plan: &Plan,
    project: &Project<'_>,
    steps: usize,
    sampler: Method,
) -> anyhow::Result<Plan> {
    let index = choose(&plan.schedules, steps, Some(sampler.name())).unwrap_or_default();
    let long = |s: &Schedule| s.evaluations() == steps;
    if !plan.schedules.get(index).is_some_and(long) {
        return Ok(project.spread(plan, index, steps)?);
    }
    // Only this one is drawn, whatever sampler it was fitted on.
    let mut plan = plan.under(index)?;
    plan.schedules.truncate(1);
    Ok(plan)
}

/// The fewest steps of the original that compute no less than a subject, if they are fewer.
fn steps_for(subject: &Subject, evaluation: &Evaluation<'_>, steps: usize) -> Option<usize> {
    let planned = evaluation.plan(subject).ok()?;
    let total = |of: fn(&Cost) -> Macs| planned.costs.iter().map(|c| of(c).weights).sum();
    let fewest = fewest_steps(steps, saved(total(Cost::before), total(Cost::after)));
    (fewest < steps).then_some(fewest)
}

/// The pictures that the original's steps lead to.
pub fn converged(evaluation: &Evaluation<'_>, bar: &Progress) -> anyhow::Result<Vec<RgbImage>> {
    bar.inc_length(evaluation.batches() as u64);
    bar.set_message("converged");
    Ok(evaluation.fewer(CONVERGED, Some(Method::DpmSolver), &mut || bar.inc(1))?)
}
