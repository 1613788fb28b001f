//! What schedules that were not run are worth, by those that were.
//!
//! Ridge regression (in its dual form: there are fewer runs than features) on how stale each part of the model is
//! on each evaluation. It tells good neighbours of a schedule from bad ones well enough (correlation with the next
//! ten runs: 0.63 in the mean of 17 searches on four pipelines) that few of the bad ones need be run.

use super::Setting;
use super::linear::inverse;
use crate::plan::schedule::GuidanceStep;

/// Ages above this count as this.
const OLDEST: f64 = 6.0;
/// Scores count as no worse than this many dB under the best: what broke says little of what holds.
const DEPTH: f64 = 10.0;
/// Of so many runs, the last, something is learnt: solving grows with the cube of them.
const MOST: usize = 300;
/// The penalty of weights.
const RIDGE: f64 = 3.0;
/// Scales of features, which say how freely each is used: age on one evaluation, staleness on one evaluation,
/// moments over progress. Chosen on 17 searches.
const AGE: f64 = 0.1;
const STALE: f64 = 0.5;
const MOMENT: f64 = 0.5;
/// Squares of ages are larger than ages.
const SQUARE: f64 = 0.25;

/// A model of scores.
pub(super) struct Surrogate {
    /// Parts that blocks below the cut are divided into.
    parts: u8,
    runs: Vec<(Vec<f64>, f64)>,
    fitted: Option<Fitted>,
}

struct Fitted {
    /// Features that were learnt, less their mean.
    rows: Vec<Vec<f64>>,
    mean: Vec<f64>,
    weights: Vec<f64>,
    /// The inverse of what they have in common.
    inverse: Vec<Vec<f64>>,
    /// How much of a score a unit of the features' product stands for, in dB squared.
    scale: f64,
}

impl Surrogate {
    /// One that knows nothing, of schedules whose blocks run in so many parts.
    pub fn new(parts: u8) -> Self {
        Self {
            parts,
            runs: Vec::new(),
            fitted: None,
        }
    }

    /// Learns what a schedule is worth.
    pub fn add(&mut self, settings: &[Setting], score: f64) {
        self.runs.push((features(settings, self.parts), score));
        self.fitted = None;
    }

