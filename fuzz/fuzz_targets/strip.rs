//! A compiled model that was changed strips to the original, bit by bit, or is refused.
#![no_main]

use std::sync::LazyLock;

use hgc::unstable::emit::{compiled_plan, strip};
use hgc::unstable::onnx::graph_hash;
use hgc::unstable::onnx::proto::ModelProto;
use hgc_fuzz::damage::apply;
use hgc_fuzz::{SOURCES, compile, damages, read};
use libfuzzer_sys::fuzz_target;
use prost::Message;

static COMPILED: LazyLock<ModelProto> = LazyLock::new(|| {
    let (path, model) = &SOURCES[0];
    let inputs = read(model.encode_to_vec(), path).expect("a sound export");
    compile(
        &inputs,
        "hgc"
            .parse::<&dyn hgc::unstable::plan::policy::Policy>()
            .expect("a policy"),
    )
    .expect("something to cache")
});

fuzz_target!(|data: &[u8]| {
    hgc_fuzz::contain_panics();
    let mut model = COMPILED.clone();
    let [entry, place, byte, rest @ ..] = data else {
        return;
    };
    for damage in damages(rest) {
        let _ = apply(&mut model, &damage);
    }
    // A byte of the metadata.
    let count = model.metadata_props.len();
    if let Some(entry) = model
        .metadata_props
        .get_mut(usize::from(*entry) % count.max(1))
    {
        let mut text = entry.value().to_owned().into_bytes();
        let place = usize::from(*place) * 7;
        if let Some(slot) = text.get_mut(place) {
            *slot = *byte;
        }
        entry.value = Some(String::from_utf8_lossy(&text).into_owned());
    }
    let _ = compiled_plan(&model);
    if let Ok(original) = strip(&model) {
        let plan = compiled_plan(&model).expect("the plan is read by strip");
        assert!(plan.models.iter().any(|m| m.hash == graph_hash(&original)));
    }
});
