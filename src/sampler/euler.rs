//! Euler's method along the noise level (arXiv 2206.00364), with and without fresh noise.

use super::config::Prediction;
use super::{Levels, Noise, Solver, sum};

#[derive(Debug)]
pub(super) struct Euler {
    levels: Levels,
    ancestral: bool,
}

impl Euler {
    pub(super) fn new(levels: Levels, ancestral: bool) -> Self {
        Self { levels, ancestral }
    }
}

impl Solver for Euler {
    fn scaled(&self, step: usize, latent: &[f32]) -> Vec<f32> {
        let (alpha, _) = self.levels.shares(step);
        sum(&[(alpha, latent)])
    }

    /// Latents here grow with the noise: `picture + sigma * noise`.
    fn next(
        &mut self,
        step: usize,
        latent: &[f32],
        prediction: &[f32],
        noise: Noise<'_>,
    ) -> Vec<f32> {
        let (sigma, to) = (self.levels.sigmas[step], self.levels.sigmas[step + 1]);
        let (alpha, share) = self.levels.shares(step);
        let picture = match self.levels.prediction {
            Prediction::Epsilon => sum(&[(1.0, latent), (-sigma, prediction)]),
            Prediction::Velocity => sum(&[(alpha * alpha, latent), (-share, prediction)]),
            Prediction::Sample => prediction.to_vec(),
        };
        let (target, fresh) = if self.ancestral {
            let variance = to * to * (sigma * sigma - to * to) / (sigma * sigma);
            let up = variance.max(0.0).sqrt();
            ((to * to - up * up).max(0.0).sqrt(), up)
        } else {
            (to, 0.0)
        };
        let ratio = target / sigma;
        let moved = sum(&[(ratio, latent), (1.0 - ratio, &picture)]);
        if self.ancestral {
            let noise = noise(latent.len());
            return sum(&[(1.0, &moved), (fresh, &noise)]);
        }
        moved
    }
}
