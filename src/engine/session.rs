//! A model, ready to run.

use std::path::PathBuf;

use super::Engine;
use super::backend::Model;
use super::device::{DeviceTensor, Feed, feeds};
use super::error::{EngineError, Result, Source};
use super::model::{ModelSource, ValueInfo};
use super::provider::{self, Provider};
use super::tensor::Tensor;

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
    /// Do not reserve one block of memory for all values of a graph. ONNX Runtime keeps
    /// such a block for every branch besides that of the main graph: 2.3 GB more on
    /// full-size SD1.5, for no measurable speed. [`CachedSession`](super::CachedSession)
    /// always sets this.
    pub no_memory_pattern: bool,
    /// Inputs and outputs lie in buffers that are used again, at addresses that stay. A session that captures
    /// CUDA graphs (`enable_cuda_graph`) needs that and has it without being asked. Of a gated
    /// [`CachedSession`](super::CachedSession) it changes nothing.
    pub fixed_buffers: bool,
}

/// Options of providers that capture what runs as a CUDA graph.
const CAPTURE: [&str; 2] = ["enable_cuda_graph", "trt_cuda_graph_enable"];

impl SessionOptions {
    /// Where nodes run, all else as usual.
    #[must_use]
    pub fn on(provider: Provider, provider_options: &[(String, String)]) -> Self {
        Self {
            provider,
            provider_options: provider_options.to_vec(),
            ..Self::default()
        }
    }

    /// Whether the provider is asked to capture what runs as CUDA graphs.
    #[must_use]
    pub fn captures_graphs(&self) -> bool {
        let on = |value: &str| value == "1" || value.eq_ignore_ascii_case("true");
        let mut options = self.provider_options.iter();
        options.any(|(key, value)| CAPTURE.contains(&key.as_str()) && on(value))
    }

    /// The same, and nothing is captured: for models that run once, or have branches.
    #[must_use]
    pub fn uncaptured(mut self) -> Self {
        self.provider_options
            .retain(|(key, _)| !CAPTURE.contains(&key.as_str()));
        self
    }

    /// Nothing is optimised, and two sessions that compute the same thing agree as closely as the
    /// provider can: to compare, not to time. Provider options that were given stay.
    ///
    /// CUDA rounds fp32 operands to TF32 (10 bits of mantissa) and times convolutions against each
    /// other to choose one, by default; two sessions then differ by more than a wrong rewrite may.
    #[must_use]
    pub fn to_compare(mut self) -> Self {
        self.optimization = Optimization::Off;
        if self.provider == Provider::Cuda {
            for (key, value) in [("use_tf32", "0"), ("cudnn_conv_algo_search", "HEURISTIC")] {
                if self.provider_options.iter().all(|(k, _)| k != key) {
                    self.provider_options
                        .push((key.to_owned(), value.to_owned()));
                }
            }
        }
        self
    }
}

/// A loaded model. Runs keep nothing: feed everything each time.
#[derive(Debug)]
pub struct Session {
    pub(super) model: Box<dyn Model>,
    file: String,
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
        provider::check(engine.info(), options.provider)?;
        if options.profile.is_some() && !engine.abilities().profiles {
            return Err(EngineError::NeedsOnnxRuntime {
                feature: "profiling",
            });
        }
        let model = engine.load(&source, &file, options)?;
        Ok(Self { model, file })
    }

    /// The inputs that must be given.
    #[must_use]
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.model.signature().inputs
    }

    /// Inputs with a default in the model, which may be given too.
    #[must_use]
    pub fn optional_inputs(&self) -> &[ValueInfo] {
        &self.model.signature().optional
    }

    /// The outputs, in order.
    #[must_use]
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.model.signature().outputs
    }

    /// What errors call the model: its path.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A custom metadata entry of the model.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.model.metadata(key)
    }

    /// Runs the model and returns `outputs`, or all where that is `None`, in order.
    pub fn run(
        &mut self,
        inputs: &[(&str, &Tensor)],
        outputs: Option<&[&str]>,
    ) -> Result<Vec<(String, Tensor)>> {
        self.check_inputs(self.inputs(), &feeds(inputs))?;
        let names: Vec<String> = match outputs {
            Some(names) => names
                .iter()
                .map(|&n| self.check_output(n))
                .collect::<Result<_>>()?,
            None => self.outputs().iter().map(|o| o.name.clone()).collect(),
        };
        let results = self.model.run(inputs, &names);
        results.map_err(|source| self.failed(source))
    }

    /// The error of a run.
    pub(super) fn failed(&self, source: Source) -> EngineError {
        self.model.failed(self.file.clone(), source)
    }

    /// Runs the model and leaves all outputs, in order, where the provider has them; inputs may
    /// lie there already.
    pub fn run_on_device(
        &mut self,
        inputs: &[(&str, Feed<'_>)],
    ) -> Result<Vec<(String, DeviceTensor)>> {
        self.check_inputs(self.inputs(), inputs)?;
        let results = self.model.run_on_device(inputs);
        results.map_err(|source| self.failed(source))
    }

    /// Copies a tensor to where the provider keeps values.
    ///
    /// # Errors
    /// [`EngineError::Transfer`] if the engine cannot.
    pub fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor> {
        let uploaded = self.model.upload(tensor);
        uploaded.map_err(|source| EngineError::Transfer { source })
    }

    /// Ends profiling and returns the path of the profile.
    pub fn end_profiling(&mut self) -> Result<PathBuf> {
        let file = self.file.clone();
        let ended = self.model.end_profiling();
        ended.map_err(|source| EngineError::Run { file, source })
    }

    /// Checks names, types and shapes of `given` against `required` and the optional
    /// inputs.
    pub(super) fn check_inputs(
        &self,
        required: &[ValueInfo],
        given: &[(&str, Feed<'_>)],
    ) -> Result<()> {
        let file = || self.file.clone();
        for (i, &(name, tensor)) in given.iter().enumerate() {
            let known = required
                .iter()
                .chain(self.optional_inputs())
                .find(|v| v.name == name);
            let Some(info) = known else {
                let inputs = required
                    .iter()
                    .map(|v| v.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(EngineError::UnknownInput {
                    file: file(),
                    name: name.into(),
                    inputs,
                });
            };
            if given[..i].iter().any(|(other, _)| *other == name) {
                return Err(EngineError::DuplicateInput {
                    file: file(),
                    name: name.into(),
                });
            }
            let (found, expected) = (tensor.dtype(), info.dtype);
            if found != expected {
                let name = name.into();
                return Err(EngineError::WrongType {
                    file: file(),
                    name,
                    found,
                    expected,
                });
            }
            if !info.accepts(tensor.shape()) {
                let (found, expected) = (tensor.shape().to_vec(), info.dims_text());
                let name = name.into();
                return Err(EngineError::WrongShape {
                    file: file(),
                    name,
                    found,
                    expected,
                });
            }
        }
        let missing = required
            .iter()
            .find(|v| !given.iter().any(|(name, _)| *name == v.name));
        missing.map_or(Ok(()), |v| {
            Err(EngineError::MissingInput {
                file: file(),
                name: v.name.clone(),
            })
        })
    }

    fn check_output(&self, name: &str) -> Result<String> {
        if self.outputs().iter().any(|o| o.name == name) {
            return Ok(name.to_owned());
        }
        let outputs = self
            .outputs()
            .iter()
            .map(|v| v.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        Err(EngineError::UnknownOutput {
            file: self.file.clone(),
            name: name.to_owned(),
            outputs,
        })
    }
}
