//! Shapes of every value, by tract's inference.
//!
//! The graph is handed to tract without its weights: every initializer that is
//! large or external becomes a typed input. The batch is a symbol, all other free
//! sizes are numbers ([`Sizes`]). What tract cannot infer is listed, not fatal.

use std::collections::HashSet;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::prelude::SymbolValues;
use tract_onnx::tract_hir::internal::*;

use super::dims::{Dim, Shape};
use super::inputs::InputKind;
use super::sizes::InputDims;
pub use super::sizes::{Sizes, has_open_sizes};
use crate::graph::{Graph, ValueId};
use crate::onnx::proto::{
    GraphProto, ModelProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto, type_proto,
};

/// Why shapes could not be inferred at all.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// tract refused the whole graph.
    #[error("shape inference refused the graph: {0}")]
    Refused(String),
}

/// Shapes by value, and what could not be inferred.
#[derive(Debug)]
pub struct Shapes {
    by_value: Vec<Option<Shape>>,
    /// Whether the latent's batch is open in the export and stays so through the graph.
    pub symbolic_batch: bool,
    /// Names of values without a shape.
    pub unknown: Vec<String>,
}

impl Shapes {
    /// Shape of a value, if known.
    #[must_use]
    pub fn get(&self, value: ValueId) -> Option<&Shape> {
        self.by_value.get(value.index())?.as_ref()
    }
}

/// Elements from which an initializer's content cannot be a shape or an axis list.
const SMALL: i64 = 64;

/// Shapes with every open size doubled; none where the export leaves none open.
///
/// # Errors
/// As [`infer`].
pub fn at_other_sizes(model: &ModelProto, sizes: Sizes) -> Result<Option<Shapes>, ShapeError> {
    let Some(proto) = model.graph.as_ref() else {
        return Ok(None);
    };
    let graph = Graph::new(proto);
    let kinds = super::inputs::classify(&graph);
    if !super::sizes::has_open_sizes(&graph, &kinds) {
        return Ok(None);
    }
    let other = Sizes {
        batch: sizes.batch,
        height: sizes.height.saturating_mul(2),
        width: sizes.width.saturating_mul(2),
        tokens: sizes.tokens.saturating_mul(2),
    };
    infer(model, &graph, &kinds, other).map(Some)
}

/// Infers all shapes.
///
/// # Errors
/// [`ShapeError::Refused`] if tract cannot build its model of the graph.
pub fn infer(
    model: &ModelProto,
    graph: &Graph<'_>,
    kinds: &[InputKind],
    sizes: Sizes,
) -> Result<Shapes, ShapeError> {
    let mut plan = InputDims::new(graph, kinds, sizes);
    let first = run(model, graph, &plan)?;
    let found = if plan.correct_residuals(graph, kinds, &first) {
        run(model, graph, &plan)?
    } else {
        first
    };
    let unknown = graph
        .nodes()
        .flat_map(|n| graph.outputs_of(n))
        .filter(|v| found[v.index()].is_none())
        .map(|v| graph.name(*v).to_owned())
        .collect();
    let symbolic_batch = plan.symbolic
        && graph.outputs().iter().all(|o| {
            found[o.index()]
                .as_ref()
                // What inference lost may be tied to a number that is baked in.
                .is_some_and(|s| s.dims.iter().any(|d| d.follows_batch()))
        });
    Ok(Shapes {
        by_value: found,
        symbolic_batch,
        unknown,
    })
}

const BATCH: &str = "hgc_batch";

fn run(
    model: &ModelProto,
    graph: &Graph<'_>,
    plan: &InputDims,
) -> Result<Vec<Option<Shape>>, ShapeError> {
    let bytes = without_weights(model, graph, plan).encode_to_vec();
    let proto =
        pb::ModelProto::decode(bytes.as_slice()).map_err(|e| ShapeError::Refused(e.to_string()))?;
    drop(bytes);
    let mut parsed = parse(proto)?;
    let symbol = parsed.model.symbols.sym(BATCH);
    // Obstinate: go on past nodes that fail; they keep an unknown shape.
    if let Err(error) = parsed.model.analyse(true) {
        tracing::debug!("shape inference: {error:#}");
    }
    let mut found = vec![None; graph.value_count()];
    for (name, outlet) in &parsed.outlets_by_name {
        if let (Some(value), Ok(fact)) = (graph.value(name), parsed.model.outlet_fact(*outlet)) {
            found[value.index()] = read_fact(fact, &symbol);
        }
    }
    Ok(found)
}

