//! The smallest model that reads: a graph without nodes.

use hgc::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto};
use prost::Message;

pub fn model() -> Vec<u8> {
    let opset = OperatorSetIdProto {
        version: Some(17),
        ..OperatorSetIdProto::default()
    };
    let graph = GraphProto {
        name: Some("empty".to_owned()),
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}
