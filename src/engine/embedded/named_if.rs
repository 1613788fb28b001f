//! `If` as the ONNX front end reads it.
//!
//! tract's own `If` gives every node it makes the name "If", so that a graph with two
//! of them is refused, and keeps to itself which value each branch captures. This one
//! wraps it, keeps names and says what is captured.

use std::collections::HashMap;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::ops::logic::{_if, If};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// The ONNX front end of tract with a usable `If`. Recorded shapes of inner values are
/// left out: they speak of symbols, and sizes are numbers here.
pub(super) fn front_end() -> Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    onnx.op_register.insert("If", named_if);
    onnx
}

fn named_if(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (inner, captured) = _if(context, node)?;
    Ok((
        Box::new(NamedIf {
            inner,
            captured: captured.clone(),
        }),
        captured,
    ))
}

/// tract's `If`, and the names of the values that its branches capture, in the order
/// of its inputs after the condition.
#[derive(Clone, Debug)]
pub(super) struct NamedIf {
    inner: Box<dyn InferenceOp>,
    captured: Vec<String>,
}

impl NamedIf {
    /// The branch for `condition`, and for each of its inputs the number of the input
    /// of the `If` that it is.
    pub fn branch(&self, condition: bool) -> TractResult<(&InferenceModel, Vec<usize>)> {
        let inner = self
            .inner
            .as_op()
            .downcast_ref::<If>()
            .context("tract changed its If")?;
        let body = if condition {
            &inner.then_body
        } else {
            &inner.else_body
        };
        let position = |outlet: &OutletId| {
            let name = &body.node(outlet.node).name;
            let index = self.captured.iter().position(|c| c == name);
            index
                .map(|i| i + 1)
                .with_context(|| format!("`{name}` is not captured"))
        };
        let inputs = body
            .input_outlets()?
            .iter()
            .map(position)
            .collect::<TractResult<_>>()?;
        Ok((body, inputs))
    }
}

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
        self.inner.infer_facts(inputs, outputs, observed)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let outlets = self.inner.to_typed(source, node, target, mapping)?;
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
