//! New inputs, outputs and metadata of a rewritten model.

use crate::analysis::dims::{Dim, Shape};
use crate::analysis::inputs::InputKind;
use crate::analysis::shapes::declare;
use crate::analysis::sizes;
use crate::graph::ValueId;
use crate::onnx::proto::{
    GraphProto, StringStringEntryProto, TensorShapeProto, tensor_shape_proto,
};
use crate::plan::layout::{Placed, SiteTensor};
use crate::plan::schedule::Gating;
use crate::plan::{Kind, Rows};
use crate::sidecar::FormName;

use super::super::Placement;
use super::super::describe::{Declared, describe};
use super::RewriteError;
use super::record::Record;
use super::scribe::entry;
use super::site::State;
use crate::convention::{
    ANCHOR_LATENT, ANCHOR_TIME, GUIDANCE, PAST_PREFIX, SINCE_PREFIX, SLOPE_SUFFIX, STEP, key,
    open_dim, past, present,
};

/// Declares what the rewritten model shows to callers.
pub struct Interface<'p, 'a, 'm> {
    /// The plan on the graph.
    pub placement: &'p Placement<'a, 'm>,
}

impl<'a, 'm> std::ops::Deref for Interface<'_, 'a, 'm> {
    type Target = Placement<'a, 'm>;

    fn deref(&self) -> &Placement<'a, 'm> {
        self.placement
    }
}

impl Interface<'_, '_, '_> {
    /// Appends `hgc.step`, pasts and presents to the graph's inputs and outputs.
    pub fn declare(&self, graph: &mut GraphProto, states: &[Declared]) {
        let scalar = TensorShapeProto::default();
        graph
            .input
            .push(declare(STEP, super::scribe::dtype::I64, scalar));
        for state in states {
            for name in [past(&state.name), present(&state.name)] {
                let info = declare(&name, state.elem_type, state.shape.clone());
                if name.starts_with(PAST_PREFIX) {
                    graph.input.push(info);
                } else {
                    graph.output.push(info);
                }
            }
        }
    }

    /// Cached values with their shapes.
    pub fn declared(&self, states: &[State]) -> Vec<Declared> {
        let open = sizes::has_open_sizes(&self.analysis.graph, &self.analysis.kinds);
        let in_place = self.in_place();
        let declared = |state: &State| Declared {
            name: state.name.clone(),
            elem_type: state.elem_type,
            shape: self.state_shape(state, open),
            in_place: in_place.contains(&state.name),
        };
        states.iter().map(declared).collect()
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
        if state.name.starts_with(SINCE_PREFIX) || state.name == ANCHOR_TIME {
            return TensorShapeProto {
                dim: vec![number(1)],
            };
        }
        let (value, axis) = match self.tensor_of(state) {
            Some((_, tensor)) if tensor.measure => {
                let rank = tensor.shape.as_ref().map_or(1, |s| s.dims.len());
                return TensorShapeProto {
                    dim: vec![open(&state.name, 0); rank],
                };
            }
            Some((_, tensor)) => (Some(tensor.value), tensor.batch_axis),
            None => {
                let value = match state.name == ANCHOR_LATENT {
                    true => self.analysis.input(InputKind::Latent),
                    false => self.analysis.deepest_output(),
                };
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
    pub fn metadata(
        &self,
        record: &Record,
        states: &[Declared],
    ) -> Result<Vec<StringStringEntryProto>, RewriteError> {
        let sidecar = describe(self.placement, FormName::Gated, states);
        let in_place = states.iter().filter(|s| s.in_place);
        let in_place: Vec<&str> = in_place.map(|s| s.name.as_str()).collect();
        Ok(vec![
            entry(key::VERSION, env!("CARGO_PKG_VERSION")),
            entry(key::POLICY, &self.plan.policy),
            entry(key::NAME, &self.model_plan.name),
            entry(key::ROLE, self.analysis.role.name()),
            entry(key::STEPS, &self.plan.steps.to_string()),
            entry(key::IN_PLACE, &in_place.join("\n")),
            entry(key::CONSTANT_INPUTS, &sidecar.constant_inputs.join("\n")),
            entry(key::PLAN, &toml::to_string(self.plan)?),
            entry(key::MODEL, &serde_json::to_string(&sidecar)?),
            entry(key::LAYOUT, &serde_json::to_string(record)?),
        ])
    }

    /// Caches that are written without their old value being needed, and whose size
    /// does not change between steps.
    fn in_place(&self) -> Vec<String> {
        let half = |k: &Kind| self.model_plan.halves && k.is_half();
        let mut names = Vec::new();
        for placed in &self.layout.sites {
            let gating = |k: &Kind| k.gating(&self.model_plan.name, &placed.site.gate);
            let mut refreshes = self
                .plan
                .kinds
                .iter()
                .filter(|k| gating(k) != Gating::Reuse);
            let steady = placed.site.rows != Rows::All || !refreshes.any(half);
            for tensor in &placed.tensors {
                if (!placed.site.reuse.forecasts() || tensor.measure) && steady {
                    names.push(tensor.name.clone());
                }
            }
        }
        let keeps = self.plan.keeps_difference(self.analysis.role);
        if keeps && self.model_plan.halves && !self.plan.guidance.reuse.forecasts() {
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

pub(super) fn number(size: i64) -> tensor_shape_proto::Dimension {
    let value = Some(tensor_shape_proto::dimension::Value::DimValue(size));
    tensor_shape_proto::Dimension {
        value,
        ..Default::default()
    }
}
