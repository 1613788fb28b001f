//! New inputs, outputs and metadata of a rewritten model.

use crate::analysis::Analysis;
use crate::analysis::dims::{Dim, Shape};
use crate::analysis::shapes::declare;
use crate::analysis::sizes;
use crate::graph::ValueId;
use crate::onnx::proto::{
    GraphProto, StringStringEntryProto, TensorShapeProto, tensor_shape_proto,
};
use crate::plan::layout::{Layout, Placed, SiteTensor};
use crate::plan::{ModelPlan, Plan, Reuse, Rows};

use super::record::Record;
use super::scribe::entry;
use super::site::State;
use super::{RewriteError, guidance};
use crate::convention::{GUIDANCE, PAST_PREFIX, SLOPE_SUFFIX, STEP, key, open_dim, past, present};

/// Declares what the rewritten model shows to callers.
pub struct Interface<'a, 'm> {
    /// The original.
    pub analysis: &'a Analysis<'m>,
    /// The plan.
    pub plan: &'a Plan,
    /// Its part for this model.
    pub model_plan: &'a ModelPlan,
    /// The plan on the graph.
    pub layout: &'a Layout,
}

impl Interface<'_, '_> {
    /// Appends `hgc.step`, pasts and presents to the graph's inputs and outputs.
    pub fn declare(&self, graph: &mut GraphProto, states: &[State]) {
        let scalar = TensorShapeProto::default();
        graph
            .input
            .push(declare(STEP, super::scribe::dtype::I64, scalar));
        let open = sizes::has_open_sizes(&self.analysis.graph, &self.analysis.kinds);
        for state in states {
            let shape = self.state_shape(state, open);
            for name in [past(&state.name), present(&state.name)] {
                let info = declare(&name, state.elem_type, shape.clone());
                if name.starts_with(PAST_PREFIX) {
                    graph.input.push(info);
                } else {
                    graph.output.push(info);
                }
            }
        }
    }

    fn tensor_of(&self, state: &State) -> Option<(&Placed, &SiteTensor)> {
        let base = state.name.strip_suffix(SLOPE_SUFFIX).unwrap_or(&state.name);
        let tensors = self
            .layout
            .sites
            .iter()
            .flat_map(|p| p.tensors.iter().map(move |t| (p, t)));
        let mut tensors = tensors.filter(|(_, t)| t.name == state.name || t.name == base);
        tensors.next()
    }

    fn state_shape(&self, state: &State, has_open_sizes: bool) -> TensorShapeProto {
        let (value, axis) = match self.tensor_of(state) {
            Some((_, tensor)) if tensor.measure => {
                let rank = tensor.shape.as_ref().map_or(1, |s| s.dims.len());
                return TensorShapeProto {
                    dim: vec![open(&state.name, 0); rank],
                };
            }
            Some((_, tensor)) => (Some(tensor.value), tensor.batch_axis),
            None => {
                let value = self.analysis.deepest_output();
                let shape = value.and_then(|v| self.analysis.shapes.get(v));
                (value, shape.and_then(Shape::batch_axis))
            }
        };
        let here = value.and_then(|v| self.analysis.shapes.get(v));
        let there =
            value.and_then(|v: ValueId| self.analysis.elsewhere.as_ref().and_then(|o| o.get(v)));
        let Some(here) = here else {
            return TensorShapeProto::default();
        };
        let dim = here.dims.iter().enumerate().map(|(i, dim)| {
            let fixed = |d: &Dim| !d.follows_batch();
            let same = !has_open_sizes || there.is_some_and(|t| t.dims.get(i) == Some(dim));
            if Some(i) != axis && fixed(dim) && same {
                number(dim.fixed)
            } else {
                open(&state.name, i)
            }
        });
        TensorShapeProto { dim: dim.collect() }
    }

    /// Metadata of the rewritten model.
    ///
    /// # Errors
    /// [`RewriteError::Toml`] or [`RewriteError::Json`] if plan or record cannot be written.
    pub fn metadata(&self, record: &Record) -> Result<Vec<StringStringEntryProto>, RewriteError> {
        let graph = &self.analysis.graph;
        let inputs = graph.inputs().iter().zip(&self.analysis.kinds);
        let constant: Vec<&str> = inputs
            .filter(|(_, k)| k.is_invariant())
            .map(|(v, _)| graph.name(*v))
            .collect();
        Ok(vec![
            entry(key::VERSION, env!("CARGO_PKG_VERSION")),
            entry(key::POLICY, &self.plan.policy),
            entry(key::NAME, &self.model_plan.name),
            entry(key::ROLE, self.analysis.role.name()),
            entry(key::STEPS, &self.plan.steps.to_string()),
            entry(key::IN_PLACE, &self.in_place().join("\n")),
            entry(key::CONSTANT_INPUTS, &constant.join("\n")),
            entry(key::PLAN, &toml::to_string(self.plan)?),
            entry(key::LAYOUT, &serde_json::to_string(record)?),
        ])
    }

    /// Caches that are written without their old value being needed, and whose size
    /// does not change between steps.
    fn in_place(&self) -> Vec<String> {
        let half = |s: usize| self.model_plan.halves && self.plan.guidance.schedule.is_half(s);
        let mut names = Vec::new();
        for placed in &self.layout.sites {
            let refreshes = placed.schedule.refresh_steps();
            let steady = placed.site.rows != Rows::All || !refreshes.iter().any(|s| half(*s));
            for tensor in &placed.tensors {
                if (placed.site.reuse == Reuse::Hold || tensor.measure) && steady {
                    names.push(tensor.name.clone());
                }
            }
        }
        let keeps = guidance::keeps_difference(self.plan, self.analysis.role);
        if keeps && self.model_plan.halves && self.plan.guidance.reuse == Reuse::Hold {
            names.push(GUIDANCE.to_owned());
        }
        names
    }
}

fn open(state: &str, axis: usize) -> tensor_shape_proto::Dimension {
    let name = open_dim(state, axis);
    let value = Some(tensor_shape_proto::dimension::Value::DimParam(name));
    tensor_shape_proto::Dimension {
        value,
        ..Default::default()
    }
}

fn number(size: i64) -> tensor_shape_proto::Dimension {
    let value = Some(tensor_shape_proto::dimension::Value::DimValue(size));
    tensor_shape_proto::Dimension {
        value,
        ..Default::default()
    }
}
