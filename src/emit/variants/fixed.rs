//! Sizes of a call, written into a graph that leaves them open: those that the analysis assumes.

use crate::analysis::dims::Shape;
use crate::convention::{GUIDANCE, PAST_PREFIX, PRESENT_PREFIX, SLOPE_SUFFIX};
use crate::emit::Placement;
use crate::emit::gated::row_constant;
use crate::onnx::proto::{GraphProto, TensorProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::plan::flow::{Extent, Flow, Touch};
use crate::plan::layout::SiteTensor;

/// Sizes of one kind's graph.
pub struct Fixed<'p, 'a, 'm> {
    placement: &'p Placement<'a, 'm>,
    flow: &'p Flow,
    /// Position of the kind.
    kind: usize,
}

impl<'p, 'a, 'm> Fixed<'p, 'a, 'm> {
    /// The sizes of the kind at this position.
    pub fn new(placement: &'p Placement<'a, 'm>, flow: &'p Flow, kind: usize) -> Self {
        Self {
            placement,
            flow,
            kind,
        }
    }

    fn batch(&self) -> u64 {
        self.placement.analysis.sizes.batch
    }

    fn is_half(&self) -> bool {
        let Placement {
            plan, model_plan, ..
        } = self.placement;
        model_plan.halves && plan.kinds[self.kind].is_half()
    }

    /// A number of rows that is known with the batch, as a constant.
    pub fn constant(&self, name: &str) -> Option<TensorProto> {
        let prompted = self.placement.plan.guidance.prompted;
        row_constant(name, prompted, self.batch(), self.is_half())
    }

    /// Declares inputs and outputs with their sizes; declarations in between that leave one open go.
    pub fn declare(&self, graph: &mut GraphProto) {
        let all = graph.input.iter_mut().chain(&mut graph.output);
        for info in all {
            if let Some(sizes) = self.sizes(info.name()) {
                write(info, &sizes);
            }
        }
        graph.value_info.retain(is_known);
    }

    /// The sizes of an input or output; those that are not known in advance are none.
    fn sizes(&self, name: &str) -> Option<Vec<Option<u64>>> {
        let analysis = self.placement.analysis;
        if let Some(state) = name.strip_prefix(PAST_PREFIX) {
            return self.state(state, |touch| touch.reads.and(self.extent(state)));
        }
        if let Some(state) = name.strip_prefix(PRESENT_PREFIX) {
            return self.state(state, |touch| touch.writes);
        }
        let shape = analysis.shapes.get(analysis.graph.value(name)?)?;
        Some(
            shape
                .dims
                .iter()
                .map(|d| Some(d.at(self.batch())))
                .collect(),
        )
    }

    /// Rows that a cached value always has; none where it depends on the kind that wrote it.
    fn extent(&self, state: &str) -> Option<Extent> {
        let flow = self.flow.states.iter().find(|s| s.name == state)?;
        let mut writes = flow.kinds.iter().filter_map(|t| t.writes);
        let first = writes.next()?;
        writes.all(|w| w == first).then_some(first)
    }

    fn state(
        &self,
        state: &str,
        extent: impl Fn(&Touch) -> Option<Extent>,
    ) -> Option<Vec<Option<u64>>> {
        let analysis = self.placement.analysis;
        let base = state.strip_suffix(SLOPE_SUFFIX).unwrap_or(state);
        let half = self.batch() / 2;
        if base == GUIDANCE {
            let shape = analysis.shapes.get(analysis.deepest_output()?)?;
            return Some(sizes(shape, Some(half)));
        }
        let flow = self.flow.states.iter().find(|s| s.name == state)?;
        let tensor = self.tensor(base).filter(|t| !t.measure)?;
        let shape = tensor.shape.as_ref()?;
        let rows = match extent(flow.kinds.get(self.kind)?) {
            Some(Extent::All) => Some(self.batch()),
            Some(Extent::Half) => Some(half),
            None => None,
        };
        Some(sizes(shape, rows))
    }

    fn tensor(&self, name: &str) -> Option<&SiteTensor> {
        let sites = self.placement.layout.sites.iter();
        sites.flat_map(|s| &s.tensors).find(|t| t.name == name)
    }
}

/// The sizes of a shape with so many rows in a batch, if that is known.
fn sizes(shape: &Shape, rows: Option<u64>) -> Vec<Option<u64>> {
    let size = |d: &crate::analysis::dims::Dim| match d.follows_batch() {
        true => rows.map(|rows| d.at(rows)),
        false => Some(d.at(0)),
    };
    shape.dims.iter().map(size).collect()
}

fn shape_of(info: &mut ValueInfoProto) -> Option<&mut Vec<tensor_shape_proto::Dimension>> {
    match info.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => Some(&mut tensor.shape.as_mut()?.dim),
        _ => None,
    }
}

fn write(info: &mut ValueInfoProto, sizes: &[Option<u64>]) {
    let Some(dims) = shape_of(info).filter(|dims| dims.len() == sizes.len()) else {
        return;
    };
    for (dim, size) in dims.iter_mut().zip(sizes) {
        if let Some(size) = size.and_then(|s| i64::try_from(s).ok()) {
            dim.value = Some(tensor_shape_proto::dimension::Value::DimValue(size));
        }
    }
}

fn is_known(info: &ValueInfoProto) -> bool {
    let mut info = info.clone();
    let number = |d: &tensor_shape_proto::Dimension| {
        matches!(
            d.value,
            Some(tensor_shape_proto::dimension::Value::DimValue(_))
        )
    };
    shape_of(&mut info).is_some_and(|dims| dims.iter().all(number))
}
