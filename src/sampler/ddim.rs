//! DDIM without added noise (arXiv 2010.02502, equation 12 with eta 0).

use super::config::{Config, Prediction};
use super::{Noise, Solver, sum};

#[derive(Debug)]
pub(super) struct Ddim {
    /// By step: cumulated alpha before and after it.
    alphas: Vec<(f64, f64)>,
    prediction: Prediction,
    clip: Option<f64>,
}

impl Ddim {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub(super) fn new(config: &Config, alphas: Vec<f64>, timesteps: &[f64]) -> Self {
        let gap = (config.trained_steps / timesteps.len()) as f64;
        let end = match alphas.first() {
            Some(first) if !config.alpha_to_one => *first,
            _ => 1.0,
        };
        let at = |t: f64| if t < 0.0 { end } else { alphas[t as usize] };
        let pairs = timesteps.iter().map(|t| (at(*t), at(t - gap))).collect();
        Self {
            alphas: pairs,
            prediction: config.prediction,
            clip: config.clip,
        }
    }

    /// The first step whose latent has no share of the picture, if a noise prediction would have to
    /// be divided by that share.
    pub(super) fn silent(&self) -> Option<usize> {
        let silent = self.alphas.iter().position(|(before, _)| *before <= 0.0);
        silent.filter(|_| self.prediction == Prediction::Epsilon)
    }
}

impl Solver for Ddim {
    #[allow(clippy::cast_possible_truncation)]
    fn next(&mut self, step: usize, latent: &[f32], prediction: &[f32], _: Noise<'_>) -> Vec<f32> {
        let (before, after) = self.alphas[step];
        let (alpha, sigma) = (before.sqrt(), (1.0 - before).sqrt());
        let (mut picture, noise) = match self.prediction {
            Prediction::Epsilon => (
                sum(&[(1.0 / alpha, latent), (-sigma / alpha, prediction)]),
                prediction.to_vec(),
            ),
            Prediction::Velocity => (
                sum(&[(alpha, latent), (-sigma, prediction)]),
                sum(&[(alpha, prediction), (sigma, latent)]),
            ),
            Prediction::Sample => (
                prediction.to_vec(),
                sum(&[(1.0 / sigma, latent), (-alpha / sigma, prediction)]),
            ),
        };
        if let Some(bound) = self.clip {
            let bound = bound as f32;
            picture.iter_mut().for_each(|v| *v = v.clamp(-bound, bound));
        }
        sum(&[(after.sqrt(), &picture), ((1.0 - after).sqrt(), &noise)])
    }
}
