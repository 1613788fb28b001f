//! Weights of slopes for schedules that were not fitted themselves, so that a search sees what weights are
//! worth.
//!
//! What a fit finds on one schedule is told as a share of the linear forecast, by site and evaluation, and
//! holds roughly for others: a schedule is given the row of the evaluation and of the ages that its cached
//! values have there.

use super::recorder::Site;
use crate::plan::policy::DEEP;
use crate::plan::schedule::{Gating, GuidanceStep};
use crate::plan::{Kind, Plan, Reuse, Schedule};

/// Ages above this count as this.
const OLDEST: usize = 8;
/// Rows of the tables for one case, at most.
const MOST_ROWS: usize = 1 << 16;

/// Share of the linear forecast that a cached value moves: by site, one an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Damping {
    steps: usize,
    shares: Vec<(String, Vec<f64>)>,
}

impl Damping {
    /// What the default policy does without having been fitted: see [`usual`].
    #[must_use]
    pub fn usual(plan: &Plan, steps: usize) -> Self {
        let shares = plan.weighed().map(|name| {
            let share = usual(&name);
            (name, vec![share; steps])
        });
        Self {
            steps,
            shares: shares.collect(),
        }
    }

    /// The shares of weights that were fitted to one schedule. An evaluation on which a site refreshes has
    /// the mean of its neighbours.
    #[must_use]
    pub fn of(sites: &[Site], table: &[(String, Vec<f64>)]) -> Self {
        let steps = sites.first().map_or(0, |s| s.schedule.steps());
        let share = |site: &Site, weights: &[f64], evaluation: usize| {
            let age = evaluation - site.schedule.last_refresh(evaluation)?;
            // Before the second refresh there is no slope, and no weight that means anything.
            let refreshes = (0..evaluation).filter(|e| site.schedule.refreshes(*e));
            let known = !site.schedule.refreshes(evaluation) && refreshes.count() > 1;
            #[allow(clippy::cast_precision_loss)]
            known.then(|| weights[evaluation] / age as f64)
        };
        let shares = |(site, (name, weights)): (&Site, &(String, Vec<f64>))| {
            let known: Vec<_> = (0..steps).map(|e| share(site, weights, e)).collect();
            (name.clone(), filled(&known))
        };
        Self {
            steps,
            shares: sites.iter().zip(table).map(shares).collect(),
        }
    }
}

/// The share of the slope that what is called so, `model/site`, moves where nothing was fitted: deep blocks are damped,
/// all else holds.
#[must_use]
pub fn usual(name: &str) -> f64 {
    let site = name.rsplit_once('/').map_or(name, |(_, site)| site);
    match site == DEEP || site.starts_with(&format!("{DEEP}.")) {
        true => Reuse::DAMPING.into(),
        false => 0.0,
    }
}

/// The same with the mean of both neighbours where nothing is known, and 0 where there are none.
pub(super) fn filled(known: &[Option<f64>]) -> Vec<f64> {
    let at = |i: usize| {
        let before = known[..i].iter().rev().flatten().next();
        let after = known[i..].iter().flatten().next();
        match (known[i], before, after) {
            (Some(share), ..) => share,
            (None, Some(before), Some(after)) => f64::midpoint(*before, *after),
            (None, before, after) => before.or(after).copied().unwrap_or_default(),
        }
    };
    (0..known.len()).map(at).collect()
}

/// Rows for every evaluation and age of each case.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Kinds that refresh: by clock, by name.
    clocks: Vec<Vec<String>>,
    /// By case: its first row, its evaluations and the ages that it tells apart; none where it holds.
    cases: Vec<Option<(usize, usize, usize)>>,
}