    /// Schedules that were learnt.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// What a schedule is worth in dB, above the mean of those that were run, and by how much that may be wrong (one
    /// standard deviation).
    pub fn worth(&mut self, settings: &[Setting]) -> (f64, f64) {
        let fitted = self.fitted.get_or_insert_with(|| Fitted::of(&self.runs));
        fitted.worth(&features(settings, self.parts))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Fitted {
    #[allow(clippy::cast_precision_loss)]
    fn of(runs: &[(Vec<f64>, f64)]) -> Self {
        let runs = &runs[runs.len().saturating_sub(MOST)..];
        let count = runs.len().max(1) as f64;
        let best = runs
            .iter()
            .map(|(_, score)| *score)
            .fold(f64::MIN, f64::max);
        let scores: Vec<f64> = runs.iter().map(|(_, s)| s.max(best - DEPTH)).collect();
        let middle = scores.iter().sum::<f64>() / count;
        let scores: Vec<f64> = scores.iter().map(|s| s - middle).collect();
        let width = runs.first().map_or(0, |(features, _)| features.len());
        let column = |i: usize| runs.iter().map(|(features, _)| features[i]).sum::<f64>() / count;
        let mean: Vec<f64> = (0..width).map(column).collect();
        let less = |(own, _): &(Vec<f64>, f64)| own.iter().zip(&mean).map(|(f, m)| f - m).collect();
        let rows: Vec<Vec<f64>> = runs.iter().map(less).collect();
        let row = |a: &Vec<f64>| rows.iter().map(|b| dot(a, b)).collect();
        let mut kernel: Vec<Vec<f64>> = rows.iter().map(row).collect();
        for (i, row) in kernel.iter_mut().enumerate() {
            row[i] += RIDGE;
        }
        let inverse = inverse(kernel);
        let dual: Vec<f64> = inverse.iter().map(|row| dot(row, &scores)).collect();
        let weight = |i: usize| rows.iter().zip(&dual).map(|(row, d)| row[i] * d).sum();
        Self {
            weights: (0..width).map(weight).collect(),
            scale: dot(&scores, &dual) / count,
            rows,
            mean,
            inverse,
        }
    }

    fn worth(&self, features: &[f64]) -> (f64, f64) {
        let own: Vec<f64> = features
            .iter()
            .zip(&self.mean)
            .map(|(f, m)| f - m)
            .collect();
        let shared: Vec<f64> = self.rows.iter().map(|row| dot(row, &own)).collect();
        let known: f64 = self
            .inverse
            .iter()
            .zip(&shared)
            .map(|(row, s)| s * dot(row, &shared))
            .sum();
        let unknown = (dot(&own, &own) - known).max(0.0);
        (
            dot(&own, &self.weights),
            (self.scale.max(0.0) * unknown).sqrt(),
        )
    }
}

/// How stale each part is on each evaluation, and moments of that over the generation.
#[allow(clippy::cast_precision_loss)]
fn features(settings: &[Setting], parts: u8) -> Vec<f64> {
    let mut all = Vec::new();
    let mut track = |runs: &dyn Fn(&Setting) -> bool| {
        let mut age = 0.0;
        let ages: Vec<f64> = settings
            .iter()
            .map(|setting| {
                age = if runs(setting) {
                    0.0
                } else {
                    f64::min(age + 1.0, OLDEST)
                };
                age
            })
            .collect();
        all.extend(ages.iter().map(|a| AGE * a));
        all.extend(ages.iter().map(|a| if *a > 0.0 { STALE } else { 0.0 }));
        let progress = |i: usize| 2.0 * i as f64 / (ages.len().max(2) - 1) as f64 - 1.0;
        for power in 0..3 {
            let scale = if power == 0 { 1.0 } else { MOMENT };
            let at = |value: fn(f64) -> f64| {
                let terms = ages.iter().enumerate();
                let sum: f64 = terms
                    .map(|(i, a)| value(*a) * progress(i).powi(power))
                    .sum();
                scale * sum
            };
            all.push(at(|age| age));
            all.push(at(|age| SQUARE * age * age));
            all.push(at(|age| if age > 0.0 { 1.0 } else { 0.0 }));
        }
    };
    for part in 0..parts {
        track(&|s| s.depth > part);
    }
    track(&|s| s.control);
    track(&|s| s.cross);
    track(&|s| s.guidance == GuidanceStep::Full);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn schedule(random: &mut ChaCha8Rng) -> Vec<Setting> {
        let mut at = |_| {
            let deep = random.random::<f64>() < 0.4;
            Setting {
                depth: if deep { crate::tune::DEEPEST } else { 0 },
                control: deep,
                cross: random.random(),
                guidance: match random.random() {
                    true => GuidanceStep::Full,
                    false => GuidanceStep::Held,
                },
            }
        };
        (0..20).map(&mut at).collect()
    }

    /// Stale blocks cost more the later they are read; cross-attention costs nothing.
    #[allow(clippy::cast_precision_loss)]
    fn hidden(settings: &[Setting]) -> f64 {
        let mut age = 0.0;
        let mut score = 40.0;
        for (i, setting) in settings.iter().enumerate() {
            age = if setting.deep() { 0.0 } else { age + 1.0 };
            score -= age * i as f64 / 20.0;
        }
        score
    }

    #[test]
    fn it_tells_good_schedules_from_bad_ones_after_few_runs() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut surrogate = Surrogate::new(1);
        let first = schedule(&mut random);
        surrogate.add(&first, hidden(&first));
        for _ in 0..39 {
            let run = schedule(&mut random);
            surrogate.add(&run, hidden(&run));
        }
        let pairs = (0..100).map(|_| (schedule(&mut random), schedule(&mut random)));
        let agree = pairs.filter(|(a, b)| {
            let told = surrogate.worth(a).0 > surrogate.worth(b).0;
            told == (hidden(a) > hidden(b))
        });
        let agree = agree.count();
        assert!(agree >= 80, "{agree} of 100");
        // What was run is known better than what was not.
        let doubt = surrogate.worth(&first).1;
        assert!(doubt < surrogate.worth(&schedule(&mut random)).1);
    }
}
