//! How the cases are written.

use std::fs;
use std::path::{Path, PathBuf};

use hgc::unstable::onnx::proto::tensor_proto::DataType;
use hgc::unstable::onnx::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use prost::Message;

use super::models::{base, refer};

pub(super) fn bytes(bytes: &'static [u8]) -> impl Fn(&Path) -> PathBuf {
    move |dir| put_bytes(dir, bytes)
}

pub(super) fn put_bytes(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("m.onnx");
    fs::write(&path, bytes).expect("the folder is writable");
    path
}

/// Writes `model`, and a data file and a folder to refer to.
pub fn put(dir: &Path, model: &ModelProto) -> PathBuf {
    fs::write(dir.join("w.bin"), [7; 64]).expect("the folder is writable");
    fs::create_dir_all(dir.join("sub")).expect("the folder is writable");
    put_bytes(dir, &model.encode_to_vec())
}

/// The base model, changed.
pub(super) fn edit(change: impl Fn(&mut ModelProto)) -> impl Fn(&Path) -> PathBuf {
    move |dir| {
        let mut model = base();
        change(&mut model);
        put(dir, &model)
    }
}

/// The base model with its graph changed.
pub(super) fn main(change: impl Fn(&mut GraphProto)) -> impl Fn(&Path) -> PathBuf {
    edit(move |model| change(model.graph.get_or_insert_default()))
}

/// The base model with its weight changed.
pub(super) fn weight(change: impl Fn(&mut TensorProto)) -> impl Fn(&Path) -> PathBuf {
    main(move |graph| change(&mut graph.initializer[0]))
}

/// The base model with a weight of `len` elements of this type.
pub(super) fn typed(
    dtype: DataType,
    len: i64,
    change: impl Fn(&mut TensorProto),
) -> impl Fn(&Path) -> PathBuf {
    weight(move |tensor| {
        *tensor = TensorProto {
            name: Some("w".into()),
            data_type: Some(dtype as i32),
            dims: vec![len],
            ..TensorProto::default()
        };
        change(tensor);
    })
}

/// The base model with its weight outside.
pub(super) fn outside(entries: &'static [(&str, &str)]) -> impl Fn(&Path) -> PathBuf {
    weight(move |tensor| refer(tensor, entries))
}

/// The base model with its weight at `location`.
pub(super) fn at(location: &'static str) -> impl Fn(&Path) -> PathBuf {
    weight(move |tensor| refer(tensor, &[("location", location)]))
}

/// A file that ends within its last field: after one `part` of it, or a byte early for 1.
pub(super) fn cut(dir: &Path, part: usize) -> PathBuf {
    let mut model = base();
    // The last field by number, so that a cut is within it.
    model.metadata_props = vec![StringStringEntryProto {
        key: Some("padding".into()),
        value: Some("x".repeat(1000)),
    }];
    let bytes = model.encode_to_vec();
    let len = if part == 1 {
        bytes.len() - 1
    } else {
        bytes.len() / part
    };
    put_bytes(dir, &bytes[..len])
}

pub(super) fn not_utf8(dir: &Path) -> PathBuf {
    let (mut bytes, at) = node_name();
    bytes[at] = 0xff;
    put_bytes(dir, &bytes)
}

pub(super) fn inner_length(dir: &Path) -> PathBuf {
    let (mut bytes, at) = node_name();
    bytes[at - 1] = 0x7f;
    put_bytes(dir, &bytes)
}

/// The base model, and where the name of its node begins, after its length.
fn node_name() -> (Vec<u8>, usize) {
    let bytes = base().encode_to_vec();
    let at = bytes
        .windows(3)
        .position(|w| w == b"sum")
        .expect("the node is called sum");
    (bytes, at)
}

pub(super) fn unknown_field(dir: &Path) -> PathBuf {
    let model = ModelProto {
        graph: None,
        ..base()
    };
    let mut graph = base().graph.unwrap_or_default().encode_to_vec();
    // Field 99, a number.
    graph.extend([0x98, 0x06, 0x01]);
    let mut bytes = model.encode_to_vec();
    bytes.push(0x3a);
    prost::encode_length_delimiter(graph.len(), &mut bytes).expect("a vector grows");
    bytes.extend(graph);
    put_bytes(dir, &bytes)
}

#[cfg(unix)]
pub(super) fn linked(dir: &Path, target: &str) -> PathBuf {
    std::os::unix::fs::symlink(target, dir.join("link")).expect("the folder is writable");
    at("link")(dir)
}

#[cfg(unix)]
pub(super) fn pipe(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo works");
    path
}

#[cfg(not(unix))]
pub(super) fn linked(dir: &Path, _: &str) -> PathBuf {
    dir.to_owned()
}

#[cfg(not(unix))]
pub(super) fn pipe(dir: &Path, _: &str) -> PathBuf {
    dir.to_owned()
}
