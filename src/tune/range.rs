//! How many evaluations: under one budget more of them leave less for each.

use super::error::bounded;
use super::search::formulas;
use super::{Runs, Setting, TuneError, Tuner};
use crate::sampler::Method;

/// What one budget buys: MACs of a whole generation, in evaluations of the original.
#[derive(Clone, Copy, Debug)]
pub struct Allowance(pub f64);

impl Allowance {
    /// The share of its MACs that a generation of so many evaluations must save.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn save(self, evaluations: usize) -> f64 {
        (1.0 - self.0 / evaluations.max(1) as f64).max(0.0)
    }

    /// Evaluations that it buys whole.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn whole(self) -> usize {
        (self.0 + 1e-9).floor().max(1.0) as usize
    }

    /// Numbers of evaluations to try between two, the fewest that it buys whole and each a quarter more
    /// than the one before.
    #[must_use]
    pub fn tried(self, from: usize, to: usize) -> Vec<usize> {
        let mut all = vec![self.whole().clamp(from, to)];
        while let Some(&last) = all.last().filter(|last| **last < to) {
            all.push((last + last.div_ceil(4)).min(to));
        }
        all
    }
}

/// The case that goes furthest for an allowance, before anything is searched for.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Its position.
    pub case: usize,
    /// The original with the best sampler, in as many steps as the allowance buys whole: the sampler, the
    /// steps, the ratio in dB.
    pub plain: (Method, usize, f64),
    /// Ratio of each case that was tried with the best formula.
    pub tried: Vec<(String, f64)>,
}

impl Tuner<'_> {
    /// The sampler that goes furthest without caches, and with it the number of evaluations that goes
    /// furthest with the best formula.
    ///
    /// # Errors
    /// [`TuneError`] where the engine refuses, or no schedule fits the allowance.
    pub fn choose(
        &self,
        allowance: Allowance,
        runs: &mut dyn Runs,
        told: &mut dyn FnMut(&str, f64),
    ) -> Result<Choice, TuneError> {
        let mut lab = self.load(&self.lab.planned)?;
        let whole = allowance.whole();
        let mut plain: Option<(Method, usize, f64)> = None;
        for drawn in &self.cases {
            let method = drawn.case.sampler.method;
            if plain.is_some_and(|(best, ..)| best == method) {
                continue;
            }
            lab.set_schedule(Some(self.lab.schedule(&vec![Setting::FULL; whole])));
            let found = bounded(drawn.fewer(&mut lab, whole, &self.run))?;
            told(&format!("{method} {whole}"), found);
            if plain.is_none_or(|(.., best)| found > best) {
                plain = Some((method, whole, found));
            }
        }
        let none = || TuneError::Budget {
            steps: whole,
            budget: 100.0,
        };
        let plain = plain.ok_or_else(none)?;
        let (mut best, mut tried) = (None, Vec::new());
        for (case, drawn) in self.cases.iter().enumerate() {
            let (steps, name) = (drawn.case.steps, drawn.case.name());
            let save = allowance.save(steps);
            if drawn.case.sampler.method != plain.0 || self.least_of(steps) > 1.0 - save {
                continue;
            }
            let options = self.search(drawn, save, 0.0);
            let mut score = |schedule: &crate::plan::Schedule| {
                self.scored(drawn, (&name, schedule), &mut lab, runs)
            };
            let found = formulas(&self.lab, &options, &mut score, &mut |_| {})?;
            let Some(score) = found.first().map(|f| f.score) else {
                continue;
            };
            told(&name, score);
            tried.push((name, score));
            if best.is_none_or(|(_, known)| score > known) {
                best = Some((case, score));
            }
        }
        let (case, _) = best.ok_or_else(none)?;
        Ok(Choice { case, plain, tried })
    }

    /// The same for one case alone.
    #[must_use]
    pub fn only(mut self, case: usize) -> Self {
        if case < self.cases.len() {
            self.cases = vec![self.cases.swap_remove(case)];
            self.fresh = vec![self.fresh.swap_remove(case)];
            self.last = vec![self.last.swap_remove(case)];
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_buys_evaluations() {
        let third = Allowance(10.5);
        assert_eq!(third.whole(), 10);
        assert_eq!(third.tried(8, 30), [10, 13, 17, 22, 28, 30]);
        assert_eq!(third.tried(12, 15), [12, 15]);
        assert_eq!(third.tried(4, 6), [6]);
        assert!((third.save(21) - 0.5).abs() < 1e-9);
        assert!(third.save(8).abs() < 1e-9);
    }
}
