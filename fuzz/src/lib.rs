//! What the fuzz targets share: exports, and damage to them out of random bytes.

pub mod configuration;
#[path = "../../tests/common/damage.rs"]
pub mod damage;
#[path = "../../tests/common/fixtures.rs"]
pub mod fixtures;

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};

use bytes::Bytes;
use damage::{Damage, KINDS, apply};
use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::compile::{Inputs, Project, Source};
use hgc::unstable::onnx::Model;
use hgc::unstable::onnx::proto::ModelProto;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Policy;

const NAMES: [&str; 5] = [
    "distilled-ts17",
    "sd15-ts17",
    "sd15-dynamo23",
    "sd15-ort-extended",
    "sd15-merged",
];
/// Policies that random bytes choose from.
const POLICIES: [&str; 4] = ["hgc", "lossless", "faster-diffusion", "deepcache"];

/// The exports that are damaged, with their paths.
pub static SOURCES: LazyLock<Vec<(PathBuf, ModelProto)>> = LazyLock::new(|| {
    let source = |name: &&str| {
        let path = fixtures::fixture(name).join("unet/model.onnx");
        (path, fixtures::model(name, "unet"))
    };
    NAMES.iter().map(source).collect()
});

/// Lets hgc contain panics of libraries, as it does: libFuzzer would end the process at each. One that
/// leaves hgc still ends it.
pub fn contain_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(std::panic::take_hook()));
}

/// What bytes stand for: an export, a policy, damages. None for too few bytes.
pub fn choices(data: &[u8]) -> Option<(usize, &'static dyn Policy, Vec<Damage>)> {
    let [source, policy, rest @ ..] = data else {
        return None;
    };
    let policy = POLICIES[usize::from(*policy) % POLICIES.len()];
    Some((
        usize::from(*source) % NAMES.len(),
        policy.parse().expect("a policy"),
        damages(rest),
    ))
}

/// At most eight damages.
pub fn damages(data: &[u8]) -> Vec<Damage> {
    let number = |bytes: &[u8]| {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(all)
    };
    let chunks = data.chunks_exact(14).take(8);
    chunks
        .map(|c| Damage {
            kind: c[0] % KINDS,
            at: number(&c[1..4]) as usize,
            other: number(&c[4..6]) as usize,
            // Small numbers and large ones.
            number: match c[13] % 3 {
                0 => i64::from(c[6] as i8),
                1 => 1i64.checked_shl(u32::from(c[6] % 63)).unwrap_or(i64::MAX),
                _ => number(&c[6..14]) as i64,
            },
        })
        .collect()
}

/// A damaged export.
pub fn damaged(source: usize, damages: &[Damage]) -> ModelProto {
    let mut model = SOURCES[source].1.clone();
    for damage in damages {
        let _ = apply(&mut model, damage);
    }
    model
}

/// A model as it is read from a file at `path`; none where it is refused.
pub fn read(bytes: Vec<u8>, path: &Path) -> Option<Inputs> {
    let model = Model::from_bytes(Bytes::from(bytes), path).ok()?;
    Some(Inputs {
        sources: vec![Source {
            model,
            relative: None,
        }],
        pipeline: None,
    })
}

/// The sizes of all exports.
pub const SIZES: Sizes = Sizes {
    batch: 2,
    height: 16,
    width: 16,
    tokens: 77,
};

/// Compiles; none where there is nothing to cache or the model is refused.
pub fn compile(inputs: &Inputs, policy: &dyn Policy) -> Option<ModelProto> {
    let project = Project::new(inputs, SIZES).ok()?;
    let planned = project.plan(policy, &Parameters::new(6)).ok()?;
    if !planned.plan.changes_anything() {
        return None;
    }
    let compiled = project.compile(&planned).ok()?;
    compiled.models.first().map(|m| m.graph().clone())
}
