//! Opening never panics, whatever the bytes, and what is accepted survives being written.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use hgc::unstable::onnx::proto::ModelProto;
use hgc::unstable::onnx::{Model, encode_model, graph_hash};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    hgc_fuzz::contain_panics();
    // A folder that does not exist, so that no file is found by a lucky name.
    let path = Path::new("nowhere/model.onnx");
    let Ok(model) = Model::from_bytes(Bytes::copy_from_slice(data), path) else {
        return;
    };
    graph_hash(&model.proto);
    let mut encoded = Vec::new();
    encode_model(&model.proto, &mut encoded).expect("a vector takes everything");
    // Bytes, not models: a tensor may hold a number that is unequal to itself.
    let again = ModelProto::decode(&*encoded).expect("what was encoded decodes");
    assert_eq!(again.encode_to_vec(), encoded);
});
