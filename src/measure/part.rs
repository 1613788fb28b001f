//! The part of a model that is left when some of its values are given.

use std::collections::HashSet;

use crate::analysis::Analysis;
use crate::graph::{BitSet, NodeId, ValueId};
use crate::onnx::proto::{GraphProto, ModelProto, TensorShapeProto, tensor_shape_proto};

/// The nodes of `needed` with `given` values as inputs and `probes` as outputs.
pub fn cut(
    model: &ModelProto,
    analysis: &Analysis<'_>,
    needed: &BitSet,
    given: &[ValueId],
    probes: &[ValueId],
) -> ModelProto {
    let graph = &analysis.graph;
    let source = graph.proto();
    let nodes: Vec<_> = needed
        .iter()
        .map(|n| graph.node(NodeId::new(n)).clone())
        .collect();
    let mut used: HashSet<ValueId> = needed
        .iter()
        .flat_map(|n| graph.inputs_of(NodeId::new(n)))
        .copied()
        .collect();
    used.extend(graph.outputs());
    let is_used = |name: &str| graph.value(name).is_some_and(|v| used.contains(&v));
    let declare = |value: &ValueId| {
        let shape = analysis.shapes.get(*value);
        let dim = vec![tensor_shape_proto::Dimension::default(); shape.map_or(0, |s| s.dims.len())];
        let elem_type = shape.map_or(7, |s| s.elem_type);
        crate::analysis::shapes::declare(graph.name(*value), elem_type, TensorShapeProto { dim })
    };
    let mut part = GraphProto {
        name: source.name.clone(),
        node: nodes,
        input: source
            .input
            .iter()
            .filter(|i| is_used(i.name()))
            .cloned()
            .collect(),
        initializer: source
            .initializer
            .iter()
            .filter(|t| is_used(t.name()))
            .cloned()
            .collect(),
        sparse_initializer: source.sparse_initializer.clone(),
        ..GraphProto::default()
    };
    part.input
        .extend(given.iter().filter(|v| used.contains(v)).map(declare));
    let is_made = |v: &ValueId| {
        graph
            .producer(*v)
            .is_some_and(|n| needed.contains(n.index()))
    };
    part.output = source
        .output
        .iter()
        .filter(|o| {
            graph
                .value(o.name())
                .is_some_and(|v| is_made(&v) && !given.contains(&v))
        })
        .cloned()
        .collect();
    part.output.extend(probes.iter().map(declare));
    ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        functions: model.functions.clone(),
        graph: Some(part),
        ..ModelProto::default()
    }
}
