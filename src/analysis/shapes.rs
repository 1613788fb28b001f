//! Shapes of every value, by tract's inference.
//!
//! The graph is handed to tract without its weights: every initializer that is
//! large or external becomes a typed input. The batch is a symbol, all other free
//! sizes are numbers ([`Sizes`]). What tract cannot infer is listed, not fatal.

use std::collections::HashSet;

use prost::Message;
use tract_onnx::model::ParseResult;
use tract_onnx::pb;
use tract_onnx::prelude::SymbolValues;
use tract_onnx::tract_hir::internal::*;

use super::dims::{Dim, Shape};
use super::guarded;
use super::inputs::InputKind;
use super::sizes::InputDims;
pub use super::sizes::{Sizes, has_open_sizes};
use super::stand_in::StandIns;
use crate::graph::{Graph, ValueId};
use crate::onnx::is_standard_domain;
use crate::onnx::proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto, type_proto,
};

/// Shapes by value, and what could not be inferred.
#[derive(Debug)]
pub struct Shapes {
    by_value: Vec<Option<Shape>>,
    /// Whether the latent's batch is open in the export and stays so through the graph.
    pub symbolic_batch: bool,
    /// Names of values without a shape.
    pub unknown: Vec<String>,
    /// Why the graph as a whole could not be inferred, if so: then no shape is known.
    pub refused: Option<String>,
}

impl Shapes {
    /// Shape of a value, if known.
    #[must_use]
    pub fn get(&self, value: ValueId) -> Option<&Shape> {
        self.by_value.get(value.index())?.as_ref()
    }
}

/// An operator that nobody knows.
const UNKNOWN: &str = "HgcUnknown";

/// Elements from which an initializer's content cannot be a shape or an axis list.
const SMALL: u64 = 64;

/// Inputs of one node from which tract is not asked: it compares each with all others.
const MOST_INPUTS: usize = 4096;

/// Shapes with every open size at least doubled; none where the export leaves none open.
///
/// Latent sides become multiples of 128, so that no stride of a UNet rounds two sizes to one.
#[must_use]
pub fn at_other_sizes(model: &ModelProto, sizes: Sizes) -> Option<Shapes> {
    let proto = model.graph.as_ref()?;
    let graph = Graph::new(proto);
    let kinds = super::inputs::classify(&graph);
    if !super::sizes::has_open_sizes(&graph, &kinds) {
        return None;
    }
    let side = |size: u64| size.max(1).div_ceil(64).saturating_mul(128);
    let other = Sizes {
        batch: sizes.batch,
        height: side(sizes.height),
        width: side(sizes.width),
        tokens: sizes.tokens.saturating_mul(2),
    };
    Some(infer(model, &graph, &kinds, other))
}

