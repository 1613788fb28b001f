//! The part of a model file that the embedded engine does not report: metadata,
//! declared shapes with their symbols, and which operators are used.
//!
//! These messages name only the fields needed here. Decoding skips the others, so
//! no weight is copied; they are never written back.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::error::{EngineError, Result};
use super::session::{Dim, ValueInfo};
use super::tensor::DType;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Initializer>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Initializer {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

/// What a model file says about itself.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// Inputs that must be given.
    pub inputs: Vec<ValueInfo>,
    /// The outputs.
    pub outputs: Vec<ValueInfo>,
    /// The `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Every operator used, at any depth, with the name of a node that uses it.
    pub operators: BTreeMap<(String, String), String>,
}

impl Header {
    /// Reads the header of the model in `bytes`; `file` names it in errors.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self> {
        let model = Model::decode(bytes)
            .map_err(|source| EngineError::Parse { file: file.to_owned(), source })?;
        let graph = model.graph.unwrap_or_default();
        let defaults: BTreeSet<&str> = graph.initializer.iter().map(|i| i.name.as_str()).collect();
        let required = graph.input.iter().filter(|v| !defaults.contains(v.name.as_str()));
        let mut header = Self {
            inputs: required.map(|v| value_info(file, v)).collect::<Result<_>>()?,
            outputs: graph.output.iter().map(|v| value_info(file, v)).collect::<Result<_>>()?,
            metadata: model.metadata_props.into_iter().map(|e| (e.key, e.value)).collect(),
            operators: BTreeMap::new(),
        };
        collect_operators(&graph, &mut header.operators);
        Ok(header)
    }
}

fn collect_operators(graph: &Graph, found: &mut BTreeMap<(String, String), String>) {
    for node in &graph.node {
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        let label = if node.name.is_empty() {
            node.output.first().cloned().unwrap_or_default()
        } else {
            node.name.clone()
        };
        found.entry((domain.to_owned(), node.op_type.clone())).or_insert(label);
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                collect_operators(inner, found);
            }
        }
    }
}

fn value_info(file: &str, value: &Value) -> Result<ValueInfo> {
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let code = tensor.map_or(0, |t| t.elem_type);
    let dtype = DType::from_onnx(code).ok_or_else(|| EngineError::UnsupportedType {
        file: file.to_owned(),
        value: value.name.clone(),
        found: format!("TensorProto.DataType {code}"),
    })?;
    let shape = tensor.and_then(|t| t.shape.as_ref());
    let dims = shape.map(|s| s.dim.iter().map(dimension).collect()).unwrap_or_default();
    Ok(ValueInfo { name: value.name.clone(), dtype, dims })
}

fn dimension(dim: &Dimension) -> Dim {
    match (&dim.dim_value, &dim.dim_param) {
        (Some(n), _) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
        (None, Some(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
        _ => Dim::Unknown,
    }
}
