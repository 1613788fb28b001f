//! tract's inference kept within bounds: model files are untrusted input.
//!
//! tract computes what follows from constants while it infers shapes. In a damaged or
//! hostile graph that can panic, take all memory or never end. Every operator is wrapped:
//! a panic becomes an error of that node, large values are left uncomputed, and after a
//! deadline all that is left fails. A node that fails has an unknown shape.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::not_a_typed_op;

/// Elements from which a value is no shape, index list or table of a timestep.
const LARGEST: usize = 1 << 20;
/// Terms of all sizes of an operator's inputs; real ones have a term or two each.
const MOST_TERMS: usize = 512;
/// Real graphs take a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(10);

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs an inference of shapes; a panic of tract is an error, and so is what goes on past the
/// deadline.
pub(super) fn inference<T>(call: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    DEADLINE.set(Some(Instant::now() + PATIENCE));
    let result = contained(call);
    DEADLINE.set(None);
    result
}

/// Runs a part of tract; a panic there is an error.
pub(super) fn contained<T>(call: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    crate::contained::contained(call).unwrap_or_else(|message| bail!("tract panicked: {message}"))
}

/// An operator that fails rather than panics, and computes no large values.
#[derive(Clone, Debug)]
struct Guarded(Box<dyn InferenceOp>);

/// Wraps an operator.
pub(super) fn guard(op: Box<dyn InferenceOp>) -> Box<dyn InferenceOp> {
    Box::new(Guarded(op))
}

/// Whether outputs are not known to be small.
fn grows(outputs: &[InferenceFact]) -> bool {
    let small = |fact: &InferenceFact| {
        let dims = fact.shape.concretize();
        let mut sizes = dims.iter().flatten().map(|d| d.to_usize().ok());
        let elements = sizes.try_fold(1usize, |n, d| n.checked_mul(d?));
        dims.is_some() && elements.is_some_and(|n| n <= LARGEST)
    };
    !outputs.iter().all(small)
}

/// Whether a padded constant stays small, with all of the padding on every axis.
fn pads_little(inputs: &[InferenceFact]) -> bool {
    let (Some(padded), Some(pads)) = (inputs.first(), inputs.get(1)) else {
        return false;
    };
    let pads = pads.value.concretize();
    let total = pads.and_then(|pads| {
        let pads = pads.cast_to::<i64>().ok()?;
        let pads = pads.try_as_plain_ram().ok()?;
        let mut sizes = pads
            .as_slice::<i64>()
            .ok()?
            .iter()
            .map(|p| p.unsigned_abs());
        sizes.try_fold(0u64, u64::checked_add)
    });
    let dims = padded.shape.concretize();
    let elements = dims.zip(total).and_then(|(dims, total)| {
        let mut sizes = dims.iter().map(|d| u64::try_from(d.to_i64().ok()?).ok());
        sizes.try_fold(1u64, |n, size| n.checked_mul(size?.checked_add(total)?))
    });
    elements.is_some_and(|n| n <= LARGEST as u64)
}

/// Whether sizes are expressions of few terms. Those of sizes that do not fit together double
/// with every operator.
fn is_plain(fact: &InferenceFact, budget: &mut usize) -> bool {
    let dims = fact.shape.dims().filter_map(|d| d.concretize());
    dims.into_iter().all(|dim| has_few_terms(&dim, budget))
}

fn has_few_terms(dim: &TDim, budget: &mut usize) -> bool {
    let Some(left) = budget.checked_sub(1) else {
        return false;
    };
    *budget = left;
    match dim {
        TDim::Val(_) | TDim::Sym(_) => true,
        TDim::Add(terms)
        | TDim::Mul(terms)
        | TDim::Broadcast(terms)
        | TDim::Min(terms)
        | TDim::Max(terms) => terms.iter().all(|t| has_few_terms(t, budget)),
        TDim::MulInt(_, inner) | TDim::Div(inner, _) => has_few_terms(inner, budget),
        TDim::Ge(a, b) | TDim::Eq(a, b) => has_few_terms(a, budget) && has_few_terms(b, budget),
    }
}

type Facts = TVec<InferenceFact>;

impl InferenceOp for Guarded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        if DEADLINE.get().is_some_and(|end| Instant::now() > end) {
            bail!("shape inference takes too long");
        }
        let mut budget = MOST_TERMS;
        if !inputs.iter().all(|f| is_plain(f, &mut budget)) {
            bail!("sizes are too involved");
        }
        contained(|| {
            let inner = &mut self.0;
            let facts = inner.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
            let known = facts.0.iter().all(|f| f.value.concretize().is_some());
            if !known || grows(&facts.1) {
                return Ok(facts);
            }
            // tract states another size for a padded constant than it computes.
            if inner.as_op().name() == "Pad" && !pads_little(&facts.0) {
                bail!("a constant is padded to an unreasonable size");
            }
            // All over again, and the values as well.
            inner.infer(inputs, outputs, observed)
        })
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        self.0.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.0.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}

impl Eq for Guarded {}

impl PartialEq for Guarded {
    fn eq(&self, _: &Self) -> bool {
        // Nothing is optimised on what is guarded.
        false
    }
}

impl EvalOp for Guarded {
    fn eval_out_of_plan(&self, _: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok(None)
    }
}

impl Op for Guarded {
    fn name(&self) -> StaticName {
        self.0.as_op().name()
    }

    not_a_typed_op!();
}
