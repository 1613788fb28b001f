//! A damaged export is refused or compiled; what is compiled strips to the same bytes, and ONNX
//! Runtime loads it wherever it loads what was compiled.
#![no_main]

use hgc::unstable::emit::strip;
use hgc::unstable::engine::{Engine, EngineRequest, ModelSource, Session, SessionOptions};
use hgc::unstable::onnx::folder_of;
use hgc_fuzz::{SOURCES, choices, compile, damaged, read};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    hgc_fuzz::contain_panics();
    let Some((source, policy, damages)) = choices(data) else {
        return;
    };
    let path = &SOURCES[source].0;
    let bytes = damaged(source, &damages).encode_to_vec();
    let Some(inputs) = read(bytes.clone(), path) else {
        return;
    };
    let Some(compiled) = compile(&inputs, policy) else {
        return;
    };
    let back = strip(&compiled).expect("what was compiled strips");
    assert!(
        back.graph == inputs.sources[0].model.proto.graph,
        "another graph"
    );

    let Ok(engine) = Engine::start(&EngineRequest::default()) else {
        return;
    };
    let options = SessionOptions {
        optimization: hgc::unstable::engine::Optimization::Off,
        ..SessionOptions::default()
    };
    let load = |bytes: Vec<u8>| {
        let source = ModelSource::Memory {
            name: "fuzzed".to_owned(),
            bytes: bytes.into(),
            folder: Some(folder_of(path)),
        };
        Session::load(engine, source, &options).map(drop)
    };
    if load(bytes).is_ok()
        && let Err(error) = load(compiled.encode_to_vec())
    {
        panic!("{error}: {:?}", std::error::Error::source(&error));
    }
});
