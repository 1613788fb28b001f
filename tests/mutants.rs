//! Damaged exports are refused or compiled, never a panic; what is compiled strips back.
//!
//! `cargo xtask fuzz` does the same for longer, and guided by what is reached.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "common/damage.rs"]
mod damage;
#[path = "common/fixtures.rs"]
mod fixtures;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use damage::{Damage, apply};
use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::compile::{Inputs, Project, Source};
use hgc::unstable::emit::strip;
use hgc::unstable::onnx::Model;
use hgc::unstable::onnx::proto::ModelProto;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Policy;
use proptest::prelude::*;
use prost::Message;

const SIZES: Sizes = Sizes {
    batch: 2,
    height: 16,
    width: 16,
    tokens: 77,
};
const NAMES: [&str; 5] = [
    "sd15-ts17",
    "sd15-dynamo23",
    "sdxl-ts17",
    "sd15-ort-extended",
    "sd15-merged",
];
static SOURCES: LazyLock<Vec<(PathBuf, ModelProto)>> = LazyLock::new(|| {
    let source = |name: &&str| {
        let model = fixtures::model(name, "unet");
        (fixtures::fixture(name).join("unet/model.onnx"), model)
    };
    NAMES.iter().map(source).collect()
});

fn damages() -> impl Strategy<Value = Damage> {
    let numbers = prop_oneof![
        Just(0),
        Just(-1),
        Just(i64::MAX),
        Just(i64::MIN),
        Just(1 << 40),
        -3i64..9,
        any::<i64>(),
    ];
    (0..damage::KINDS, any::<usize>(), any::<usize>(), numbers).prop_map(
        |(kind, at, other, number)| Damage {
            kind,
            at,
            other,
            number,
        },
    )
}

/// Everything that `hgc compile` does before it writes; the reason where it refuses.
fn compile(bytes: Vec<u8>, path: &Path, policy: &str) -> Result<(), String> {
    let policy: &dyn Policy = policy.parse().expect("a policy");
    let text = |e: &dyn std::error::Error| e.to_string();
    let model = Model::from_bytes(Bytes::from(bytes), path).map_err(|e| text(&e))?;
    let inputs = Inputs {
        sources: vec![Source {
            model,
            relative: None,
        }],
        pipeline: None,
    };
    let project = Project::new(&inputs, SIZES).map_err(|e| text(&e))?;
    let planned = project
        .plan(policy, &Parameters::new(6))
        .map_err(|e| text(&e))?;
    if !planned.plan.changes_anything() {
        return Ok(());
    }
    let compiled = project.compile(&planned).map_err(|e| text(&e))?;
    let compiled = compiled.models[0].graph();
    let back = strip(compiled).expect("what was compiled strips");
    assert!(
        back.graph == inputs.sources[0].model.proto.graph,
        "stripping gives another graph"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(160) })]
    #[test]
    fn damaged_exports_do_no_harm(
        source in 0..NAMES.len(),
        damages in proptest::collection::vec(damages(), 1..5),
        policy in prop_oneof![Just("hgc"), Just("lossless"), Just("faster-diffusion")],
    ) {
        let (path, model) = &SOURCES[source];
        let mut model = model.clone();
        for damage in &damages {
            let _ = apply(&mut model, damage);
        }
        if let Err(reason) = compile(model.encode_to_vec(), path, policy) {
            prop_assert!(!reason.is_empty());
        }
    }
}
