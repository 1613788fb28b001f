//! Why a pipeline could not be tuned, and what is no reason to stop.

use crate::compile::CompileError;
use crate::pipeline::PipelineError;
use crate::plan::KindError;

/// The ratio of latents that are lost, in dB.
pub(super) const WORST: f64 = -100.0;

/// Why a pipeline could not be tuned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum TuneError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error(transparent)]
    Kind(#[from] KindError),
    #[error("the runs could not be kept")]
    Keep(#[source] std::io::Error),
    #[error(
        "no schedule of {steps} evaluations computes as little as {budget:.1} % of the MACs; the first \
         evaluation computes everything: ask for less, or for more evaluations"
    )]
    Budget { steps: usize, budget: f64 },
}

/// A ratio; what was read may have grown without bound: nothing to keep, and nothing to stop for.
pub(super) fn bounded(ratio: Result<f64, PipelineError>) -> Result<f64, PipelineError> {
    match ratio {
        Err(PipelineError::NotFinite { .. }) => Ok(WORST),
        other => other,
    }
}
