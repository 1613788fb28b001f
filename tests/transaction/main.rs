//! Files appear together or not at all, inputs stay, and weights follow their model.

mod data;
mod outside;
mod safety;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use hgc::unstable::onnx::proto::tensor_proto::{DataLocation, DataType};
use hgc::unstable::onnx::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use hgc::unstable::onnx::{
    Model, Transaction, WriteError, attr_graph, attr_tensor, make_node, tensor_bool, tensor_f32,
};
use tempfile::{TempDir, tempdir};

type Outcome = Result<(), Box<dyn Error>>;

/// A model with these weights.
fn model(weights: Vec<TensorProto>) -> ModelProto {
    let value = |name: &str| ValueInfoProto {
        name: Some(name.into()),
        ..ValueInfoProto::default()
    };
    ModelProto {
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        graph: Some(GraphProto {
            input: vec![value("x")],
            output: vec![value("y")],
            node: vec![make_node("Neg", "neg", ["x"], ["y"])],
            initializer: weights,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// A weight of four floats at `offset` of `location`.
fn external(name: &str, location: &str, offset: u64) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    TensorProto {
        name: Some(name.into()),
        data_type: Some(DataType::Float as i32),
        dims: vec![4],
        data_location: Some(DataLocation::External as i32),
        external_data: vec![
            entry("location", location.into()),
            entry("offset", offset.to_string()),
            entry("length", "16".into()),
        ],
        ..TensorProto::default()
    }
}

/// A folder with two data files in it.
fn source() -> std::io::Result<TempDir> {
    let dir = tempdir()?;
    fs::write(dir.path().join("a.bin"), (0..64).collect::<Vec<u8>>())?;
    fs::write(dir.path().join("b.bin"), [9; 32])?;
    Ok(dir)
}

/// Names and contents of everything in a folder.
fn listing(dir: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let contents = if entry.file_type()?.is_dir() {
            Vec::new()
        } else {
            assert!(entry.file_type()?.is_file(), "{name} is a link");
            fs::read(entry.path())?
        };
        files.insert(name, contents);
    }
    Ok(files)
}

fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    Ok(listing(dir)?.into_keys().collect())
}

fn weights(path: &Path) -> Result<Vec<TensorProto>, Box<dyn Error>> {
    Ok(Model::read(path)?
        .proto
        .graph
        .unwrap_or_default()
        .initializer)
}

fn locations(path: &Path) -> Result<Vec<(String, u64)>, Box<dyn Error>> {
    let external = weights(path)?.into_iter().filter_map(|t| t.external());
    Ok(external.map(|e| (e.location, e.offset)).collect())
}

fn quiet(_: u64, _: u64) {}
