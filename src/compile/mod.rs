//! The compiler as one call: files in, files out.
//!
//! [`Inputs`] finds and reads the models, [`Project`] analyses and plans them together and rewrites
//! them; what comes out is a [`Compiled`], which can be written or run from memory.

mod caches;
mod error;
mod inputs;
mod installed;
pub mod output;
mod product;
mod project;
mod rewrite;
mod sizes;
mod solvers;
mod spread;
mod target;

pub use caches::Caches;
pub use error::CompileError;
pub use inputs::{InputError, Inputs, Source, controlnets_of, model_of, models_of};
pub use installed::{Installed, InstalledError};
pub use product::{Compiled, CompiledModel};
pub use project::Project;
pub use sizes::{Configured, SizesError};
pub use target::{Target, UnknownTarget};

use crate::plan::Plan;
use crate::plan::cost::Cost;
use crate::plan::layout::Layout;

/// How compiled models are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputForm {
    /// One file, kinds as branches.
    #[default]
    Gated,
    /// A file a kind, without control flow.
    Variants {
        /// Whether the sizes that the project assumes are written into them.
        fixed: bool,
    },
}

/// A plan with what it costs, by model.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Layouts, parallel to the inputs.
    pub layouts: Vec<Layout>,
    /// Costs, parallel to the inputs.
    pub costs: Vec<Cost>,
    /// Multiplying nodes of all inputs that no cost has, since a shape is unknown.
    pub uncounted: usize,
}
