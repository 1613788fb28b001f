//! A model, ready to run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{OutputSelector, RunOptions, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Outlet, ValueType};

use super::convert;
use super::error::{EngineError, Result};
use super::header::Header;
use super::provider::{self, Provider};
use super::tensor::{DType, Tensor};
use super::{Engine, EngineKind};

/// How much the engine may change a graph before it runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimization {
    /// Nothing: each node runs as it stands in the file.
    Off,
    /// Redundant nodes are removed, constants folded.
    Basic,
    /// Nodes are fused.
    Extended,
    /// All the engine has.
    #[default]
    Default,
}

/// How to create a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Graph optimisation.
    pub optimization: Optimization,
    /// Where nodes run.
    pub provider: Provider,
    /// Options of the provider, as its documentation names them.
    pub provider_options: Vec<(String, String)>,
    /// Threads of one operator; the engine's choice where `None`.
    pub threads: Option<usize>,
    /// Write a profile to a file whose name begins so.
    pub profile: Option<PathBuf>,
}

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// A file; external data is read from its folder.
    File(PathBuf),
    /// A serialized model in memory.
    Memory {
        /// What errors call it.
        name: String,
        /// The bytes of the model.
        bytes: Bytes,
        /// The folder of its external data (ONNX Runtime only).
        folder: Option<PathBuf>,
    },
}

impl ModelSource {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Memory { name, .. } => name.clone(),
        }
    }
}

impl From<&Path> for ModelSource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_path_buf())
    }
}

impl From<PathBuf> for ModelSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&PathBuf> for ModelSource {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

/// A declared dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Given a name, or an expression of names.
    Symbol(String),
    /// Not declared.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A declared input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions.
    pub dims: Vec<Dim>,
}

impl ValueInfo {
    /// Whether a tensor of `shape` fits the declared dimensions.
    #[must_use]
    pub fn accepts(&self, shape: &[usize]) -> bool {
        self.dims.len() == shape.len()
            && self.dims.iter().zip(shape).all(|(d, n)| !matches!(d, Dim::Fixed(m) if m != n))
    }

    fn dims_text(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(Dim::to_string).collect();
        format!("[{}]", dims.join(", "))
    }
}

/// A loaded model. Runs keep nothing: feed everything each time.
#[derive(Debug)]
pub struct Session {
    pub(super) inner: ort::session::Session,
    pub(super) kind: EngineKind,
    pub(super) file: String,
    inputs: Vec<ValueInfo>,
    optional: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    /// Read from the file where the engine does not report it.
    metadata: Option<BTreeMap<String, String>>,
}

impl Session {
    /// Loads a model.
    pub fn load(
        engine: &Engine,
        source: impl Into<ModelSource>,
        options: &SessionOptions,
    ) -> Result<Self> {
        let source = source.into();
        let file = source.name();
        let header = match engine.kind() {
            EngineKind::OnnxRuntime => None,
            EngineKind::Embedded => Some(embedded_header(&file, &source)?),
        };
        let load = |source| EngineError::Load { file: file.clone(), source };
        let builder = builder(engine, options, &file)?;
        let inner = match &source {
            ModelSource::File(path) => commit_file(builder, path),
            ModelSource::Memory { bytes, folder, .. } => {
                commit_memory(builder, bytes, folder.as_deref())
            }
        };
        let inner = inner.map_err(load)?;
        let (inputs, outputs, optional, metadata) = match header {
            Some(h) => (h.inputs, h.outputs, Vec::new(), Some(h.metadata)),
            None => {
                let optional = inner.overridable_initializers();
                let optional = optional.iter().map(|o| value_info(&file, o.name(), o.dtype()));
                (
                    infos(&file, inner.inputs())?,
                    infos(&file, inner.outputs())?,
                    optional.filter_map(Result::ok).collect(),
                    None,
                )
            }
        };
        Ok(Self { inner, kind: engine.kind(), file, inputs, optional, outputs, metadata })
    }

    /// The inputs that must be given.
    #[must_use]
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    /// Inputs with a default in the model, which may be given too.
    #[must_use]
    pub fn optional_inputs(&self) -> &[ValueInfo] {
        &self.optional
    }

