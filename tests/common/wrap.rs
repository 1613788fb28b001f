//! Graphs as models, and the smallest of them.

#![allow(dead_code)]

use hgc::unstable::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto};
use prost::Message;

/// A graph at opset 17.
pub fn wrap(graph: GraphProto) -> ModelProto {
    let opset = OperatorSetIdProto {
        version: Some(17),
        ..OperatorSetIdProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// The bytes of a model that reads and computes nothing.
pub fn empty() -> Vec<u8> {
    let graph = GraphProto {
        name: Some("empty".to_owned()),
        ..GraphProto::default()
    };
    wrap(graph).encode_to_vec()
}
