//! What policies cost: pictures of original and cached pipelines compared over a set of
//! scenes.
//!
//! [`Set`] is what is drawn and, where that is known, what the pictures must show.
//! A [`Subject`] is a policy with parameters, a plan, a rule that skips evaluations, or the original in
//! fewer steps. [`Evaluation`] draws
//! the set with the original once and with every subject, and [`compare`] says which policy is ahead at equal compute.

mod batches;
pub mod compare;
mod decided;
mod draw;
pub mod score;
pub mod sensitivity;
mod set;
mod skipping;
pub mod statistics;
mod subject;

pub use batches::batches;
pub use draw::{EvalOptions, Evaluation, Measured, Quality};
pub use set::{Scene, Set, SetError};
pub use skipping::{SKIPS, Skip, Skipper};
pub use subject::{FEWER, PLAN, Subject, Way};

use crate::compile::CompileError;
use crate::pipeline::PipelineError;

/// Why a pipeline cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum EvalError {
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(
        "the pictures are {}x{} where {}x{} were expected; block_out_channels in \
         vae_decoder/config.json must say how far the VAE scales", found.0, found.1, expected.0, expected.1
    )]
    Decoded {
        found: (u32, u32),
        expected: (u32, u32),
    },
    #[error("scene {scene} is {width}x{height}, the pictures are {found}", found = format!("{}x{}", found.0, found.1))]
    Size {
        scene: usize,
        width: u32,
        height: u32,
        found: (u32, u32),
    },
}