impl Rows {
    /// Gives the plan the weights of each case.
    pub fn lay(plan: &mut Plan, cases: &[Option<Damping>]) -> Self {
        let names: Vec<String> = plan.weighed().collect();
        let mut clocks: Vec<Vec<String>> = Vec::new();
        // What refreshes together has one clock.
        let clock_of = |name: &String, clocks: &mut Vec<Vec<String>>| {
            let kinds = plan.kinds.iter().filter(|k| refreshes(plan, k, name));
            let kinds: Vec<String> = kinds.map(|k| k.name.clone()).collect();
            let known = clocks.iter().position(|c| *c == kinds);
            known.unwrap_or_else(|| {
                clocks.push(kinds);
                clocks.len() - 1
            })
        };
        let own: Vec<usize> = names.iter().map(|n| clock_of(n, &mut clocks)).collect();
        let mut tables: Vec<Vec<f32>> = vec![Vec::new(); names.len()];
        let mut laid = Vec::new();
        for case in cases {
            let Some(damping) = case.as_ref().filter(|_| !names.is_empty()) else {
                laid.push(None);
                continue;
            };
            let ages = ages(damping.steps, clocks.len());
            laid.push(Some((tables[0].len() + 1, damping.steps, ages)));
            for evaluation in 0..damping.steps {
                for mut row in 0..ages.pow(clocks.len() as u32) {
                    let mut by_clock = vec![0; clocks.len()];
                    for age in by_clock.iter_mut().rev() {
                        (*age, row) = (row % ages + 1, row / ages);
                    }
                    for ((name, clock), table) in names.iter().zip(&own).zip(&mut tables) {
                        let shares = damping.shares.iter().find(|(n, _)| n == name);
                        let share = shares.map_or(0.0, |(_, shares)| shares[evaluation]);
                        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
                        table.push((share * by_clock[*clock] as f64) as f32);
                    }
                }
            }
        }
        plan.weights.0 = names.into_iter().zip(tables).collect();
        Self {
            clocks,
            cases: laid,
        }
    }

    /// The schedule with the rows that it has in a case.
    #[must_use]
    pub fn of(&self, case: usize, schedule: &Schedule) -> Schedule {
        let mut schedule = schedule.clone();
        let Some(&Some((first, steps, ages))) = self.cases.get(case) else {
            return schedule;
        };
        let mut since = vec![1; self.clocks.len()];
        schedule.rows.clear();
        for (evaluation, kind) in schedule.kinds.iter().enumerate() {
            let by_clock = since.iter().map(|age: &usize| age.clamp(&1, &ages) - 1);
            let row = by_clock.fold(evaluation.min(steps - 1), |row, age| row * ages + age);
            schedule.rows.push(first + row);
            for (age, clock) in since.iter_mut().zip(&self.clocks) {
                *age = if clock.contains(kind) { 1 } else { *age + 1 };
            }
        }
        schedule
    }
}

/// Ages that are told apart: as many as tables have room for.
fn ages(steps: usize, clocks: usize) -> usize {
    let rows = |ages: &usize| steps * ages.pow(clocks as u32);
    let most = OLDEST.min(steps.saturating_sub(1)).max(1);
    (1..=most).rev().find(|a| rows(a) <= MOST_ROWS).unwrap_or(1)
}

/// Whether a kind leaves a new value of what is weighed.
fn refreshes(plan: &Plan, kind: &Kind, name: &str) -> bool {
    let gates = plan.models.iter().flat_map(|model| {
        let sites = model.sites.iter();
        let named = sites.filter(|s| crate::plan::kinds::gate_name(&model.name, &s.name) == name);
        named.map(|s| kind.gating(&model.name, &s.gate))
    });
    let mut gates = gates.peekable();
    match gates.peek() {
        Some(_) => gates.any(|g| g != Gating::Reuse),
        None => !matches!(kind.guidance, GuidanceStep::Held | GuidanceStep::Fused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_between_its_neighbours() {
        let known = [None, Some(0.2), None, None, Some(0.6), None];
        let found = filled(&known);
        assert!((found[0] - 0.2).abs() < 1e-9 && (found[5] - 0.6).abs() < 1e-9);
        assert!((found[2] - 0.4).abs() < 1e-9 && (found[3] - 0.4).abs() < 1e-9);
        assert_eq!(filled(&[None, None]), [0.0, 0.0]);
    }

    #[test]
    fn rows_tell_evaluation_and_ages_apart() {
        let rows = Rows {
            clocks: vec![
                vec!["full".to_owned()],
                vec!["full".to_owned(), "half".to_owned()],
            ],
            cases: vec![None, Some((1, 4, 3))],
        };
        let schedule = Schedule {
            sampler: None,
            kinds: ["full", "reuse", "half", "reuse"]
                .map(str::to_owned)
                .to_vec(),
            rows: Vec::new(),
            adaptive: None,
        };
        assert_eq!(rows.of(0, &schedule), schedule);
        // Nine pairs of ages an evaluation: 1 1, 1 1, 2 2, 3 1.
        assert_eq!(rows.of(1, &schedule).rows, [1, 10, 23, 34]);
    }

    #[test]
    fn tables_do_not_grow_without_bound() {
        assert_eq!(ages(20, 3), 8);
        assert_eq!(ages(2, 3), 1);
        assert!(1000 * ages(1000, 3).pow(3) <= MOST_ROWS);
    }
}
