//! A model as a set of variants, one for each pattern of its gates.
//!
//! In a rewritten model everything that a gate decides follows from the step alone,
//! and branches differ in what they compute and in how many rows. So the values that
//! follow from the step are looked up first; those that decide (flags and counts)
//! become constants, which settles every `If`, and the graph that is left is planned
//! once for each pattern of them. Those that weigh (numbers of a forecast) stay inputs. Where
//! an input is the sizes of something, vectors of integers are part of the pattern, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::prelude::{Tensor as TractTensor, TypedRunnableModel};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::internal::*;

use super::flat::{Flat, Ref};
use super::model::Value;
use super::named_if::NamedIf;
use crate::convention::KIND;

/// Plans that are kept; of more the oldest goes.
const MOST_VARIANTS: usize = 64;

/// A parsed model.
pub(super) struct Program {
    model: InferenceModel,
    optimize: bool,
    /// Nodes that follow from the step alone.
    stepwise: HashSet<usize>,
    /// Their values that other nodes read, each with the name it has as an input.
    frontier: Vec<(OutletId, String)>,
    look_up: Option<Arc<TypedRunnableModel>>,
    variants: Vec<Variant>,
    /// Whether vectors of integers are known when the graph is planned, as it cannot be without.
    knows_integers: bool,
}

/// The graph for one pattern, and its plan for the sizes it ran at last.
struct Variant {
    pattern: Vec<Value>,
    flat: Flat,
    outputs: Vec<Ref>,
    sources: Vec<String>,
    plan: Option<(Vec<TVec<usize>>, Arc<TypedRunnableModel>)>,
}

impl Program {
    /// Prepares a parsed model; `step` is the name of the input that takes the step.
    pub fn new(model: InferenceModel, step: &str, optimize: bool) -> TractResult<Self> {
        let (stepwise, constants) = stepwise(&model, step)?;
        let mut frontier = Vec::new();
        let mut read = |outlet: &OutletId| {
            if stepwise.contains(&outlet.node) && !frontier.iter().any(|(o, _)| o == outlet) {
                let name = format!("{}.{}", model.node(outlet.node).name, outlet.slot);
                frontier.push((*outlet, name));
            }
        };
        for id in model
            .eval_order()?
            .into_iter()
            .filter(|id| !stepwise.contains(id))
        {
            model.node(id).inputs.iter().for_each(&mut read);
        }
        model.output_outlets()?.iter().for_each(read);
        let look_up = match frontier.is_empty() {
            true => None,
            false => Some(look_up(&model, step, &frontier, |id| {
                stepwise.contains(&id) || constants.contains(&id)
            })?),
        };
        let variants = Vec::new();
        Ok(Self {
            model,
            optimize,
            stepwise,
            frontier,
            look_up,
            variants,
            knows_integers: false,
        })
    }

    /// Runs the program on a value for each input; the outputs come in order.
    pub fn run(&mut self, values: &BTreeMap<&str, Value>, step: &str) -> TractResult<Vec<Value>> {
        let first = self.attempt(values, step);
        let integers = values.values().any(|v| may_be_sizes(v));
        if first.is_ok() || self.knows_integers || !integers {
            return first;
        }
        // Some may be sizes, which planning needs to know.
        self.knows_integers = true;
        self.variants.clear();
        let second = self.attempt(values, step);
        if second.is_err() {
            self.knows_integers = false;
            self.variants.clear();
            return first;
        }
        second
    }

    fn attempt(&mut self, values: &BTreeMap<&str, Value>, step: &str) -> TractResult<Vec<Value>> {
        let looked_up = match (&self.look_up, values.get(step)) {
            (Some(plan), Some(step)) => {
                let found = plan.run(tvec!(step.clone().into_tvalue()))?;
                found.into_iter().map(TValue::into_arc_tensor).collect()
            }
            _ => Vec::new(),
        };
        let variant = self.variant(&looked_up, values)?;
        let weights = self
            .frontier
            .iter()
            .map(|(_, name)| name.as_str())
            .zip(&looked_up);
        let weights: BTreeMap<&str, &Value> = weights.collect();
        let optimize = self.optimize;
        let variant = &mut self.variants[variant];
        let mut inputs: TVec<Value> = tvec!();
        for name in &variant.sources {
            let value = values
                .get(name.as_str())
                .or_else(|| weights.get(name.as_str()).copied());
            inputs.push(
                value
                    .with_context(|| format!("input `{name}` has no value"))?
                    .clone(),
            );
        }
        let plan = variant.plan(&inputs, optimize)?;
        let outputs = plan.run(inputs.into_iter().map(IntoTValue::into_tvalue).collect())?;
        Ok(outputs.into_iter().map(TValue::into_arc_tensor).collect())
    }

