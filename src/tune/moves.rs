//! How latent and timestep move from one evaluation to the next, and what each of them changes.

use crate::pipeline::{Evaluator, Networks, PipelineError, Step};

/// By evaluation: root mean squares over all pictures.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// How far the latent moves from the evaluation before.
    latent: Vec<f64>,
    /// How far the timestep moves.
    time: Vec<f64>,
    /// Share of what the prediction changes that is the latent's.
    share: Vec<f64>,
}

impl Moves {
    /// What a move of the latent and of the timestep by 1 counts: so that a single move counts as reading on
    /// that evaluation does to the end (`ends`), to the power of `weight`, and all of them 1 in the mean.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn tables(&self, ends: &[f64], weight: f64) -> (Vec<f64>, Vec<f64>) {
        let worth: Vec<f64> = ends.iter().map(|e| e.max(1e-6).powf(weight)).collect();
        let after = &worth[1.min(worth.len())..];
        let mean = after.iter().sum::<f64>() / after.len().max(1) as f64;
        let part = |moved: f64, share: f64, worth: f64| match moved > 1e-9 {
            true => worth / mean.max(1e-12) * share / moved,
            false => 0.0,
        };
        let all = || {
            self.latent
                .iter()
                .zip(&self.time)
                .zip(&self.share)
                .zip(&worth)
        };
        let latent = all().map(|(((latent, _), share), worth)| part(*latent, *share, *worth));
        let time = all().map(|(((_, time), share), worth)| part(*time, 1.0 - share, *worth));
        (latent.collect(), time.collect())
    }
}

/// Watches the original on its way. It evaluates once more between two evaluations: with the latent of one
/// and the timestep of the other.
pub struct Watch {
    sums: Vec<[f64; 4]>,
    before: Option<(Vec<f32>, f64, Vec<f32>)>,
    batches: usize,
}

impl Watch {
    /// For generations of so many evaluations.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self {
            sums: vec![[0.0; 4]; steps],
            before: None,
            batches: 0,
        }
    }

    /// Begins a generation.
    pub fn begin(&mut self) {
        self.before = None;
        self.batches += 1;
    }

    /// What was seen.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn moves(&self) -> Moves {
        let batches = self.batches.max(1) as f64;
        let mut moves = Moves::default();
        for [latent, time, by_latent, by_time] in &self.sums {
            moves.latent.push((latent / batches).sqrt());
            moves.time.push(time / batches);
            let (by_latent, by_time) = (by_latent.sqrt(), by_time.sqrt());
            let both = by_latent + by_time;
            moves
                .share
                .push(if both > 0.0 { by_latent / both } else { 1.0 });
        }
        moves
    }
}

/// Mean square of a difference.
#[allow(clippy::cast_precision_loss)]
fn square(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    sum / a.len().max(1) as f64
}

impl Evaluator for Watch {
    fn predict(
        &mut self,
        index: usize,
        step: &Step<'_>,
        networks: &mut Networks,
    ) -> Result<Vec<f32>, PipelineError> {
        let found = networks.predict(step)?;
        if let (Some((latent, time, prediction)), Some(sums)) =
            (&self.before, self.sums.get_mut(index))
        {
            let between = networks.predict(&Step {
                timestep: *time,
                ..*step
            })?;
            sums[0] += square(step.latent, latent);
            sums[1] += (step.timestep - time).abs();
            sums[2] += square(&between, prediction);
            sums[3] += square(&found, &between);
        }
        self.before = Some((step.latent.to_vec(), step.timestep, found.clone()));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_move_counts_what_it_does_to_the_end() {
        let moves = Moves {
            latent: vec![0.0, 0.5, 0.25],
            time: vec![0.0, 50.0, 100.0],
            share: vec![1.0, 0.75, 1.0],
        };
        let (latent, time) = moves.tables(&[1.0, 0.1, 0.3], 1.0);
        // Evaluation 1 counts half of the mean, evaluation 2 one and a half.
        assert!((latent[1] * 0.5 + time[1] * 50.0 - 0.5).abs() < 1e-9);
        assert!((latent[2] * 0.25 - 1.5).abs() < 1e-9 && time[2].abs() < 1e-9);
        assert!(latent[0].abs() < 1e-9);
        let (even, _) = moves.tables(&[1.0, 0.1, 0.3], 0.0);
        assert!((even[2] * 0.25 - 1.0).abs() < 1e-9);
    }
}
