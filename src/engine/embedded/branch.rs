//! `If` for the embedded engine.
//!
//! tract's own `If` gives every node it makes the name "If", so that a graph with
//! two of them is refused; and it plans the branch anew in every run, without
//! optimising it. Rewritten models have many `If`, each run at every step. Here the
//! nodes keep their names, and branches are optimised and planned once.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_hir::internal::*;

/// The ONNX front end of tract with a usable `If`.
pub(super) fn front_end() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    onnx.op_register.insert("If", named_if);
    onnx
}

fn named_if(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (inner, captured) = tract_onnx::ops::logic::_if(context, node)?;
    Ok((Box::new(NamedIf(inner)), captured))
}

/// tract's `If`, with the node's own name after translation.
#[derive(Clone, Debug)]
struct NamedIf(Box<dyn InferenceOp>);

// Operators are compared to merge equal nodes; two `If` are never taken for equal.
impl PartialEq for NamedIf {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for NamedIf {}

impl Op for NamedIf {
    fn name(&self) -> StaticName {
        "If".into()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        None
    }
}

impl EvalOp for NamedIf {
    fn eval_out_of_plan(&self, _: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok(None)
    }
}

type Facts = (
    TVec<InferenceFact>,
    TVec<InferenceFact>,
    TVec<InferenceFact>,
);

impl InferenceOp for NamedIf {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Facts> {
        self.0.infer_facts(inputs, outputs, observed)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let outlets = self.0.to_typed(source, node, target, mapping)?;
        for (i, outlet) in outlets.iter().enumerate() {
            let wired = target.node_mut(outlet.node);
            if wired.name == "If" || wired.name.starts_with("If.") {
                wired.name = if i == 0 {
                    node.name.clone()
                } else {
                    format!("{}.{i}", node.name)
                };
            }
        }
        Ok(outlets)
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}

/// A runnable branch, and which inputs of the `If` it takes.
#[derive(Clone, Debug)]
struct Branch {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<usize>,
}

/// `If` with branches ready to run.
#[derive(Clone, Debug)]
struct Branches {
    then: Branch,
    otherwise: Branch,
    facts: TVec<TypedFact>,
}

impl PartialEq for Branches {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Branches {}

impl Op for Branches {
    fn name(&self) -> StaticName {
        "Branches".into()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        Some(self)
    }
}

impl EvalOp for Branches {
    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let condition = inputs.first().context("an If has no condition")?;
        let branch = if condition.cast_to_scalar::<bool>()? {
            &self.then
        } else {
            &self.otherwise
        };
        let taken = branch.inputs.iter().map(|&i| inputs.get(i).cloned());
        let taken = taken
            .collect::<Option<TVec<_>>>()
            .context("an If misses an input")?;
        drop(inputs);
        branch.plan.run(taken)
    }

    fn eval_out_of_plan(&self, _: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok(None)
    }
}

impl TypedOp for Branches {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.facts.clone())
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}

/// Optimises a model if asked to and plans all its branches.
pub(super) fn plan(model: TypedModel, optimize: bool) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = if optimize {
        model.into_optimized()?
    } else {
        model
    };
    for node in model.nodes_mut() {
        let Some(op) = node.op.downcast_ref::<IfThenElse>() else {
            continue;
        };
        let name = || format!("planning a branch of node {}", node.name);
        let branches = Branches {
            then: Branch {
                plan: plan(op.then_body.clone(), optimize).with_context(name)?,
                inputs: op.then_input_mapping.clone(),
            },
            otherwise: Branch {
                plan: plan(op.else_body.clone(), optimize).with_context(name)?,
                inputs: op.else_input_mapping.clone(),
            },
            facts: node.outputs.iter().map(|o| o.fact.clone()).collect(),
        };
        node.op = Box::new(branches);
    }
    model.into_runnable()
}
