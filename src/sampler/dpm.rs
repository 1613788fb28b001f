//! DPM-Solver++ (2M) (arXiv 2211.01095, algorithm 2).

use super::config::{Config, FinalSigma};
use super::{Levels, Noise, Solver, sum};

#[derive(Debug)]
pub(super) struct DpmSolver {
    levels: Levels,
    steps: usize,
    order: usize,
    heun: bool,
    /// Whether the last step is of first order.
    plain_end: bool,
    /// The picture of the step before.
    before: Option<Vec<f32>>,
}

impl DpmSolver {
    pub(super) fn new(levels: Levels, config: &Config, steps: usize) -> Self {
        // The second order does not reach a level without noise.
        let plain_end = config.euler_at_final
            || (config.lower_order_final && steps < 15)
            || config.final_sigma == FinalSigma::Zero;
        Self {
            levels,
            steps,
            order: config.order,
            heun: config.alternative_form,
            plain_end,
            before: None,
        }
    }
}

impl Solver for DpmSolver {
    fn next(&mut self, step: usize, latent: &[f32], prediction: &[f32], _: Noise<'_>) -> Vec<f32> {
        let picture = self.levels.picture(step, latent, prediction);
        let (_, sigma) = self.levels.shares(step);
        let (alpha_to, sigma_to) = self.levels.shares(step + 1);
        let gap = self.levels.lambda(step + 1) - self.levels.lambda(step);
        let decay = (-gap).exp_m1();
        let first = sum(&[(sigma_to / sigma, latent), (-alpha_to * decay, &picture)]);
        let last = step + 1 == self.steps;
        let next = match &self.before {
            Some(before) if self.order > 1 && !(last && self.plain_end) => {
                let ratio = (self.levels.lambda(step) - self.levels.lambda(step - 1)) / gap;
                let weight = if self.heun {
                    alpha_to * (decay / gap + 1.0)
                } else {
                    -0.5 * alpha_to * decay
                } / ratio;
                sum(&[(1.0, &first), (weight, &picture), (-weight, before)])
            }
            _ => first,
        };
        self.before = Some(picture);
        next
    }
}
