//! Rivals that skip whole evaluations of UNet and ControlNets: they need no compiler, and no graph.
//!
//! `easycache` (arXiv 2507.02860) decides while it runs: the output changes by about as much for each
//! change of the latent as it did last, and while the sum of what is expected stays under a threshold
//! the last output stands. `spectrum` computes every n-th evaluation and forecasts the others: a ridge
//! regression of the outputs so far over Chebyshev polynomials of the time.

use crate::nearest::suggestion;
use crate::pipeline::{Evaluator, Networks, PipelineError, Step};
use crate::tune::linear::solve;

/// A rule by which evaluations are skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skip {
    /// While the expected change is below this share of the output.
    EasyCache {
        /// From 0 up.
        threshold: f64,
    },
    /// All but every `interval`-th.
    Spectrum {
        /// From 1 up.
        interval: usize,
    },
}

const EASY: &str = "easycache";
const SPECTRUM: &str = "spectrum";

/// Names of the rules.
pub const SKIPS: [&str; 2] = [EASY, SPECTRUM];

/// Thresholds and intervals that are tried where none is named, the usual one first.
const THRESHOLDS: [&str; 5] = ["0.1", "0.05", "0.2", "0.3", "0.5"];
const INTERVALS: [&str; 3] = ["3", "2", "4"];

/// Degree of the polynomials, and what the regression is damped with.
const DEGREE: usize = 4;
const DAMPING: f64 = 0.1;

/// The share of the evaluations, from the first, that is always computed.
const WARM_UP: f64 = 0.15;

impl Skip {
    /// Reads `easycache`, `easycache:threshold=0.1|0.2` or `spectrum:interval=2|3`; none where another
    /// name stands. With `grid` a bare name stands for all that is usually tried.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str, grid: bool) -> Option<Result<Vec<(String, Self)>, String>> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let (key, usual): (&str, &[&str]) = match name {
            EASY => ("threshold", &THRESHOLDS),
            SPECTRUM => ("interval", &INTERVALS),
            _ => return None,
        };
        let values: Vec<&str> = match rest.split_once('=') {
            None if rest.is_empty() => usual[..if grid { usual.len() } else { 1 }].to_vec(),
            Some((found, values)) if found == key => values.split('|').collect(),
            _ => {
                let found = rest.split('=').next().unwrap_or_default();
                let meant = suggestion(found, std::iter::once(key));
                return Some(Err(format!(
                    "{text:?}: {name} has no parameter {found:?}{meant}; it has {key}"
                )));
            }
        };
        let read = |value: &str| -> Result<(String, Self), String> {
            let wrong = || format!("{text:?}: {value:?} is no value for {key}");
            let rule = match name {
                EASY => {
                    let threshold: f64 = value.parse().map_err(|_| wrong())?;
                    (threshold.is_finite() && threshold >= 0.0)
                        .then_some(Self::EasyCache { threshold })
                }
                _ => {
                    let interval: usize = value.parse().map_err(|_| wrong())?;
                    (interval > 0).then_some(Self::Spectrum { interval })
                }
            };
            let label = format!("{name}:{key}={value}");
            rule.map(|rule| (label, rule)).ok_or_else(wrong)
        };
        Some(values.into_iter().map(read).collect())
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EasyCache { .. } => EASY,
            Self::Spectrum { .. } => SPECTRUM,
        }
    }
}

/// One generation by a rule.
pub struct Skipper {
    rule: Skip,
    steps: usize,
    /// Evaluations that were computed, and what they gave.
    computed: Vec<(usize, Vec<f32>)>,
    /// The latent of the last evaluation.
    latent: Vec<f32>,
    /// Change of the output for a change of the latent, when both were last known.
    rate: Option<f64>,
    /// The change that is expected since the last output.
    expected: f64,
}

impl Skipper {
    /// A generation of so many steps.
    #[must_use]
    pub fn new(rule: Skip, steps: usize) -> Self {
        Self {
            rule,
            steps,
            computed: Vec::new(),
            latent: Vec::new(),
            rate: None,
            expected: 0.0,
        }
    }

    /// Evaluations that were computed.
    #[must_use]
    pub fn computed(&self) -> usize {
        self.computed.len()
    }

    /// Whether an evaluation is skipped.
    #[allow(clippy::cast_precision_loss)]
    fn skips(&mut self, index: usize, latent: &[f32]) -> bool {
        let warm = index < 2 || (index as f64) < WARM_UP * self.steps as f64;
        let known = self.computed.len() >= 2;
        if warm || !known || index + 1 == self.steps {
            return false;
        }
        match self.rule {
            Skip::EasyCache { threshold } => {
                let (Some(rate), Some((_, last))) = (self.rate, self.computed.last()) else {
                    return false;
                };
                self.expected += rate * distance(latent, &self.latent) / size(last).max(1e-12);
                self.expected < threshold
            }
            Skip::Spectrum { interval } => {
                let last = self.computed.last().map_or(0, |(index, _)| *index);
                index - last < interval
            }
        }
    }

