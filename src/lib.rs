//! A compiler that inserts caches into exported diffusion graphs.
//!
//! A diffusion model is evaluated many times for one picture, and much of what it
//! computes hardly changes from one evaluation to the next. This crate reads the ONNX
//! files of a UNet and its ControlNets, decides which values to keep, and writes graphs
//! that compute them on some steps and read them on the others.
//!
//! # What the words mean
//!
//! A **site** is a set of values that separates a part of the graph from the rest: with
//! them given, nothing in that part has to run. Their value is what is cached.
//!
//! A **region** is that part: the nodes needed only to compute a site. It is derived from
//! the site by [`unstable::plan::region::derive`] and never listed by hand. A node that something
//! else needs as well is not in the region; a value that is needed outside only for its
//! shape does not hold its node back. Regions of two sites nest or are disjoint, so sites
//! form a forest.
//!
//! A **gate** is the boolean that says whether, on this step, regions run (*refresh*) or
//! their sites are read (*reuse*). Several sites may share one. It is a **schedule**: fixed
//! when the model is compiled, one entry a step, and stored in the graph as a small table
//! that the new input `hgc.step` indexes. A gate inside another one refreshes only where
//! the outer one does.
//!
//! A reuse gives the **held** value of the last refresh, or a **linear** forecast from the
//! last two.
//!
//! **Guidance** by step is full (both halves of the batch run), held (the prompted half
//! runs and the difference to the other is reused) or fused (the prompted half stands for
//! both). The graph itself slices the batch and restores it, so callers see old shapes.
//!
//! A [`Plan`] is all of this as data: sites, gates, guidance, and for each
//! candidate that was refused the reason. It is a TOML file that a person can edit, and it
//! is stored in the metadata of every model compiled from it. A **policy** is a named way
//! to make one.
//!
//! # The pipeline
//!
//! 1. [`onnx`] maps and decodes the files, and checks them. Weights stay in the map.
//! 2. [`graph`] indexes nodes and values under typed ids.
//! 3. [`analysis`] finds shapes, MACs, blocks, attention and skip connections,
//!    what each value depends on, and whether the file is a UNet, a ControlNet or both merged. It
//!    goes by data flow and operators; names only make labels.
//! 4. [`plan`] makes a plan by a [policy], or takes one that was edited, and
//!    [places](unstable::plan::layout::Layout) it on the graph, where every rule is checked.
//! 5. [`emit`] turns each region into the then-branch of an `If` whose
//!    else-branch returns the caches. It is the only code that changes a graph, and
//!    [`strip`](unstable::emit::strip) undoes it.
//! 6. [`Transaction`](unstable::onnx::Transaction) writes all files or none.
//!
//! # The front
//!
//! [`Compiler`] is the pipeline as one call, [`Compiled`] what it gives:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let compiled = hgc::Compiler::new(20).compile("sd15".as_ref())?;
//! println!("{:.1} % of the MACs are saved", 100.0 * compiled.saved());
//! compiled.write("sd15-cached".as_ref(), false, &mut |_, _| {})?;
//! # Ok(())
//! # }
//! ```
//!
//! A compiled model is run with a [`CachedSession`], or by anything else that passes its caches along.
//! What is behind that is in [`unstable`]: it changes without notice.
//!
//! # What a rewrite keeps
//!
//! Old inputs and outputs keep names, order, types and dynamic dimensions; `hgc.step`, the
//! `hgc.past.*` inputs and the `hgc.present.*` outputs come after them. No weight and no
//! operator that multiplies is duplicated. What the compiler does not understand it leaves
//! as it is.

mod compiler;
mod nearest;

/// Everything that the front is made of. Nothing here is promised: it changes with any version.
// The modules lie beside this file, as the stages of the pipeline; they are declared here so that what
// is public in them is not public at the root.
#[path = "."]
pub mod unstable {
    pub mod analysis;
    pub mod compile;
    pub mod contained;
    pub mod convention;
    pub mod emit;
    #[cfg(feature = "engine")]
    pub mod engine;
    #[cfg(feature = "eval")]
    pub mod eval;
    pub mod graph;
    pub mod limited;
    #[cfg(feature = "engine")]
    pub mod measure;
    pub mod onnx;
    #[cfg(feature = "pipeline")]
    pub mod pipeline;
    pub mod plan;
    pub mod sampler;
    pub mod sidecar;
    #[cfg(feature = "pipeline")]
    pub mod tune;
}

#[cfg(feature = "engine")]
use unstable::engine;
use unstable::{
    analysis, compile, contained, convention, emit, graph, limited, onnx, plan, sampler, sidecar,
};
#[cfg(feature = "pipeline")]
use unstable::{pipeline, tune};

#[doc(inline)]
pub use analysis::shapes::Sizes;
#[doc(inline)]
pub use compile::output::OutputError;
#[doc(inline)]
pub use compile::{CompileError, Compiled, InputError, SizesError, Target};
#[doc(inline)]
pub use compiler::{Compiler, CompilerError};
#[cfg(feature = "engine")]
#[doc(inline)]
pub use engine::{
    CachedSession, CancelHandle, DType, DeviceTensor, Engine, EngineError, EngineRequest, Feed,
    Provider, Session, SessionOptions, Tensor,
};
#[cfg(feature = "pipeline")]
#[doc(inline)]
pub use pipeline::Folder as Pipeline;
#[doc(inline)]
pub use plan::Plan;
#[doc(inline)]
pub use plan::parameter::{self, ParameterError, Parameters};
#[doc(inline)]
pub use plan::policy::{self, Policy};
