//! Why models cannot be compiled.

use super::inputs::Inputs;
use crate::analysis::shapes::Sizes;
use crate::analysis::{Analysis, AnalysisError, Role, UnfitLatent};
use crate::emit::RewriteError;
use crate::plan::KindError;
use crate::plan::layout::LayoutError;
use crate::plan::parameter::ParameterError;

/// Why models cannot be compiled together.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum CompileError {
    #[error("cannot analyse {file}")]
    Analysis { file: String, source: AnalysisError },
    #[error("{file} is {found}; give a UNet, or a UNet with ControlNets merged into it, first")]
    NotUnet { file: String, found: String },
    #[error("{file} {unfit}")]
    Latent { file: String, unfit: UnfitLatent },
    #[error("{file} is {found}; only ControlNets come after the UNet")]
    NotControlNet { file: String, found: String },
    #[error("{unet} is the UNet and {file} is {found}: give the UNet first")]
    Swapped {
        file: String,
        found: String,
        unet: String,
    },
    #[error("{file} is compiled already; give the original, or `hgc strip` it first")]
    Compiled { file: String },
    #[error("{controlnet} gives {given} residuals, but {unet} takes {taken}; they are not a pair")]
    Residuals {
        controlnet: String,
        given: usize,
        unet: String,
        taken: usize,
    },
    #[error(
        "the plan has no model for {file} (graph hash {hash}); it was made for another \
             graph: make a new plan with `hgc plan`"
    )]
    Hash { file: String, hash: String },
    #[error(
        "the plan lets {controlnet} run half of the batch on H and U steps, but {unet}, which \
             reads its residuals, runs whole: set halves = true for both, or false for the \
             ControlNet"
    )]
    Halves { unet: String, controlnet: String },
    #[error(
        "caches take {bytes:.1} MB, more than {budget:.1} MB (--cache-budget): {what}; allow more"
    )]
    Caches {
        bytes: f64,
        budget: f64,
        what: &'static str,
    },
    #[error("the plan is for {planned} models, {given} were given")]
    Count { planned: usize, given: usize },
    #[error("the plan calls {file} {found:?}; it must be {expected:?}")]
    Name {
        file: String,
        found: String,
        expected: String,
    },
    #[error("{file}: the rewritten graph is not valid; please report this")]
    Invalid {
        file: String,
        source: crate::onnx::GraphError,
    },
    #[error("{file}: the plan does not fit")]
    Layout { file: String, source: LayoutError },
    #[error("the plan's kinds and schedules do not fit: {0}")]
    Kind(#[from] KindError),
    #[error("{file}: the plan does not fit under its schedule {schedule}")]
    Schedule {
        file: String,
        schedule: usize,
        source: LayoutError,
    },
    #[error("{file}: cannot be rewritten")]
    Rewrite { file: String, source: RewriteError },
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error("cut is {cut}, but the UNet has {skips} skip connections")]
    Cut { cut: usize, skips: usize },
    #[error(
        "the batch is {batch}; {policy} runs the prompted half of a guided batch, give an even \
         one, or prompted none if the model runs without guidance"
    )]
    OddBatch { batch: u64, policy: &'static str },
}

impl Inputs {
    /// The error of a first model that is no UNet; names the UNet where it comes later.
    pub(super) fn not_a_unet(&self, file: String, found: String, sizes: Sizes) -> CompileError {
        let unet = self.sources.iter().skip(1).find(|source| {
            let analysis = Analysis::of(&source.model.proto, sizes);
            analysis.is_ok_and(|a| matches!(a.role, Role::Unet | Role::Merged))
        });
        match unet.map(super::inputs::Source::file) {
            Some(unet) => CompileError::Swapped { file, found, unet },
            None => CompileError::NotUnet { file, found },
        }
    }
}

impl CompileError {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn caches(bytes: u64, budget: u64, what: &'static str) -> Self {
        Self::Caches {
            bytes: bytes as f64 / 1e6,
            budget: budget as f64 / 1e6,
            what,
        }
    }
}