/// Parses, replacing nodes that tract cannot build by unknown operators.
fn parse(mut proto: pb::ModelProto) -> Result<tract_onnx::model::ParseResult, ShapeError> {
    let onnx = super::contrib::reader()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true);
    let refused = |e: TractError| ShapeError::Refused(format!("{e:#}"));
    let error = match onnx.parse(&proto, None) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    let opset = proto
        .opset_import
        .iter()
        .find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let version = opset.map_or(0, |o| o.version);
    let Some(graph) = proto.graph.clone() else {
        return Err(refused(error));
    };
    let broken: HashSet<usize> = {
        let context = tract_onnx::model::ParsingContext {
            onnx_operator_set_version: version,
            framework: &onnx,
            model: &proto,
            parent_graphs: vec![&graph],
            model_dir: None,
            template: InferenceModel::default(),
        };
        let fails = |node: &pb::NodeProto| {
            let builder = onnx.op_register.0.get(&node.op_type);
            builder.is_some_and(|build| build(&context, node).is_err())
        };
        (0..graph.node.len())
            .filter(|&i| fails(&graph.node[i]))
            .collect()
    };
    if let Some(graph) = proto.graph.as_mut() {
        for index in broken {
            graph.node[index].op_type = "HgcUnknown".to_owned();
            graph.node[index].attribute.clear();
        }
    }
    onnx.parse(&proto, None).map_err(refused)
}

fn read_fact(fact: &InferenceFact, batch: &Symbol) -> Option<Shape> {
    let dims = fact.shape.concretize()?;
    let at = |dim: &TDim, n: i64| {
        let values = SymbolValues::default().with(batch, n);
        dim.eval(&values).to_i64().ok()
    };
    let dims = dims
        .iter()
        .map(|dim| {
            if let Ok(fixed) = dim.to_i64() {
                return Some(Dim::fixed(fixed));
            }
            let (two, four, ten) = (at(dim, 2)?, at(dim, 4)?, at(dim, 10)?);
            let per_batch = (four - two) / 2;
            let fixed = two - 2 * per_batch;
            (per_batch * 10 + fixed == ten).then_some(Dim { per_batch, fixed })
        })
        .collect::<Option<Vec<_>>>()?;
    let elem_type = fact.datum_type.concretize().map_or(0, elem_type_of);
    Some(Shape { elem_type, dims })
}

fn elem_type_of(datum: DatumType) -> i32 {
    match datum {
        DatumType::F32 => 1,
        DatumType::U8 => 2,
        DatumType::I8 => 3,
        DatumType::I32 => 6,
        DatumType::I64 | DatumType::TDim => 7,
        DatumType::Bool => 9,
        DatumType::F16 => 10,
        DatumType::F64 => 11,
        _ => 0,
    }
}

/// The model with typed inputs in place of weights and open sizes set.
fn without_weights(model: &ModelProto, graph: &Graph<'_>, plan: &InputDims) -> ModelProto {
    let source = graph.proto();
    let mut slim = GraphProto {
        name: source.name.clone(),
        ..GraphProto::default()
    };
    for (&value, dims) in graph.inputs().iter().zip(&plan.dims) {
        if let Some(info) = graph.input_info(value) {
            slim.input.push(with_dims(info, dims.as_deref()));
        }
    }
    for tensor in &source.initializer {
        if is_small(tensor) {
            slim.initializer.push(tensor.clone());
        } else {
            slim.input.push(weight_input(tensor));
        }
    }
    slim.node = source.node.iter().map(without_notes).collect();
    slim.output.clone_from(&source.output);
    ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        graph: Some(slim),
        ..ModelProto::default()
    }
}

/// The node without metadata and without the payload of large constants.
fn without_notes(node: &crate::onnx::proto::NodeProto) -> crate::onnx::proto::NodeProto {
    let mut node = node.clone();
    node.metadata_props.clear();
    node.doc_string = None;
    node
}

fn is_small(tensor: &TensorProto) -> bool {
    tensor.external_data.is_empty() && tensor.dims.iter().product::<i64>() <= SMALL
}

fn weight_input(tensor: &TensorProto) -> ValueInfoProto {
    let shape = TensorShapeProto {
        dim: tensor.dims.iter().map(|d| fixed(*d)).collect(),
    };
    declare(tensor.name(), tensor.data_type(), shape)
}

fn with_dims(info: &ValueInfoProto, dims: Option<&[Option<Dim>]>) -> ValueInfoProto {
    let Some(dims) = dims else {
        return info.clone();
    };
    let elem_type = super::inputs::declared_type(info);
    let dim = dims.iter().map(|d| match d {
        Some(d) if *d == Dim::batch() => named(BATCH.to_owned()),
        Some(d) if d.follows_batch() => named(format!("{}*{BATCH}", d.per_batch)),
        Some(d) => fixed(d.fixed),
        None => tensor_shape_proto::Dimension::default(),
    });
    declare(
        info.name(),
        elem_type,
        TensorShapeProto { dim: dim.collect() },
    )
}

fn fixed(size: i64) -> tensor_shape_proto::Dimension {
    let value = Some(tensor_shape_proto::dimension::Value::DimValue(size));
    tensor_shape_proto::Dimension {
        value,
        ..Default::default()
    }
}

fn named(symbol: String) -> tensor_shape_proto::Dimension {
    let value = Some(tensor_shape_proto::dimension::Value::DimParam(symbol));
    tensor_shape_proto::Dimension {
        value,
        ..Default::default()
    }
}

/// A tensor value declaration.
#[must_use]
pub fn declare(name: &str, elem_type: i32, shape: TensorShapeProto) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(elem_type),
        shape: Some(shape),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value,
            ..Default::default()
        }),
        ..Default::default()
    }
}