    /// The output that stands for one that is skipped.
    fn forecast(&self, index: usize) -> Vec<f32> {
        let weights = match self.rule {
            Skip::EasyCache { .. } => Vec::new(),
            Skip::Spectrum { .. } => {
                let known: Vec<usize> = self.computed.iter().map(|(index, _)| *index).collect();
                regression(&known, index, self.steps)
            }
        };
        let Some((_, last)) = self.computed.last() else {
            return Vec::new();
        };
        if weights.len() != self.computed.len() {
            return last.clone();
        }
        let mut sum = vec![0f32; last.len()];
        for (weight, (_, output)) in weights.iter().zip(&self.computed) {
            for (sum, value) in sum.iter_mut().zip(output) {
                #[allow(clippy::cast_possible_truncation)]
                let weight = *weight as f32;
                *sum += weight * value;
            }
        }
        sum
    }

    /// Notes what an evaluation gave.
    fn keep(&mut self, index: usize, latent: &[f32], output: Vec<f32>) {
        if let Some((before, last)) = self.computed.last()
            && before + 1 == index
        {
            let moved = distance(latent, &self.latent);
            self.rate = (moved > 0.0).then(|| distance(&output, last) / moved);
        }
        self.expected = 0.0;
        self.computed.push((index, output));
    }
}

impl Evaluator for Skipper {
    fn predict(
        &mut self,
        index: usize,
        step: &Step<'_>,
        networks: &mut Networks,
    ) -> Result<Vec<f32>, PipelineError> {
        let output = if self.skips(index, step.latent) {
            self.forecast(index)
        } else {
            let output = networks.predict(step)?;
            self.keep(index, step.latent, output.clone());
            output
        };
        self.latent.clear();
        self.latent.extend(step.latent);
        Ok(output)
    }
}

#[allow(clippy::cast_precision_loss)]
fn size(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
    sum / values.len().max(1) as f64
}

#[allow(clippy::cast_precision_loss)]
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    let sum: f64 = pairs.map(|(a, b)| f64::from((a - b).abs())).sum();
    sum / a.len().max(1) as f64
}

/// Weights of the outputs on `known` evaluations in the value at `index` of the damped least-squares
/// polynomial through them.
fn regression(known: &[usize], index: usize, steps: usize) -> Vec<f64> {
    let terms = (DEGREE + 1).min(known.len());
    #[allow(clippy::cast_precision_loss)]
    let time = |index: usize| 2.0 * index as f64 / (steps.max(2) - 1) as f64 - 1.0;
    let features: Vec<Vec<f64>> = known.iter().map(|i| chebyshev(time(*i), terms)).collect();
    let mut normal = vec![vec![0.0; terms]; terms];
    for row in &features {
        for (i, a) in row.iter().enumerate() {
            for (j, b) in row.iter().enumerate() {
                normal[i][j] += a * b;
            }
        }
    }
    for (i, row) in normal.iter_mut().enumerate() {
        row[i] += DAMPING;
    }
    let solved = solve(normal, &chebyshev(time(index), terms));
    let dot = |row: &Vec<f64>| row.iter().zip(&solved).map(|(a, b)| a * b).sum();
    features.iter().map(dot).collect()
}

/// The first Chebyshev polynomials at `t`.
fn chebyshev(t: f64, terms: usize) -> Vec<f64> {
    let mut all = vec![1.0, t];
    while all.len() < terms {
        let n = all.len();
        all.push(2.0 * t * all[n - 1] - all[n - 2]);
    }
    all.truncate(terms);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_continued() {
        let known = [0, 1, 2, 3, 6, 9];
        let weights = regression(&known, 10, 20);
        let value: f64 = known.iter().zip(&weights).map(|(i, w)| *i as f64 * w).sum();
        // Damped: near to it, and short of it.
        assert!((8.0..10.5).contains(&value), "{value}");
    }

    #[test]
    fn rules_are_read() {
        let two = Skip::parse("spectrum:interval=2|4", false)
            .unwrap()
            .unwrap();
        assert_eq!(two[1].0, "spectrum:interval=4");
        assert_eq!(two[1].1, Skip::Spectrum { interval: 4 });
        let usual = Skip::parse("easycache", false).unwrap().unwrap();
        assert_eq!(
            usual,
            [(
                "easycache:threshold=0.1".to_owned(),
                Skip::EasyCache { threshold: 0.1 }
            )]
        );
        assert!(Skip::parse("easycache", true).unwrap().unwrap().len() > 2);
        assert!(Skip::parse("deepcache", false).is_none());
        for (text, part) in [
            ("easycache:treshold=1", "did you mean threshold?"),
            ("spectrum:interval=0", "no value for interval"),
            ("easycache:threshold=x", "no value for threshold"),
        ] {
            let error = Skip::parse(text, false).unwrap().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_still_latent_is_skipped_and_a_moving_one_is_not() {
        let drawn = |change: f32| {
            let mut skipper = Skipper::new(Skip::EasyCache { threshold: 0.1 }, 20);
            for index in 0..20 {
                let latent = [change * index as f32; 4];
                if !skipper.skips(index, &latent) {
                    skipper.keep(index, &latent, vec![1.0 + latent[0]; 4]);
                }
                skipper.latent = latent.to_vec();
            }
            skipper.computed()
        };
        assert!(drawn(1e-4) < 6);
        assert!(drawn(1.0) > 12, "{}", drawn(1.0));
    }
}
