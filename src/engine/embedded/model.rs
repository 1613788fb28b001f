//! A model on the embedded engine.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use prost::Message;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::{
    DatumType, InferenceModel, Tensor as TractTensor, TractError, TractResult,
};

use super::moved::Moved;
use super::program::Program;
use super::{gemm, named_if};
use crate::analysis::bounds;
use crate::contained::contained;
use crate::convention::STEP;
use crate::engine::backend::{self, Interrupt, Signature};
use crate::engine::device::{DeviceTensor, Feed};
use crate::engine::error::{EngineError, Result, Source};
use crate::engine::model::{Dim, ModelSource, ValueInfo};
use crate::engine::ports::Ports;
use crate::engine::session::Optimization;
use crate::engine::tensor::{DType, Tensor};
use crate::onnx::{encode_model, folder_of, is_standard_domain, proto, without_links};

/// A value in the memory of the embedded engine.
pub(super) type Value = Arc<TractTensor>;

/// A model, planned for the gates and sizes it meets as it runs.
pub(super) struct EmbeddedModel {
    program: Program,
    signature: Signature,
    /// The `metadata_props`.
    metadata: BTreeMap<String, String>,
    caches: Moved,
}

impl std::fmt::Debug for EmbeddedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedModel")
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

impl EmbeddedModel {
    /// Loads a model, or names the operators it needs that tract lacks.
    pub fn load(file: &str, source: &ModelSource, optimization: Optimization) -> Result<Self> {
        let (bytes, folder) = match source {
            ModelSource::Memory { bytes, folder, .. } => (bytes.clone(), folder.clone()),
            ModelSource::File(path) => {
                let (bytes, folder) = read(path).map_err(|source| EngineError::Read {
                    file: file.into(),
                    source,
                })?;
                (bytes, Some(folder))
            }
        };
        let folder = folder.as_deref();
        let mut proto = ModelProto::decode(bytes).map_err(|source| EngineError::Parse {
            file: file.into(),
            source: Box::new(source),
        })?;
        check_operators(file, &proto)?;
        check_numbers(&proto).map_err(|e| EngineError::Load {
            file: file.into(),
            source: e.into(),
        })?;
        gemm::spell_out(&mut proto);
        let optimize = optimization != Optimization::Off;
        let load = |e: TractError| EngineError::Load {
            file: file.into(),
            source: e.into(),
        };
        let graph = proto.graph.as_ref();
        let initializers = graph.map(|g| g.initializer.as_slice()).unwrap_or_default();
        let required = graph.map(|g| g.input.as_slice()).unwrap_or_default().iter();
        let required = required.filter(|v| !initializers.iter().any(|i| i.name == v.name));
        let outputs = graph
            .map(|g| g.output.as_slice())
            .unwrap_or_default()
            .iter();
        let program = || Program::new(parse(&proto, folder)?, STEP, optimize);
        Ok(Self {
            program: guarded(program).map_err(load)?,
            signature: Signature {
                inputs: required
                    .map(|v| value_info(file, v))
                    .collect::<Result<_>>()?,
                optional: Vec::new(),
                outputs: outputs
                    .map(|v| value_info(file, v))
                    .collect::<Result<_>>()?,
            },
            metadata: proto
                .metadata_props
                .into_iter()
                .map(|e| (e.key, e.value))
                .collect(),
            caches: Moved::default(),
        })
    }
}

/// The bytes of a model file and the folder of its data. tract takes none from behind links that lead
/// out of the model's folder.
fn read(path: &Path) -> std::io::Result<(Bytes, PathBuf)> {
    let bytes = Bytes::from(std::fs::read(path)?);
    let home = folder_of(path);
    // What cannot be read here cannot be read below, where it is told.
    let Ok(model) = proto::ModelProto::decode(bytes.clone()) else {
        return Ok((bytes, home));
    };
    let (model, folder) = without_links(Cow::Owned(model), &home);
    if folder == home {
        return Ok((bytes, home));
    }
    let mut relocated = Vec::new();
    encode_model(&model, &mut relocated)?;
    Ok((relocated.into(), folder))
}

