//! `UniPC` with a data prediction, first and second order (arXiv 2302.04867, algorithms 5
//! to 8).

use super::config::Config;
use super::{Levels, Noise, Solver, sum};

#[derive(Debug)]
pub(super) struct UniPc {
    levels: Levels,
    steps: usize,
    order: usize,
    first_form: bool,
    lower_order_final: bool,
    uncorrected: Vec<usize>,
    /// Pictures of the steps before, the latest last.
    pictures: Vec<Vec<f32>>,
    /// The latent that the last prediction step began with, and its order.
    last: Option<(Vec<f32>, usize)>,
}

/// What predictor and corrector share of a step between two levels.
struct Gap {
    /// `-h`, the way in lambda.
    hh: f64,
    /// `exp(hh) - 1`.
    phi: f64,
    /// `B(h)`.
    scale: f64,
}

impl UniPc {
    pub(super) fn new(levels: Levels, config: &Config, steps: usize) -> Self {
        Self {
            levels,
            steps,
            order: config.order,
            first_form: config.alternative_form,
            lower_order_final: config.lower_order_final,
            uncorrected: config.uncorrected.clone(),
            pictures: Vec::new(),
            last: None,
        }
    }

    fn gap(&self, from: usize, to: usize) -> Gap {
        let hh = self.levels.lambda(from) - self.levels.lambda(to);
        let phi = hh.exp_m1();
        let scale = if self.first_form { hh } else { phi };
        Gap { hh, phi, scale }
    }

    /// The step of first order from one level to the next.
    fn plain(&self, to: usize, latent: &[f32], picture: &[f32], gap: &Gap) -> Vec<f32> {
        let (_, sigma) = self.levels.shares(to - 1);
        let (alpha_to, sigma_to) = self.levels.shares(to);
        sum(&[(sigma_to / sigma, latent), (-alpha_to * gap.phi, picture)])
    }

    /// Slope of the pictures over lambda in units of the gap: the one before `at`
    /// against the one at it.
    fn ratio(&self, at: usize, gap: &Gap) -> f64 {
        (self.levels.lambda(at - 1) - self.levels.lambda(at)) / -gap.hh
    }

    /// Corrects the latent of `step`, now that the model has seen it.
    fn corrected(&self, step: usize, picture: &[f32]) -> Option<Vec<f32>> {
        let (from, order) = self.last.as_ref()?;
        if step == 0 || self.uncorrected.contains(&(step - 1)) {
            return None;
        }
        let gap = self.gap(step - 1, step);
        let before = self.pictures.last()?;
        let plain = self.plain(step, from, before, &gap);
        let (alpha, _) = self.levels.shares(step);
        let scale = -alpha * gap.scale;
        if *order == 1 {
            return Some(sum(&[
                (1.0, &plain),
                (0.5 * scale, picture),
                (-0.5 * scale, before),
            ]));
        }
        let earlier = &self.pictures[self.pictures.len() - 2];
        let ratio = self.ratio(step - 1, &gap);
        // [1 1; ratio 1] [a b] = [b1 b2]
        let phi_2 = gap.phi / gap.hh - 1.0;
        let phi_3 = phi_2 / gap.hh - 0.5;
        let (b1, b2) = (phi_2 / gap.scale, 2.0 * phi_3 / gap.scale);
        let a = (b2 - b1) / (ratio - 1.0);
        let b = b1 - a;
        Some(sum(&[
            (1.0, &plain),
            (scale * a / ratio, earlier),
            (scale * b, picture),
            (-scale * (a / ratio + b), before),
        ]))
    }
}

impl Solver for UniPc {
    fn next(&mut self, step: usize, latent: &[f32], prediction: &[f32], _: Noise<'_>) -> Vec<f32> {
        let picture = self.levels.picture(step, latent, prediction);
        let latent = self
            .corrected(step, &picture)
            .unwrap_or_else(|| latent.to_vec());
        let left = if self.lower_order_final {
            self.steps - step
        } else {
            self.order
        };
        let order = self.order.min(left).min(self.pictures.len() + 1);
        let gap = self.gap(step, step + 1);
        let plain = self.plain(step + 1, &latent, &picture, &gap);
        let next = match self.pictures.last() {
            Some(before) if order > 1 => {
                let (alpha, _) = self.levels.shares(step + 1);
                let weight = -0.5 * alpha * gap.scale / self.ratio(step, &gap);
                sum(&[(1.0, &plain), (weight, before), (-weight, &picture)])
            }
            _ => plain,
        };
        self.pictures.push(picture);
        if self.pictures.len() > 2 {
            self.pictures.remove(0);
        }
        self.last = Some((latent, order));
        next
    }
}