/// Infers all shapes.
#[must_use]
pub fn infer(model: &ModelProto, graph: &Graph<'_>, kinds: &[InputKind], sizes: Sizes) -> Shapes {
    let mut plan = InputDims::new(graph, kinds, sizes);
    let mut inferred = run(model, graph, &plan);
    if let Ok(first) = &inferred
        && plan.correct_residuals(graph, kinds, first)
    {
        inferred = run(model, graph, &plan);
    }
    let (found, refused) = match inferred {
        Ok(found) => (found, None),
        Err(error) => (vec![None; graph.value_count()], Some(format!("{error:#}"))),
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
    Shapes {
        by_value: found,
        symbolic_batch,
        unknown,
        refused,
    }
}

const BATCH: &str = "hgc_batch";

fn run(model: &ModelProto, graph: &Graph<'_>, plan: &InputDims) -> TractResult<Vec<Option<Shape>>> {
    let stand_ins = StandIns::of(graph.proto());
    let bytes = without_weights(model, graph, plan, stand_ins).encode_to_vec();
    let proto = pb::ModelProto::decode(bytes.as_slice())?;
    drop(bytes);
    let mut found = vec![None; graph.value_count()];
    guarded::inference(|| {
        let mut parsed = parse(proto)?;
        let symbol = parsed.model.symbols.sym(BATCH);
        // Obstinate: go on past nodes that fail; they keep an unknown shape.
        let analysed = guarded::contained(|| parsed.model.analyse(true));
        if let Err(error) = analysed {
            tracing::debug!("shape inference: {error:#}");
        }
        for (name, outlet) in &parsed.outlets_by_name {
            let fact = parsed.model.outlet_fact(*outlet);
            if let (Some(value), Ok(fact)) = (graph.value(name), fact) {
                found[value.index()] = read_fact(fact, &symbol, stand_ins);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Parses, replacing nodes that tract cannot build by unknown operators.
fn parse(mut proto: pb::ModelProto) -> TractResult<ParseResult> {
    let onnx = super::contrib::reader()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true);
    let error = match guarded::contained(|| onnx.parse(&proto, None)) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    let opset = proto
        .opset_import
        .iter()
        .find(|o| is_standard_domain(&o.domain));
    let version = opset.map_or(0, |o| o.version);
    let Some(graph) = proto.graph.clone() else {
        return Err(error);
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
            builder.is_some_and(|build| {
                guarded::contained(|| build(&context, node).map(drop)).is_err()
            })
        };
        (0..graph.node.len())
            .filter(|&i| fails(&graph.node[i]))
            .collect()
    };
    if let Some(graph) = proto.graph.as_mut() {
        for index in broken {
            graph.node[index].op_type = UNKNOWN.to_owned();
            graph.node[index].attribute.clear();
        }
    }
    onnx.parse(&proto, None)
}

fn read_fact(fact: &InferenceFact, batch: &Symbol, stand_ins: StandIns) -> Option<Shape> {
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
    let inferred = fact.datum_type.concretize().map_or(0, elem_type_of);
    let elem_type = stand_ins.meant(inferred);
    Some(Shape { elem_type, dims })
}

fn elem_type_of(datum: DatumType) -> i32 {
    match datum {
        DatumType::F32 => 1,
        DatumType::U8 => 2,
        DatumType::I8 => 3,
        DatumType::U16 => 4,
        DatumType::I16 => 5,
        DatumType::I32 => 6,
        DatumType::I64 | DatumType::TDim => 7,
        DatumType::Bool => 9,
        DatumType::F16 => 10,
        DatumType::F64 => 11,
        DatumType::U32 => 12,
        DatumType::U64 => 13,
        _ => 0,
    }
}

/// The model with typed inputs in place of weights and open sizes set.
fn without_weights(
    model: &ModelProto,
    graph: &Graph<'_>,
    plan: &InputDims,
    stand_ins: StandIns,
) -> ModelProto {
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
            slim.initializer.push(stand_ins.tensor(tensor.clone()));
        } else {
            slim.input.push(weight_input(tensor.name(), tensor));
        }
    }
    for node in &source.node {
        match constant(node).filter(|t| !is_small(t)) {
            Some(tensor) => {
                let name = node.output.first().map_or("", String::as_str);
                slim.input.push(weight_input(name, tensor));
            }
            None if node.input.len() > MOST_INPUTS => slim.node.push(unknown(node)),
            None => slim.node.push(plain(node, stand_ins)),
        }
    }
    slim.output.clone_from(&source.output);
    for info in slim.input.iter_mut().chain(&mut slim.output) {
        if let Some(type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|t| t.value.as_mut())
        {
            tensor.elem_type = tensor.elem_type.map(|t| stand_ins.told(t));
        }
    }
    ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        graph: Some(slim),
        ..ModelProto::default()
    }
}

/// A node in the place of one that tract is not asked about: it makes the same values.
fn unknown(node: &NodeProto) -> NodeProto {
    NodeProto {
        name: node.name.clone(),
        op_type: Some(UNKNOWN.to_owned()),
        output: node.output.clone(),
        ..NodeProto::default()
    }
}

/// The tensor of a `Constant` node.
fn constant(node: &NodeProto) -> Option<&TensorProto> {
    let value = node.attribute.iter().find(|a| a.name() == "value");
    value.filter(|_| node.op_type() == "Constant")?.t.as_ref()
}

/// The node without metadata, in types that tract knows.
fn plain(node: &NodeProto, stand_ins: StandIns) -> NodeProto {
    let mut node = node.clone();
    node.metadata_props.clear();
    node.doc_string = None;
    stand_ins.node(&mut node);
    node
}

fn is_small(tensor: &TensorProto) -> bool {
    let elements = tensor.elem_count().unwrap_or(u64::MAX);
    !tensor.is_external() && elements <= SMALL && StandIns::reads(tensor)
}

fn weight_input(name: &str, tensor: &TensorProto) -> ValueInfoProto {
    let shape = TensorShapeProto {
        dim: tensor.dims.iter().map(|d| fixed(*d)).collect(),
    };
    declare(name, tensor.data_type(), shape)
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