/// Runs a program on a value for each input; the outputs come in order.
pub(super) fn run(
    program: &mut Program,
    values: &BTreeMap<&str, Value>,
) -> TractResult<Vec<Value>> {
    guarded(|| program.run(values, STEP))
}

impl backend::Model for EmbeddedModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.metadata.get(key).cloned()
    }

    fn run(
        &mut self,
        inputs: &[(&str, &Tensor)],
        names: &[String],
    ) -> Result<Vec<(String, Tensor)>, Source> {
        let values = inputs
            .iter()
            .map(|&(name, tensor)| Ok((name, to_value(tensor)?)));
        let values = values.collect::<TractResult<_>>()?;
        let results = run(&mut self.program, &values)?;
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let result = self
                .signature
                .outputs
                .iter()
                .zip(&results)
                .find(|(info, _)| info.name == *name);
            let (info, value) = result.context("an output is missing")?;
            tensors.push((name.clone(), from_value(value, info.dtype)?));
        }
        Ok(tensors)
    }

    fn run_on_device(
        &mut self,
        inputs: &[(&str, Feed<'_>)],
    ) -> Result<Vec<(String, DeviceTensor)>, Source> {
        let host = inputs.iter().map(|&(n, feed)| Ok((n, feed.to_tensor()?)));
        let host = host.collect::<Result<Vec<_>>>()?;
        let given: Vec<_> = host.iter().map(|(n, tensor)| (*n, tensor)).collect();
        let names = self.signature.outputs.iter().map(|o| o.name.clone());
        let outputs = backend::Model::run(self, &given, &names.collect::<Vec<_>>())?;
        Ok(outputs.into_iter().map(|(n, t)| (n, t.into())).collect())
    }

    fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor, Source> {
        Ok(tensor.clone().into())
    }

    fn end_profiling(&mut self) -> Result<PathBuf, Source> {
        Err("the embedded engine writes no profile".into())
    }

    fn failed(&self, file: String, source: Source) -> EngineError {
        EngineError::RunEmbedded { file, source }
    }

    fn keep_caches(&mut self) -> Result<Option<Box<dyn Interrupt>>, Source> {
        Ok(None)
    }

    fn evaluate(
        &mut self,
        ports: &Ports,
        given: &[(&str, Feed<'_>)],
        step: i64,
        _stay: bool,
    ) -> Result<Vec<(String, DeviceTensor)>, Source> {
        let Self {
            program,
            signature,
            caches,
            ..
        } = self;
        Ok(caches.run(program, &signature.outputs, ports, (given, step))?)
    }

    fn forget(&mut self) {
        self.caches.forget();
    }
}

fn parse(proto: &ModelProto, folder: Option<&Path>) -> TractResult<InferenceModel> {
    let folder = folder.map(|f| {
        if f.as_os_str().is_empty() {
            Path::new(".")
        } else {
            f
        }
    });
    let parsed = named_if::front_end().parse(proto, folder.and_then(Path::to_str))?;
    if !parsed.unresolved_inputs.is_empty() {
        let names = parsed.unresolved_inputs.join(", ");
        return Err(TractError::msg(format!(
            "values that no node produces: {names}"
        )));
    }
    Ok(parsed.model)
}

/// Calls into tract; a panic there is an error of this one model.
fn guarded<T>(call: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    contained(call).unwrap_or_else(|message| {
        Err(TractError::msg(format!(
            "the embedded engine panicked: {message}"
        )))
    })
}

/// Copies a host tensor into the engine.
pub(super) fn to_value(tensor: &Tensor) -> TractResult<Value> {
    let mut value = TractTensor::zero_dt(datum_type(tensor.dtype())?, tensor.shape())?;
    value.as_bytes_mut().copy_from_slice(tensor.bytes());
    Ok(Arc::new(value))
}

/// A value of zeros.
pub(super) fn zeros(dtype: DType, shape: &[usize]) -> TractResult<Value> {
    Ok(Arc::new(TractTensor::zero_dt(datum_type(dtype)?, shape)?))
}

/// Copies a value of the engine, which should be of type `dtype`, into a host tensor.
pub(super) fn from_value(value: &Value, dtype: DType) -> TractResult<Tensor> {
    let value = value.cast_to_dt(datum_type(dtype)?)?;
    Ok(Tensor::from_bytes(
        dtype,
        value.shape(),
        value.as_bytes().to_vec(),
    )?)
}

fn datum_type(dtype: DType) -> TractResult<DatumType> {
    Ok(match dtype {
        DType::F32 => DatumType::F32,
        DType::F16 => DatumType::F16,
        DType::F64 => DatumType::F64,
        DType::I64 => DatumType::I64,
        DType::I32 => DatumType::I32,
        DType::I16 => DatumType::I16,
        DType::I8 => DatumType::I8,
        DType::U64 => DatumType::U64,
        DType::U32 => DatumType::U32,
        DType::U16 => DatumType::U16,
        DType::U8 => DatumType::U8,
        DType::Bool => DatumType::Bool,
        DType::BF16 => return Err(TractError::msg("the embedded engine has no bfloat16")),
    })
}

/// Refuses numbers that tract would allocate by.
fn check_numbers(proto: &ModelProto) -> TractResult<()> {
    let mut todo: Vec<&GraphProto> = proto.graph.iter().collect();
    while let Some(graph) = todo.pop() {
        for node in &graph.node {
            bounds::check(node).map_err(|e| e.context(format!("node `{}`", node.name)))?;
            let attributes = node.attribute.iter();
            todo.extend(attributes.flat_map(|a| a.g.iter().chain(&a.graphs)));
        }
    }
    Ok(())
}

fn check_operators(file: &str, proto: &ModelProto) -> Result<()> {
    let mut lacking = BTreeMap::new();
    if let Some(graph) = &proto.graph {
        collect_lacking(graph, &named_if::front_end().op_register.0, &mut lacking);
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let name = |(op, node): (&String, &String)| format!("{op} (node `{node}`)");
    let operators = lacking.iter().map(name).collect::<Vec<_>>().join(", ");
    Err(EngineError::UnsupportedOperators {
        file: file.to_owned(),
        operators,
    })
}

/// Adds each operator outside `known`, with the first node that uses it. tract looks
/// operators up without their domain, so any other domain than the default counts
/// as unknown: the same name means something else there.
fn collect_lacking<B>(
    graph: &GraphProto,
    known: &std::collections::HashMap<String, B>,
    lacking: &mut BTreeMap<String, String>,
) {
    for node in &graph.node {
        let default = is_standard_domain(&node.domain);
        if !default || !known.contains_key(&node.op_type) {
            let dot = if default { "" } else { "." };
            let domain = if default { "" } else { node.domain.as_str() };
            let first_output = node.output.first().cloned().unwrap_or_default();
            let label = if node.name.is_empty() {
                first_output
            } else {
                node.name.clone()
            };
            lacking
                .entry(format!("{domain}{dot}{}", node.op_type))
                .or_insert(label);
        }
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                collect_lacking(inner, known, lacking);
            }
        }
    }
}

fn value_info(file: &str, value: &ValueInfoProto) -> Result<ValueInfo> {
    let tensor = value.r#type.as_ref().and_then(|t| t.value.as_ref());
    let tensor = tensor.map(|type_proto::Value::TensorType(tensor)| tensor);
    let code = tensor.map_or(0, |t| t.elem_type);
    let dtype = DType::from_onnx(code).ok_or_else(|| EngineError::UnsupportedType {
        file: file.to_owned(),
        value: value.name.clone(),
        found: format!("TensorProto.DataType {code}"),
    })?;
    let dims = tensor
        .and_then(|t| t.shape.as_ref())
        .map(|s| s.dim.as_slice())
        .unwrap_or_default();
    let dims = dims.iter().map(|dim| match &dim.value {
        Some(DimValue::DimValue(n)) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
        Some(DimValue::DimParam(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
        _ => Dim::Unknown,
    });
    Ok(ValueInfo {
        name: value.name.clone(),
        dtype,
        dims: dims.collect(),
    })
}
