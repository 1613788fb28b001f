//! How pictures are drawn.

use crate::plan::policy::{Options, control_is_on};

/// How to generate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Denoising steps.
    pub steps: usize,
    /// Guidance scale; 1 or less runs the prompted half alone.
    pub guidance: f64,
    /// Strength of all ControlNets.
    pub control_scale: f32,
    /// Shares of the generation between which ControlNets work.
    pub control_window: (f64, f64),
    /// Width and height of the pictures in pixels.
    pub size: (u32, u32),
}

impl Settings {
    /// Rows of the batch that a picture takes: 2 with classifier-free guidance.
    #[must_use]
    pub fn rows(&self) -> usize {
        if self.guidance > 1.0 { 2 } else { 1 }
    }

    /// Options of a plan for these settings: its steps, whether there is a prompted half,
    /// and when control works.
    #[must_use]
    pub fn plan_options(&self) -> Options {
        let mut options = Options::new(self.steps);
        options.prompted = options.prompted.filter(|_| self.rows() > 1);
        (options.control_start, options.control_end) = self.control_window;
        options
    }

    /// Strength of the ControlNets on a step.
    pub(super) fn scale_at(&self, step: usize) -> f32 {
        if control_is_on(step, self.steps, self.control_window) {
            self.control_scale
        } else {
            0.0
        }
    }
}
