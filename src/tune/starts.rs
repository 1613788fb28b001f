//! Schedules by formulas, from which a search begins.

use super::{Lab, Setting};
use crate::plan::parameter::Solver;
use crate::plan::policy::shares;
use crate::plan::schedule::GuidanceStep;

/// Where refreshes lie.
type Spacing = fn(steps: usize, count: usize) -> Vec<usize>;

/// The schedules that formulas make of a budget (a share of the original's MACs): refreshes evenly,
/// or dense at the end or at both, the whole batch always or on refreshes, cross-attention on all of these or on
/// every second; each with as many refreshes as fit.
#[must_use]
pub fn starts(lab: &Lab, steps: usize, budget: f64) -> Vec<Vec<Setting>> {
    let spacings: [Spacing; 4] = [
        even,
        dense_end,
        |steps, count| dense_ends(steps, count, Solver::FirstOrder),
        |steps, count| dense_ends(steps, count, Solver::Multistep),
    ];
    let held = lab
        .choices()
        .iter()
        .any(|s| s.guidance == GuidanceStep::Held);
    let guidance: &[GuidanceStep] = match held {
        true => &[GuidanceStep::Full, GuidanceStep::Held],
        false => &[GuidanceStep::Full],
    };
    let mut found: Vec<Vec<Setting>> = Vec::new();
    for spacing in spacings {
        for &between in guidance {
            for every in [1, 2] {
                let made = |count: usize| columns(&spacing(steps, count), steps, between, every);
                let fits = |count: &usize| lab.cost(&lab.schedule(&made(*count))) <= budget;
                let settings = (1..=steps).rev().find(fits).map(made);
                found.extend(settings.filter(|s| !found.contains(s)));
            }
        }
    }
    found
}

/// Full on the refreshes, with cross-attention on every `every`-th of them; between them nothing but
/// the outermost blocks.
fn columns(refreshes: &[usize], steps: usize, between: GuidanceStep, every: usize) -> Vec<Setting> {
    let at = |step: usize| match refreshes.iter().position(|r| *r == step) {
        Some(nth) => Setting {
            cross: nth % every == 0,
            ..Setting::FULL
        },
        None => Setting {
            depth: 0,
            control: false,
            cross: false,
            guidance: between,
        },
    };
    (0..steps).map(at).collect()
}

fn even(steps: usize, count: usize) -> Vec<usize> {
    (0..count).map(|k| k * steps / count.max(1)).collect()
}

/// More and more often: some models change little at the start.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn dense_end(steps: usize, count: usize) -> Vec<usize> {
    let at = |k| shares::later(steps, count, k).round() as usize;
    let mut all: Vec<usize> = (0..count).map(at).collect();
    all.dedup();
    all
}

/// As `hgc` spaces them.
#[allow(clippy::cast_precision_loss)]
fn dense_ends(steps: usize, count: usize, solver: Solver) -> Vec<usize> {
    shares::inter(steps, count as f64 / steps.max(1) as f64, solver, 0.0)
}