    /// The variant for the values looked up and the sizes among the inputs, made where it is not
    /// there yet.
    fn variant(
        &mut self,
        looked_up: &[Value],
        values: &BTreeMap<&str, Value>,
    ) -> TractResult<usize> {
        let known = self.knows_integers;
        let sizes = values
            .iter()
            .filter(|(_, value)| known && may_be_sizes(value));
        let sizes: BTreeMap<&str, Value> = sizes.map(|(n, v)| (*n, v.clone())).collect();
        let decisions = looked_up.iter().filter(|v| decides(v)).cloned();
        let pattern: Vec<Value> = decisions.chain(sizes.values().cloned()).collect();
        if let Some(index) = self.variants.iter().position(|v| v.pattern == pattern) {
            return Ok(index);
        }
        let mut flat = Flat::default();
        let mut known = HashMap::new();
        for outlet in self.model.input_outlets()? {
            let name = self.model.node(outlet.node).name.as_str();
            if self.stepwise.contains(&outlet.node) {
                continue;
            }
            let input = match sizes.get(name) {
                Some(value) => flat.constant(name, value.clone())?,
                None => flat.source(name),
            };
            known.insert(*outlet, input);
        }
        for ((outlet, name), value) in self.frontier.iter().zip(looked_up) {
            let value = match decides(value) {
                true => flat.constant(name, value.clone())?,
                false => flat.source(name),
            };
            known.insert(*outlet, value);
        }
        let outputs = flat.inline(&self.model, "", known, &|id| self.stepwise.contains(&id))?;
        let outputs = flat.prune(&outputs);
        let sources = flat.sources();
        if self.variants.len() == MOST_VARIANTS {
            self.variants.remove(0);
        }
        self.variants.push(Variant {
            pattern,
            flat,
            outputs,
            sources,
            plan: None,
        });
        Ok(self.variants.len() - 1)
    }
}

impl Variant {
    fn plan(&mut self, inputs: &[Value], optimize: bool) -> TractResult<Arc<TypedRunnableModel>> {
        let sizes: Vec<TVec<usize>> = inputs.iter().map(|v| v.shape().into()).collect();
        if let Some((planned, plan)) = &self.plan
            && *planned == sizes
        {
            return Ok(plan.clone());
        }
        let fact = |v: &Value| InferenceFact::dt_shape(v.datum_type(), v.shape());
        let facts = self
            .sources
            .iter()
            .map(String::as_str)
            .zip(inputs.iter().map(fact))
            .collect();
        let model = self.flat.model(&self.outputs, &facts)?;
        let plan = planned(model, optimize)?;
        self.plan = Some((sizes, plan.clone()));
        Ok(plan)
    }
}

/// Whether a value may be the sizes of something. What a `Shape` gave is still of tract's own type.
fn may_be_sizes(value: &TractTensor) -> bool {
    let whole = matches!(value.datum_type(), DatumType::I64 | DatumType::TDim);
    whole && value.rank() == 1 && value.len() > 1
}

/// Whether a value that follows from the step decides what is computed.
fn decides(value: &TractTensor) -> bool {
    !value.datum_type().is_float()
}

/// Nodes that follow from the step alone, and those that follow from nothing.
fn stepwise(model: &InferenceModel, step: &str) -> TractResult<(HashSet<usize>, HashSet<usize>)> {
    let (mut stepwise, mut constants) = (HashSet::new(), HashSet::new());
    for id in model.eval_order()? {
        let node = model.node(id);
        if model.input_outlets()?.iter().any(|input| input.node == id) {
            if node.name == step {
                stepwise.insert(id);
            }
        } else if node.op_as::<Const>().is_some() {
            constants.insert(id);
        } else if !node.inputs.is_empty() && node.op_as::<NamedIf>().is_none() {
            let from = |set: &HashSet<usize>| node.inputs.iter().any(|i| set.contains(&i.node));
            let follows = |i: &OutletId| stepwise.contains(&i.node) || constants.contains(&i.node);
            if scheduled(node).is_some_and(|i| stepwise.contains(&i.node)) {
                stepwise.insert(id);
                continue;
            }
            if node.inputs.iter().all(follows) {
                let set = if from(&stepwise) {
                    &mut stepwise
                } else {
                    &mut constants
                };
                set.insert(id);
            }
        }
    }
    Ok((stepwise, constants))
}

/// Of the node that decides between the schedule's kind and another while a model runs: the schedule's. Here
/// drivers decide, and name what runs; branches are settled before a graph is planned.
fn scheduled(node: &InferenceNode) -> Option<OutletId> {
    match (node.name == KIND, node.inputs.as_slice()) {
        (true, [_, _, scheduled]) => Some(*scheduled),
        _ => None,
    }
}

/// A plan that gives the `frontier` for a step.
fn look_up(
    model: &InferenceModel,
    step: &str,
    frontier: &[(OutletId, String)],
    member: impl Fn(usize) -> bool,
) -> TractResult<Arc<TypedRunnableModel>> {
    let mut flat = Flat::default();
    let mut items: HashMap<usize, usize> = HashMap::new();
    for id in model.eval_order()?.into_iter().filter(|&id| member(id)) {
        let node = model.node(id);
        if node.name == step && node.inputs.is_empty() {
            items.insert(id, flat.source(step).0);
            continue;
        }
        if let Some(item) = scheduled(node).and_then(|i| items.get(&i.node)) {
            items.insert(id, *item);
            continue;
        }
        let input = |o: &OutletId| Some((*items.get(&o.node)?, o.slot));
        let inputs = node.inputs.iter().map(input).collect::<Option<_>>();
        let inputs = inputs.with_context(|| format!("node {} misses an input", node.name))?;
        items.insert(id, flat.node("", node, inputs));
    }
    let place = |(o, _): &(OutletId, String)| Some((*items.get(&o.node)?, o.slot));
    let outputs: Option<Vec<Ref>> = frontier.iter().map(place).collect();
    let outputs = flat.prune(&outputs.context("a value that follows from the step is missing")?);
    let fact = InferenceFact::dt_shape(DatumType::I64, &[] as &[usize]);
    planned(
        flat.model(&outputs, &BTreeMap::from([(step, fact)]))?,
        false,
    )
}

fn planned(model: InferenceModel, optimize: bool) -> TractResult<Arc<TypedRunnableModel>> {
    use tract_onnx::prelude::IntoRunnable;
    let model = model.into_typed()?;
    if optimize {
        model.into_optimized()?.into_runnable()
    } else {
        model.into_runnable()
    }
}
