//! A graph without the `If` whose condition is known: the branch taken stands in the
//! place of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::prelude::Tensor as TractTensor;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::internal::*;

use super::named_if::NamedIf;

/// An output of an item: its index and the output's number.
pub(super) type Ref = (usize, usize);

/// Nodes in order of evaluation.
#[derive(Default)]
pub(super) struct Flat {
    items: Vec<Item>,
    names: HashSet<String>,
}

struct Item {
    name: String,
    /// `None` for an input.
    op: Option<Box<dyn InferenceOp>>,
    facts: TVec<InferenceFact>,
    inputs: Vec<Ref>,
}

impl Flat {
    /// Adds an input.
    pub fn source(&mut self, name: &str) -> Ref {
        self.names.insert(name.to_owned());
        let facts = tvec!(InferenceFact::default());
        self.items.push(Item {
            name: name.to_owned(),
            op: None,
            facts,
            inputs: Vec::new(),
        });
        (self.items.len() - 1, 0)
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: &str, value: Arc<TractTensor>) -> TractResult<Ref> {
        let facts = tvec!(InferenceFact::try_from(value.clone())?);
        let op: Box<dyn InferenceOp> = Const::new(value)?.into();
        self.push(name.to_owned(), op, facts, Vec::new());
        Ok((self.items.len() - 1, 0))
    }

    /// Adds a node of a model.
    pub fn node(&mut self, prefix: &str, node: &InferenceNode, inputs: Vec<Ref>) -> usize {
        let facts = node.outputs.iter().map(|o| o.fact.clone()).collect();
        self.push(
            format!("{prefix}{}", node.name),
            node.op.clone(),
            facts,
            inputs,
        );
        self.items.len() - 1
    }

    fn push(
        &mut self,
        mut name: String,
        op: Box<dyn InferenceOp>,
        facts: TVec<InferenceFact>,
        inputs: Vec<Ref>,
    ) {
        if !self.names.insert(name.clone()) {
            name = format!("{name}#{}", self.items.len());
            self.names.insert(name.clone());
        }
        self.items.push(Item {
            name,
            op: Some(op),
            facts,
            inputs,
        });
    }

    /// Adds a model: `known` gives the value of nodes that are not to be added, and of
    /// all inputs. Returns its outputs.
    pub fn inline(
        &mut self,
        model: &InferenceModel,
        prefix: &str,
        known: HashMap<OutletId, Ref>,
        skip: &dyn Fn(usize) -> bool,
    ) -> TractResult<Vec<Ref>> {
        let mut values = known;
        for id in model.eval_order()? {
            let node = model.node(id);
            if skip(id) || values.contains_key(&OutletId::new(id, 0)) {
                continue;
            }
            let value = |outlet| values.get(outlet).copied();
            let inputs = node.inputs.iter().map(value).collect::<Option<Vec<Ref>>>();
            let inputs = inputs.with_context(|| format!("node {} misses an input", node.name))?;
            let outputs = match self.taken(node, &inputs)? {
                Some((branch, captured)) => {
                    let sources = branch.input_outlets()?.iter().copied();
                    let captured = captured.into_iter().filter_map(|i| inputs.get(i).copied());
                    let prefix = format!("{prefix}{}/", node.name);
                    self.inline(branch, &prefix, sources.zip(captured).collect(), &|_| false)?
                }
                None => {
                    let item = self.node(prefix, node, inputs);
                    (0..node.outputs.len()).map(|slot| (item, slot)).collect()
                }
            };
            for (slot, output) in outputs.into_iter().enumerate() {
                values.insert(OutletId::new(id, slot), output);
            }
        }
        let outputs = model
            .output_outlets()?
            .iter()
            .map(|o| values.get(o).copied());
        outputs
            .collect::<Option<_>>()
            .context("an output is not computed")
    }

    /// The branch that an `If` of known condition takes.
    fn taken<'n>(
        &self,
        node: &'n InferenceNode,
        inputs: &[Ref],
    ) -> TractResult<Option<(&'n InferenceModel, Vec<usize>)>> {
        let Some(named) = node.op_as::<NamedIf>() else {
            return Ok(None);
        };
        let condition = inputs
            .first()
            .and_then(|r| self.items.get(r.0)?.op.as_ref());
        let Some(value) = condition.and_then(|op| op.as_op().downcast_ref::<Const>()) else {
            return Ok(None);
        };
        named
            .branch(value.val().cast_to_scalar::<bool>()?)
            .map(Some)
    }

    /// Drops what none of `outputs` needs and returns where these are now.
    pub fn prune(&mut self, outputs: &[Ref]) -> Vec<Ref> {
        let mut live = vec![false; self.items.len()];
        outputs.iter().for_each(|r| live[r.0] = true);
        for i in (0..self.items.len()).rev() {
            if live[i] {
                self.items[i].inputs.iter().for_each(|r| live[r.0] = true);
            }
        }
        let mut moved = Vec::with_capacity(live.len());
        let mut count = 0;
        for &alive in &live {
            moved.push(count);
            count += usize::from(alive);
        }
        let mut index = 0..live.len();
        self.items.retain(|_| index.next().is_some_and(|i| live[i]));
        for r in self.items.iter_mut().flat_map(|item| &mut item.inputs) {
            r.0 = moved[r.0];
        }
        outputs.iter().map(|r| (moved[r.0], r.1)).collect()
    }

    /// Names of the inputs, in order.
    pub fn sources(&self) -> Vec<String> {
        let sources = self.items.iter().filter(|item| item.op.is_none());
        sources.map(|item| item.name.clone()).collect()
    }

    /// The graph as a model, with `facts` about its inputs.
    pub fn model(
        &self,
        outputs: &[Ref],
        facts: &BTreeMap<&str, InferenceFact>,
    ) -> TractResult<InferenceModel> {
        let mut model = InferenceModel::default();
        let mut ids = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let Some(op) = &item.op else {
                let fact = facts.get(item.name.as_str()).cloned().unwrap_or_default();
                ids.push(model.add_source(&item.name, fact)?.node);
                continue;
            };
            let id = model.add_node(&item.name, op.clone(), item.facts.clone())?;
            for (slot, input) in item.inputs.iter().enumerate() {
                model.add_edge(OutletId::new(ids[input.0], input.1), InletId::new(id, slot))?;
            }
            ids.push(id);
        }
        let outputs: Vec<OutletId> = outputs
            .iter()
            .map(|r| OutletId::new(ids[r.0], r.1))
            .collect();
        model.select_output_outlets(&outputs)?;
        Ok(model)
    }
}
