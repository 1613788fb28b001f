//! What `hgc eval` draws: policies, plans, and the original in fewer steps.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hgc::unstable::compile::Project;
use hgc::unstable::eval::{Evaluation, Subject, Way};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::{self, Nothing, Point, Policy as _};
use hgc::unstable::sampler::Method;
use image::RgbImage;

use super::kept::KeptPoints;
use crate::cli::args::read_plan;
use crate::cli::progress::Progress;

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
    pub fn asked(&self, base: &Parameters, project: &Project<'_>) -> anyhow::Result<Vec<Subject>> {
        let all = policy::ALL.iter().filter(|p| p.name() != Nothing.name());
        let texts: Vec<String> = if self.policy.is_empty() && self.plan.is_empty() {
            all.map(ToString::to_string).collect()
        } else {
            self.policy.clone()
        };
        let mut points = Vec::new();
        for text in &texts {
            let parsed = Point::parse(text, base)?;
            if let Some(point) = parsed.first().filter(|_| self.grid && !text.contains(':')) {
                points.extend(Point::grid(point.policy, base, project.skips()));
            }
            points.extend(parsed);
        }
        let mut found: Vec<Subject> = points.into_iter().map(Subject::of_policy).collect();
        for file in &self.plan {
            let label = file.display().to_string();
            let plan = read_plan(file)?;
            // Told before anything is drawn.
            let placed = project.adopt(plan.clone());
            let placed = placed.with_context(|| format!("plan {label}"))?;
            if placed.plan.steps != base.steps {
                anyhow::bail!(
                    "plan {label} is for {} steps; give --steps {}",
                    placed.plan.steps,
                    placed.plan.steps
                )
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
                let plan = Path::new(label)
                    .is_file()
                    .then(|| read_plan(label.as_ref()));
                more.extend(
                    plan.and_then(Result::ok)
                        .map(|p| Subject::of_plan(label, p)),
                );
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

/// The fewest steps of the original that compute no less than a subject, if they are fewer.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn steps_for(subject: &Subject, evaluation: &Evaluation<'_>, steps: usize) -> Option<usize> {
    let planned = evaluation.plan(subject).ok()?;
    let before: u64 = planned.costs.iter().map(|c| c.before().weights).sum();
    let after: u64 = planned.costs.iter().map(|c| c.after().weights).sum();
    let share = after as f64 / before.max(1) as f64;
    let fewest = ((share * steps as f64 - 1e-6).ceil() as usize).max(1);
    (fewest < steps).then_some(fewest)
}

/// The pictures that the original's steps lead to.
pub fn converged(evaluation: &Evaluation<'_>, bar: &Progress) -> anyhow::Result<Vec<RgbImage>> {
    bar.inc_length(evaluation.batches() as u64);
    bar.set_message("converged");
    Ok(evaluation.fewer(CONVERGED, Some(Method::DpmSolver), &mut || bar.inc(1))?)
}
