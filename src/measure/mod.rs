//! Proofs and measurements, each by running.

mod barriers;
pub mod bench;
mod compare;
mod executed;
mod feeds;
mod kept;
mod loadable;
mod oracle;
pub mod pairs;
mod part;
pub mod profile;
mod proofs;
mod rows;
mod timings;
mod verdict;
pub mod verify;

pub use feeds::Feeds;

use crate::analysis::{AnalysisError, UnfitLatent};
use crate::emit::StripError;
use crate::engine::{EngineError, TensorError};
use crate::onnx::{ReadError, WriteError};
use crate::plan::layout::LayoutError;
use crate::plan::{KindError, ModelPlan, Plan};
use crate::sidecar::SidecarError;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum MeasureError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error("the plan's kinds and schedules do not fit: {0}")]
    Kind(#[from] KindError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(
        "{file} was not made by `hgc compile`; give the original first, then what was compiled from it"
    )]
    NotCompiled { file: String },
    #[error("{file} is compiled, but its plan cannot be read")]
    DamagedPlan { file: String, source: StripError },
    #[error("{file} is compiled already; give the original first, then what was compiled from it")]
    CompiledOriginal { file: String },
    #[error(
        "{original} is not what {rewritten} was compiled from (graph hash {found}, the plan \
             has {expected})"
    )]
    OtherOriginal {
        original: String,
        rewritten: String,
        found: String,
        expected: String,
    },
    #[error("{file} {unfit}")]
    Latent { file: String, unfit: UnfitLatent },
    #[error("cannot analyse {file}")]
    Analysis { file: String, source: AnalysisError },
    #[error("{file}: the embedded plan does not fit")]
    Layout { file: String, source: LayoutError },
    #[error(
        "{file} runs the prompted half of a guided batch; a batch of {batch} has no halves, \
             give an even number"
    )]
    OddBatch { file: String, batch: u64 },
    #[error("the plan has {planned} steps, {asked} were asked for")]
    Steps { planned: usize, asked: usize },
    #[error("{file}: the model behind barriers could not be made")]
    Barriers {
        file: String,
        source: crate::emit::RewriteError,
    },
    #[error(
        "input {name:?}: its shape is not known; give all sizes, or an export that declares it"
    )]
    UnknownInput { name: String },
    #[error("input {name:?} has element type {elem_type}, which this tool cannot make up")]
    InputType { name: String, elem_type: i32 },
    #[error("output {name:?} is missing from a run")]
    MissingOutput { name: String },
    #[error(
        "{file}: output {name:?} has values that are not finite on made-up inputs, so nothing can \
         be proved; try another seed{}", if *.half { ", or the fp32 export" } else { "" }
    )]
    NotFinite {
        file: String,
        name: String,
        half: bool,
    },
    #[error("the profile {file} could not be read: {reason}")]
    Profile { file: String, reason: String },
    #[error("{what}")]
    File {
        what: String,
        source: std::io::Error,
    },
    #[error("{rewritten} has no {name}; give the folder that `hgc compile` wrote")]
    MissingFile { rewritten: String, name: String },
}

/// Refuses a batch that has no halves where a step runs one of them.
fn check_batch(plan: &Plan, model: &ModelPlan, file: &str, batch: u64) -> Result<(), MeasureError> {
    if model.halves && plan.guidance.schedule.has_half() && batch % 2 == 1 {
        let file = file.to_owned();
        return Err(MeasureError::OddBatch { file, batch });
    }
    Ok(())
}
