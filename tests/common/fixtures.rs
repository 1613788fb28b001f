//! Fixtures as models on disk: stored without weights, restored by their recipes.
//!
//! The rule is that of `models/restore.py`; `tests/fixtures/README.md` has test vectors.

// Every test binary includes this file and uses its own part of it.
#![allow(dead_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use half::f16;
use hgc::unstable::onnx::proto::ModelProto;
use prost::Message;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What `weights.bin` is made from.
#[derive(Deserialize)]
pub struct Recipe {
    seed: u64,
    tensors: Vec<Tensor>,
}

/// One tensor of a recipe.
#[derive(Deserialize)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub elements: usize,
    pub offset: usize,
    pub scale: f32,
    pub bias: f32,
}

/// The folder of all stored fixtures.
pub fn stored() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The fuzz targets, which include this file too, are a crate inside of this one.
    let root = if here.ends_with("fuzz") {
        here.parent().unwrap_or(here)
    } else {
        here
    };
    root.join("tests/fixtures")
}

/// Names of all stored fixtures with their components, in order.
pub fn names() -> Vec<(String, String)> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let paths = entries.map(|e| e.expect("an entry of a folder").path());
        paths.filter(|p| p.is_dir()).collect()
    };
    let name = |path: &Path| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    let mut names = Vec::new();
    for fixture in folders(&stored()) {
        for component in folders(&fixture) {
            names.push((name(&fixture), name(&component)));
        }
    }
    names.sort();
    names
}

/// The message of a stored model; its weights are nowhere.
pub fn model(name: &str, component: &str) -> ModelProto {
    let path = stored().join(name).join(component).join("model.onnx.zst");
    ModelProto::decode(Bytes::from(unpacked(&path))).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

/// The folder of a restored fixture: `<component>/{model.onnx, weights.bin}`.
///
/// Restored once for each state of the stored files; tests may call it at the same time.
pub fn fixture(name: &str) -> PathBuf {
    let components: Vec<PathBuf> = names()
        .into_iter()
        .filter(|(fixture, _)| fixture == name)
        .map(|(_, component)| stored().join(name).join(component))
        .collect();
    assert!(!components.is_empty(), "no fixture {name}");
    // Set for tests; examples, which include this file too, restore to a folder they are given.
    let temporary =
        option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let home = temporary.join("hgc-fixtures").join(key(&components));
    let ready = home.join(name);
    if !ready.is_dir() {
        fs::create_dir_all(&home).expect("a folder for fixtures");
        let draft = tempfile::tempdir_in(&home).expect("a folder for a fixture");
        for component in &components {
            restore(component, draft.path());
        }
        // A folder is renamed whole; where another test was faster, its work is as good.
        if let Err(error) = fs::rename(draft.path(), &ready) {
            assert!(ready.is_dir(), "{ready:?}: {error}");
        }
    }
    ready
}

/// A name for the content of the stored files, so that a changed fixture is restored anew.
fn key(components: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    for component in components {
        for file in ["model.onnx.zst", "recipe.json"] {
            hash.update(read(&component.join(file)));
        }
    }
    hash.finalize()[..8]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Restores a stored component to a folder of its name in `into`.
pub fn restore(component: &Path, into: &Path) {
    let folder = into.join(component.file_name().expect("a component's name"));
    fs::create_dir_all(&folder).expect("a folder for a component");
    fs::write(
        folder.join("model.onnx"),
        unpacked(&component.join("model.onnx.zst")),
    )
    .expect("a restored model");
    fs::write(folder.join("weights.bin"), weights(&recipe(component))).expect("restored weights");
}

/// The recipe of a stored component.
pub fn recipe(component: &Path) -> Recipe {
    let path = component.join("recipe.json");
    serde_json::from_slice(&read(&path)).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

/// The bytes of `weights.bin`.
pub fn weights(recipe: &Recipe) -> Vec<u8> {
    let mut data = Vec::new();
    for tensor in &recipe.tensors {
        data.resize(tensor.offset, 0);
        data.extend(bytes_of(recipe.seed, tensor));
    }
    data
}

/// The bytes of one tensor.
pub fn bytes_of(seed: u64, tensor: &Tensor) -> Vec<u8> {
    let values = numbers(seed.wrapping_add(fnv1a64(&tensor.name))).map(|number| {
        // 24 bits: exact in a float.
        let u = (number >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        tensor.scale * u + tensor.bias
    });
    let values = values.take(tensor.elements);
    match tensor.dtype.as_str() {
        "f32" => values.flat_map(f32::to_le_bytes).collect(),
        "f16" => values
            .flat_map(|v| f16::from_f32(v).to_le_bytes())
            .collect(),
        other => panic!("{}: no type {other}", tensor.name),
    }
}

/// What SplitMix64 draws from a state.
pub fn numbers(state: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |step| {
        let z = state.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The 64-bit FNV-1a hash of a text.
pub fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn unpacked(path: &Path) -> Vec<u8> {
    zstd::decode_all(read(path).as_slice()).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}
