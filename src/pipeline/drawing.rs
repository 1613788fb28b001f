//! How pictures are drawn.

use super::PipelineError;
use crate::plan::Plan;
use crate::plan::parameter::{
    CONTROL_END, CONTROL_START, PROMPTED, Parameters, Value, control_is_on,
};

/// How to generate.
#[derive(Clone, Debug)]
pub struct Drawing {
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

impl Drawing {
    /// Rows of the batch that a picture takes: 2 with classifier-free guidance.
    #[must_use]
    pub fn rows(&self) -> usize {
        if self.guidance > 1.0 { 2 } else { 1 }
    }

    /// Parameters of a plan for these settings: its steps, whether there is a prompted half,
    /// and when control works.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new(self.steps);
        if self.rows() == 1 {
            parameters.set(&PROMPTED, Value::Half(None));
        }
        let (start, end) = self.control_window;
        if start > 0.0 {
            parameters.set(&CONTROL_START, Value::Share(start));
        }
        if end < 1.0 {
            parameters.set(&CONTROL_END, Value::Share(end));
        }
        parameters
    }

    /// Whether networks whose latents have one value for `whole` pixels can draw in this size.
    ///
    /// # Errors
    /// [`PipelineError::Refused`] if not.
    pub fn check_size(&self, whole: u32) -> Result<(), PipelineError> {
        let (width, height) = self.size;
        if width > 0 && height > 0 && width % whole == 0 && height % whole == 0 {
            return Ok(());
        }
        let what = format!("{width}x{height} pixels: give multiples of {whole}");
        Err(PipelineError::Refused { what })
    }

    /// Whether a compiled pipeline can draw so; `halves` is whether guidance takes two halves.
    ///
    /// # Errors
    /// [`PipelineError`] that says what to ask for.
    pub fn check_plan(&self, plan: &Plan, halves: bool) -> Result<(), PipelineError> {
        if plan.has_half() && !halves {
            let what = "the pipeline was compiled for guidance by two halves; give a guidance \
                        above 1, or compile for a model without guidance (prompted none)";
            return Err(PipelineError::Refused {
                what: what.to_owned(),
            });
        }
        Ok(())
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
