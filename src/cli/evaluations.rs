//! How many evaluations are meant: as told, or as the pipeline's scheduler makes of steps.

use std::path::Path;

use anyhow::{Context, bail};
use hgc::unstable::limited;
use hgc::unstable::sampler::evaluations::{Asked, evaluations};

use super::args::share;
use super::terminal::{note, warn};

/// Options for the number of evaluations.
#[derive(Clone, Debug, clap::Args)]
pub struct EvaluationArgs {
    /// Model evaluations in a generation
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Steps as a pipeline is asked for them (num_inference_steps): the evaluations that its
    /// scheduler/scheduler_config.json makes of them
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    pub inference_steps: Option<usize>,
    /// Of these steps, the share that img2img runs
    #[arg(long, value_name = "SHARE", requires = "inference_steps", value_parser = share)]
    strength: Option<f64>,
    /// Of these steps, the share before a refiner takes over (denoising_end of SDXL)
    #[arg(
        long,
        value_name = "SHARE",
        requires = "inference_steps",
        conflicts_with = "strength",
        value_parser = share
    )]
    denoising_end: Option<f64>,
}

impl EvaluationArgs {
    /// The evaluations that are meant for `pipeline`; none where nothing was told.
    pub fn of(&self, pipeline: &Path) -> anyhow::Result<Option<usize>> {
        let file = pipeline.join("scheduler").join("scheduler_config.json");
        let asked = |steps| Asked {
            steps,
            strength: self.strength.unwrap_or(1.0),
            end: self.denoising_end.unwrap_or(1.0),
        };
        let count = |steps| -> anyhow::Result<(String, usize)> {
            let text = limited::read_text(&file).with_context(|| file.display().to_string())?;
            evaluations(&text, asked(steps)).with_context(|| file.display().to_string())
        };
        if let Some(steps) = self.inference_steps {
            if !file.is_file() {
                bail!(
                    "there is no {}, so nothing says what the sampler makes of {steps} steps; give \
                     the evaluations with --steps",
                    file.display()
                )
            }
            let (class, found) = count(steps)?;
            note(format_args!("{class}: {found} evaluations"));
            return Ok(Some(found));
        }
        if let Some(steps) = self.steps.filter(|_| file.is_file()) {
            // A configuration that cannot be read is told where it is needed.
            if let Ok((class, found)) = count(steps)
                && found != steps
            {
                warn(format_args!(
                    "{class} of this pipeline makes {found} evaluations of {steps} steps, and --steps \
                     counts evaluations; if callers ask for {steps} steps, give --inference-steps {steps}"
                ));
            }
        }
        Ok(self.steps)
    }
}
