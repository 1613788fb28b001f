//! What can go wrong between a model file and its results.

use std::path::PathBuf;

use super::tensor::DType;

/// Result of an engine operation.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// What ONNX Runtime or the embedded engine reported.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error of the engine. Each variant names the file, value or library it is
/// about and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A library that was asked for by name does not load.
    #[error(
        "cannot use the ONNX Runtime library `{}` given by {asked_by}: {reason}; \
         give the path of a libonnxruntime of version 1.24 or newer",
        path.display()
    )]
    LibraryRejected {
        /// The library.
        path: PathBuf,
        /// The option or variable that named it.
        asked_by: &'static str,
        /// Why it was not accepted.
        reason: String,
    },

    /// A plugin provider's library that the runtime does not take.
    #[error("`{path}` is no plugin provider that ONNX Runtime takes", path = path.display())]
    PluginRejected {
        /// The library.
        path: PathBuf,
        /// What the runtime says.
        #[source]
        source: Source,
    },

    /// ONNX Runtime was required and no library was found.
    #[error(
        "no ONNX Runtime library was found (looked at {looked}); install one with \
         `pip install onnxruntime`, then set ORT_DYLIB_PATH to its \
         `onnxruntime/capi/libonnxruntime.so.*`"
    )]
    LibraryNotFound {
        /// The places, comma-separated.
        looked: String,
    },

    /// The embedded engine was asked for, and this build has none.
    #[error(
        "this build has no embedded engine; use ONNX Runtime, or build with the feature `embedded`"
    )]
    NotBuilt,

    /// `HGC_ENGINE` holds something else than a known engine.
    #[error(
        "HGC_ENGINE is `{value}`; set it to `ort` (ONNX Runtime), `tract` (embedded) or unset it"
    )]
    UnknownEngine {
        /// The value found.
        value: String,
    },

    /// Another engine already runs in this process.
    #[error(
        "this process already runs {running}, so {requested} cannot be started; \
         use one engine per process"
    )]
    OneEngineOnly {
        /// The engine in use.
        running: String,
        /// The engine asked for.
        requested: String,
    },

    /// The engine itself did not start.
    #[error("{engine} did not start")]
    Start {
        /// The engine.
        engine: String,
        /// What it reported.
        #[source]
        source: Source,
    },

    /// No known execution provider.
    #[error("unknown execution provider `{value}`; use cpu, cuda or tensorrt")]
    UnknownProvider {
        /// The value found.
        value: String,
    },

    /// An option of a provider is not of the form `key=value`.
    #[error("provider option `{value}` is not of the form key=value")]
    BadProviderOption {
        /// The value found.
        value: String,
    },

    /// The engine was built without the execution provider.
    #[error("{engine} has no {provider} execution provider (it has: {available}); {advice}")]
    ProviderMissing {
        /// The engine.
        engine: String,
        /// The provider asked for.
        provider: &'static str,
        /// The providers it has.
        available: String,
        /// How to get it.
        advice: &'static str,
    },

    /// The engine has the provider, but it did not start.
    #[error(
        "the {provider} execution provider of {engine} did not start; check the driver, that \
         the libraries it names can be found, and the options of the provider"
    )]
    ProviderFailed {
        /// The engine.
        engine: String,
        /// The provider asked for.
        provider: &'static str,
        /// What it reported.
        #[source]
        source: Source,
    },

    /// The model file cannot be read.
    #[error("cannot read `{file}`")]
    Read {
        /// The model.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// The model file is no ONNX model.
    #[error("`{file}` is not a valid ONNX model")]
    Parse {
        /// The model.
        file: String,
        /// Why.
        #[source]
        source: Source,
    },

    /// The engine refused the model.
    #[error("the engine cannot load `{file}`")]
    Load {
        /// The model.
        file: String,
        /// What it reported.
        #[source]
        source: Source,
    },

    /// Operators that the embedded engine does not have.
    #[error(
        "the embedded engine lacks operators of `{file}`: {operators}; use ONNX Runtime \
         (--ort-lib or ORT_DYLIB_PATH, see `hgc doctor`)"
    )]
    UnsupportedOperators {
        /// The model.
        file: String,
        /// Operators, each with a node that uses it.
        operators: String,
    },

    /// A feature that the running engine does not have.
    #[error("{feature} needs ONNX Runtime, but the embedded engine is running; see `hgc doctor`")]
    NeedsOnnxRuntime {
        /// The feature.
        feature: &'static str,
    },

    /// A model with branches whose runs should be captured.
    #[error(
        "`{file}` has branches, and a CUDA graph holds none: compile it with --form variants, or leave out \
         the option that captures graphs (enable_cuda_graph, trt_cuda_graph_enable)"
    )]
    CapturesBranches {
        /// The model.
        file: String,
    },

    /// An input or output whose type a host tensor cannot hold.
    #[error("value `{value}` of `{file}` has type {found}, which hgc can neither feed nor read")]
    UnsupportedType {
        /// The model.
        file: String,
        /// The value.
        value: String,
        /// Its type.
        found: String,
    },

    /// A name that is no input of the model.
    #[error("`{file}` has no input `{name}`; its inputs are {inputs}")]
    UnknownInput {
        /// The model.
        file: String,
        /// The name given.
        name: String,
        /// The names it has.
        inputs: String,
    },

    /// An input was not given.
    #[error("input `{name}` of `{file}` is missing")]
    MissingInput {
        /// The model.
        file: String,
        /// The input.
        name: String,
    },

    /// An input was given twice.
    #[error("input `{name}` of `{file}` is given twice")]
    DuplicateInput {
        /// The model.
        file: String,
        /// The input.
        name: String,
    },

    /// A name that is no output of the model.
    #[error("`{file}` has no output `{name}`; its outputs are {outputs}")]
    UnknownOutput {
        /// The model.
        file: String,
        /// The name given.
        name: String,
        /// The names it has.
        outputs: String,
    },

    /// An input has another element type than the model declares.
    #[error("input `{name}` of `{file}` is {found}, the model takes {expected}")]
    WrongType {
        /// The model.
        file: String,
        /// The input.
        name: String,
        /// Type given.
        found: DType,
        /// Type declared.
        expected: DType,
    },

    /// An input has another shape than the model declares.
    #[error("input `{name}` of `{file}` has shape {found:?}, the model takes {expected}")]
    WrongShape {
        /// The model.
        file: String,
        /// The input.
        name: String,
        /// Shape given.
        found: Vec<usize>,
        /// Shape declared.
        expected: String,
    },

    /// The embedded engine cannot run the model.
    #[error(
        "the embedded engine failed while it ran `{file}`; ONNX Runtime may run it: set \
         ORT_DYLIB_PATH to its library (see `hgc doctor`)"
    )]
    RunEmbedded {
        /// The model.
        file: String,
        /// What it reported.
        #[source]
        source: Source,
    },

    /// The engine reported an error while it ran the model.
    #[error("the engine failed while it ran `{file}`")]
    Run {
        /// The model.
        file: String,
        /// What it reported.
        #[source]
        source: Source,
    },

    /// The model has no `hgc.step` input.
    #[error(
        "`{file}` is no rewritten model (it has no `hgc.step` input); run it as a plain session, \
         or rewrite it with `hgc compile`"
    )]
    NotRewritten {
        /// The model.
        file: String,
    },

    /// A rewritten model that breaks the calling convention.
    #[error("`{file}` breaks the hgc calling convention: {problem}; rewrite it with `hgc compile`")]
    Convention {
        /// The model.
        file: String,
        /// What is wrong, with the value or metadata key.
        problem: String,
    },

    /// More evaluations than the schedule has steps.
    #[error(
        "`{file}` has run all {steps} evaluations of its schedule; reset the session to start \
         another generation, or compile for more steps"
    )]
    OutOfSteps {
        /// The model.
        file: String,
        /// Steps of the schedule.
        steps: usize,
    },

    /// A row of weights that the model does not have.
    #[error("`{file}` has {rows} rows of weights, and the schedule names row {row}")]
    UnknownRow {
        /// The model.
        file: String,
        /// The row.
        row: usize,
        /// How many there are.
        rows: usize,
    },

    /// A kind that the model does not have.
    #[error("`{file}` has no kind `{kind}`; it has {known}")]
    UnknownKind {
        /// The model.
        file: String,
        /// The kind.
        kind: String,
        /// Those it has.
        known: String,
    },

    /// A kind that reads what is not there.
    #[error(
        "evaluation {evaluation} of `{file}` cannot be `{kind}`: it reads values that no evaluation \
         before it has left; `{start}` refreshes everything"
    )]
    KindTooEarly {
        /// The model.
        file: String,
        /// The kind.
        kind: String,
        /// The evaluation, counted from 0.
        evaluation: usize,
        /// The kind that reads nothing.
        start: String,
    },

    /// A schedule where a generation goes on.
    #[error(
        "`{file}` is in the middle of a generation; reset the session before it follows another schedule"
    )]
    InGeneration {
        /// The model.
        file: String,
    },

    /// An earlier evaluation of this generation failed.
    #[error(
        "the generation of `{file}` ended early ({reason}); reset the session to start another"
    )]
    Poisoned {
        /// The model.
        file: String,
        /// What ended it.
        reason: String,
    },

    /// Shapes changed within a generation.
    #[error(
        "input `{name}` of `{file}` changed from shape {before:?} to {now:?} within a generation, \
         but its caches have the former size; reset the session to change size or batch"
    )]
    ShapeChanged {
        /// The model.
        file: String,
        /// The input.
        name: String,
        /// Shape at the first evaluation.
        before: Vec<usize>,
        /// Shape now.
        now: Vec<usize>,
    },

    /// A different set of inputs within a generation.
    #[error(
        "optional input `{name}` of `{file}` was given on some evaluations of a generation and \
         not on others; reset the session to change it"
    )]
    InputSetChanged {
        /// The model.
        file: String,
        /// The input.
        name: String,
    },

    /// An input that the caches rely on changed within a generation.
    #[error(
        "input `{name}` of `{file}` changed within a generation, but cached values depend on it; \
         reset the session to change it"
    )]
    ConstantChanged {
        /// The model.
        file: String,
        /// The input.
        name: String,
    },

    /// The evaluation was cancelled.
    #[error(
        "the evaluation of `{file}` was cancelled; reset the session to start another generation"
    )]
    Cancelled {
        /// The model.
        file: String,
    },

    /// A tensor cannot be copied between host and device.
    #[error("the engine cannot copy a tensor between the memory of host and device")]
    Transfer {
        /// What it reported.
        #[source]
        source: Source,
    },

    /// A host tensor that cannot be built.
    #[error(transparent)]
    Tensor(#[from] super::tensor::TensorError),
}

impl EngineError {
    /// What changed within a generation, if this refuses a change.
    pub(super) fn change(&self) -> Option<String> {
        match self {
            Self::ShapeChanged { name, .. } | Self::ConstantChanged { name, .. } => {
                Some(format!("input `{name}` changed"))
            }
            Self::InputSetChanged { name, .. } => {
                Some(format!("input `{name}` was not given on every evaluation"))
            }
            _ => None,
        }
    }
}