    /// The outputs, in order.
    #[must_use]
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// What errors call the model: its path.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A custom metadata entry of the model.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<String> {
        match &self.metadata {
            Some(map) => map.get(key).cloned(),
            None => self.inner.metadata().ok()?.custom(key),
        }
    }

    /// Runs the model and returns `outputs`, or all where that is `None`, in order.
    pub fn run(
        &mut self,
        inputs: &[(&str, &Tensor)],
        outputs: Option<&[&str]>,
    ) -> Result<Vec<(String, Tensor)>> {
        self.check_inputs(&self.inputs, inputs)?;
        let names: Vec<String> = match outputs {
            Some(names) => names.iter().map(|&n| self.check_output(n)).collect::<Result<_>>()?,
            None => self.outputs.iter().map(|o| o.name.clone()).collect(),
        };
        let file = self.file.clone();
        let failed = |source| EngineError::Run { file: file.clone(), source };
        let mut values = Vec::with_capacity(inputs.len());
        for &(name, tensor) in inputs {
            let value = convert::to_value(tensor).map_err(failed)?;
            values.push((Cow::from(name), SessionInputValue::from(value)));
        }
        let options = self.select(&names).map_err(failed)?;
        let results = match &options {
            Some(options) => self.inner.run_with_options(values, options),
            None => self.inner.run(values),
        };
        let mut results = results.map_err(failed)?;
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let value = take(&mut results, &name).map_err(failed)?;
            let tensor = convert::from_value(&value).map_err(failed)?;
            tensors.push((name, tensor));
        }
        Ok(tensors)
    }

    /// Ends profiling and returns the path of the profile.
    pub fn end_profiling(&mut self) -> Result<PathBuf> {
        if self.kind == EngineKind::Embedded {
            return Err(EngineError::NeedsOnnxRuntime { feature: "profiling" });
        }
        let failed = |source| EngineError::Run { file: self.file.clone(), source };
        self.inner.end_profiling().map(PathBuf::from).map_err(failed)
    }

    /// Checks names, types and shapes of `given` against `required` and the optional
    /// inputs.
    pub(super) fn check_inputs(
        &self,
        required: &[ValueInfo],
        given: &[(&str, &Tensor)],
    ) -> Result<()> {
        let file = || self.file.clone();
        for (i, &(name, tensor)) in given.iter().enumerate() {
            let known = required.iter().chain(&self.optional).find(|v| v.name == name);
            let Some(info) = known else {
                let inputs = required.iter().map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(EngineError::UnknownInput { file: file(), name: name.into(), inputs });
            };
            if given[..i].iter().any(|(other, _)| *other == name) {
                return Err(EngineError::DuplicateInput { file: file(), name: name.into() });
            }
            let (found, expected) = (tensor.dtype(), info.dtype);
            if found != expected {
                let name = name.into();
                return Err(EngineError::WrongType { file: file(), name, found, expected });
            }
            if !info.accepts(tensor.shape()) {
                let (found, expected) = (tensor.shape().to_vec(), info.dims_text());
                let name = name.into();
                return Err(EngineError::WrongShape { file: file(), name, found, expected });
            }
        }
        let missing = required.iter().find(|v| !given.iter().any(|(name, _)| *name == v.name));
        missing.map_or(Ok(()), |v| {
            Err(EngineError::MissingInput { file: file(), name: v.name.clone() })
        })
    }

    fn check_output(&self, name: &str) -> Result<String> {
        if self.outputs.iter().any(|o| o.name == name) {
            return Ok(name.to_owned());
        }
        let outputs = self.outputs.iter().map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(EngineError::UnknownOutput { file: self.file.clone(), name: name.to_owned(), outputs })
    }

    /// Run options that compute only `names`; `None` where the engine computes all.
    fn select(
        &self,
        names: &[String],
    ) -> ort::Result<Option<RunOptions<ort::session::HasSelectedOutputs>>> {
        if self.kind == EngineKind::Embedded || names.len() == self.outputs.len() {
            return Ok(None);
        }
        let selector = names.iter().fold(OutputSelector::no_default(), |s, name| s.with(name));
        Ok(Some(RunOptions::new()?.with_outputs(selector)))
    }
}

