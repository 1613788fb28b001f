//! From a placed plan to what is run or read: the only code that changes a graph.
//!
//! A [`Form`] is a way to write a plan down. [`Gated`] is one graph with an `If` for each site;
//! [`Print`] is that graph as text.

mod describe;
mod gated;
pub mod print;
pub mod variants;

pub use gated::{
    Gated, MIN_OPSET, RewriteError, StripError, compiled_plan, is_compiled, metadata, names, strip,
};
pub use print::Print;
pub use variants::{Variant, VariantSet, Variants};

use crate::analysis::Analysis;
use crate::onnx::proto::ModelProto;
use crate::plan::layout::Layout;
use crate::plan::{ModelPlan, Plan};

/// A plan on a graph, checked: what a form is made from.
#[derive(Clone, Copy)]
pub struct Placement<'a, 'm> {
    /// The original.
    pub model: &'m ModelProto,
    /// Its analysis.
    pub analysis: &'a Analysis<'m>,
    /// The whole plan.
    pub plan: &'a Plan,
    /// The part of it for this model.
    pub model_plan: &'a ModelPlan,
    /// Where it stands in the graph.
    pub layout: &'a Layout,
}

/// A way to write a placed plan down.
pub trait Form {
    /// What it gives.
    type Output;

    /// Its name.
    fn name(&self) -> &'static str;

    /// Writes the plan down.
    ///
    /// # Errors
    /// [`RewriteError`] if the plan cannot be written in this form.
    fn emit(&self, placement: &Placement<'_, '_>) -> Result<Self::Output, RewriteError>;
}
