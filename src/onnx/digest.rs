//! A fingerprint of a model's structure that ignores its weights and where they are stored.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::encode::encode_model;
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};

/// Payloads above this size are weights; smaller ones (shapes, axes, scales) are structure.
/// They stay inline as well: engines read them while they load the graph.
pub(super) const WEIGHT_BYTES: u64 = 1024;

/// SHA-256, in hexadecimal, over the structure of `model`.
///
/// Weights count by name, type and dimensions only, be they inline or external. The model's
/// own metadata, documentation and producer do not count, so a plan written into the metadata
/// leaves the hash alone. No weight is read.
pub fn graph_hash(model: &ModelProto) -> String {
    let mut hasher = Sha256::new();
    // Hashing cannot fail.
    let _ = encode_model(&skeleton(model), &mut hasher);
    hexadecimal(hasher)
}

/// What a finished SHA-256 is written as.
#[must_use]
pub fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().fold(String::new(), |mut hex, b| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{b:02x}");
        hex
    })
}

fn skeleton(model: &ModelProto) -> ModelProto {
    let mut functions = model.functions.clone();
    for function in &mut functions {
        function.node = function.node.iter().map(node).collect();
        function.attribute_proto = function.attribute_proto.iter().map(attribute).collect();
    }
    ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        domain: model.domain.clone(),
        model_version: model.model_version,
        graph: model.graph.as_ref().map(graph),
        functions,
        configuration: model.configuration.clone(),
        ..ModelProto::default()
    }
}

fn graph(graph: &GraphProto) -> GraphProto {
    GraphProto {
        node: graph.node.iter().map(node).collect(),
        name: graph.name.clone(),
        initializer: graph.initializer.iter().map(tensor).collect(),
        doc_string: graph.doc_string.clone(),
        input: graph.input.clone(),
        output: graph.output.clone(),
        value_info: graph.value_info.clone(),
        quantization_annotation: graph.quantization_annotation.clone(),
        sparse_initializer: graph.sparse_initializer.iter().map(sparse).collect(),
        metadata_props: graph.metadata_props.clone(),
    }
}

fn node(node: &NodeProto) -> NodeProto {
    NodeProto {
        input: node.input.clone(),
        output: node.output.clone(),
        name: node.name.clone(),
        op_type: node.op_type.clone(),
        attribute: node.attribute.iter().map(attribute).collect(),
        doc_string: node.doc_string.clone(),
        domain: node.domain.clone(),
        overload: node.overload.clone(),
        metadata_props: node.metadata_props.clone(),
        device_configurations: node.device_configurations.clone(),
    }
}

fn attribute(attr: &AttributeProto) -> AttributeProto {
    AttributeProto {
        t: attr.t.as_ref().map(tensor),
        g: attr.g.as_ref().map(graph),
        sparse_tensor: attr.sparse_tensor.as_ref().map(sparse),
        tensors: attr.tensors.iter().map(tensor).collect(),
        graphs: attr.graphs.iter().map(graph).collect(),
        sparse_tensors: attr.sparse_tensors.iter().map(sparse).collect(),
        name: attr.name.clone(),
        ref_attr_name: attr.ref_attr_name.clone(),
        doc_string: attr.doc_string.clone(),
        r#type: attr.r#type,
        f: attr.f,
        i: attr.i,
        s: attr.s.clone(),
        tp: attr.tp.clone(),
        floats: attr.floats.clone(),
        ints: attr.ints.clone(),
        strings: attr.strings.clone(),
        type_protos: attr.type_protos.clone(),
    }
}

fn sparse(sparse: &SparseTensorProto) -> SparseTensorProto {
    SparseTensorProto {
        values: sparse.values.as_ref().map(tensor),
        indices: sparse.indices.as_ref().map(tensor),
        dims: sparse.dims.clone(),
    }
}

fn tensor(tensor: &TensorProto) -> TensorProto {
    if !is_weight(tensor) {
        return tensor.clone();
    }
    TensorProto {
        dims: tensor.dims.clone(),
        data_type: tensor.data_type,
        segment: tensor.segment,
        name: tensor.name.clone(),
        doc_string: tensor.doc_string.clone(),
        metadata_props: tensor.metadata_props.clone(),
        ..TensorProto::default()
    }
}

fn is_weight(tensor: &TensorProto) -> bool {
    let bytes = tensor.byte_len().unwrap_or_else(|| {
        let strings = tensor.string_data.iter();
        strings.map(|s| s.len() as u64).sum()
    });
    tensor.is_external() || bytes > WEIGHT_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::proto::StringStringEntryProto;
    use super::super::{External, attr_graph, make_node, tensor_f32, tensor_i64};
    use super::*;

    fn model(weight: TensorProto, axes: &[i64]) -> ModelProto {
        let branch = GraphProto {
            initializer: vec![weight.clone()],
            ..GraphProto::default()
        };
        let node = make_node("If", "gate", ["c"], ["y"]).with_attr(attr_graph("g", branch));
        ModelProto {
            graph: Some(GraphProto {
                node: vec![node],
                initializer: vec![weight, tensor_i64("axes", &[1], axes)],
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        }
    }

    #[test]
    fn weights_count_by_shape_only() {
        let inline = tensor_f32("w", &[300], &[1.0; 300]);
        let hash = graph_hash(&model(inline.clone(), &[1]));
        assert_eq!(hash.len(), 64);

        let other_values = tensor_f32("w", &[300], &[2.0; 300]);
        assert_eq!(graph_hash(&model(other_values, &[1])), hash);

        let mut typed = inline.clone();
        typed.raw_data = None;
        typed.float_data = vec![1.0; 300];
        assert_eq!(graph_hash(&model(typed, &[1])), hash);

        let mut external = inline;
        let elsewhere = External {
            location: "w.bin".into(),
            offset: 64,
            length: Some(1200),
        };
        elsewhere.attach(&mut external);
        assert_eq!(graph_hash(&model(external, &[1])), hash);

        let other_shape = tensor_f32("w", &[30, 10], &[1.0; 300]);
        assert_ne!(graph_hash(&model(other_shape, &[1])), hash);
    }

    #[test]
    fn small_constants_count_and_model_metadata_do_not() {
        let weight = tensor_f32("w", &[300], &[1.0; 300]);
        let mut a = model(weight.clone(), &[1]);
        let hash = graph_hash(&a);
        assert_ne!(graph_hash(&model(weight, &[2])), hash);
        a.metadata_props.push(StringStringEntryProto::default());
        a.producer_name = Some("x".into());
        a.doc_string = Some("y".into());
        assert_eq!(graph_hash(&a), hash);
    }
}