/// Takes the output `name` out of the results of a run.
pub(super) fn take(results: &mut SessionOutputs<'_>, name: &str) -> ort::Result<DynValue> {
    results.remove(name).ok_or_else(|| ort::Error::new(format!("output `{name}` was not returned")))
}

fn builder(engine: &Engine, options: &SessionOptions, file: &str) -> Result<SessionBuilder> {
    let load = |source| EngineError::Load { file: file.to_owned(), source };
    let mut builder = ort::session::Session::builder(engine.environment()).map_err(load)?;
    builder = provider::register(builder, engine, options.provider, &options.provider_options)?;
    let level = match options.optimization {
        Optimization::Off => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::Default => GraphOptimizationLevel::All,
    };
    builder = builder.with_optimization_level(level).map_err(|e| load(e.into()))?;
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads).map_err(|e| load(e.into()))?;
    }
    if let Some(prefix) = &options.profile {
        if engine.kind() == EngineKind::Embedded {
            return Err(EngineError::NeedsOnnxRuntime { feature: "profiling" });
        }
        builder = builder.with_profiling(prefix).map_err(|e| load(e.into()))?;
    }
    Ok(builder)
}

fn commit_file(mut builder: SessionBuilder, path: &Path) -> ort::Result<ort::session::Session> {
    builder.commit_from_file(path)
}

fn commit_memory(
    mut builder: SessionBuilder,
    bytes: &[u8],
    folder: Option<&Path>,
) -> ort::Result<ort::session::Session> {
    if let Some(folder) = folder {
        let key = "session.model_external_initializers_file_folder_path";
        builder = builder.with_config_entry(key, folder.to_string_lossy())?;
    }
    builder.commit_from_memory(bytes)
}

/// Reads the header for the embedded engine and refuses what that cannot run.
fn embedded_header(file: &str, source: &ModelSource) -> Result<Header> {
    let bytes = match source {
        ModelSource::Memory { bytes, .. } => bytes.clone(),
        ModelSource::File(path) => std::fs::read(path)
            .map_err(|source| EngineError::Read { file: file.to_owned(), source })?
            .into(),
    };
    let header = Header::read(file, &bytes)?;
    let known = tract_onnx::onnx().op_register;
    let lacking = header.operators.iter().filter(|((domain, op), _)| {
        !domain.is_empty() || !known.0.contains_key(op)
    });
    let lacking: Vec<String> = lacking
        .map(|((domain, op), node)| {
            let dot = if domain.is_empty() { "" } else { "." };
            format!("{domain}{dot}{op} (node `{node}`)")
        })
        .collect();
    if lacking.is_empty() {
        return Ok(header);
    }
    let operators = lacking.join(", ");
    Err(EngineError::UnsupportedOperators { file: file.to_owned(), operators })
}

fn infos(file: &str, outlets: &[Outlet]) -> Result<Vec<ValueInfo>> {
    outlets.iter().map(|o| value_info(file, o.name(), o.dtype())).collect()
}

fn value_info(file: &str, name: &str, value_type: &ValueType) -> Result<ValueInfo> {
    let unsupported = || EngineError::UnsupportedType {
        file: file.to_owned(),
        value: name.to_owned(),
        found: value_type.to_string(),
    };
    let ValueType::Tensor { ty, shape, dimension_symbols } = value_type else {
        return Err(unsupported());
    };
    let dtype = convert::dtype(*ty).ok_or_else(unsupported)?;
    let dims = shape.iter().zip(dimension_symbols.iter()).map(|(&size, symbol)| {
        match (usize::try_from(size), symbol.as_str()) {
            (Ok(size), _) => Dim::Fixed(size),
            (Err(_), "") => Dim::Unknown,
            (Err(_), symbol) => Dim::Symbol(symbol.to_owned()),
        }
    });
    Ok(ValueInfo { name: name.to_owned(), dtype, dims: dims.collect() })
}
