//! What an engine has to do: the seam between [`Engine`](super::Engine) and the folders
//! `onnx_runtime/` and `embedded/`.

use std::any::Any;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use super::device::{DeviceTensor, Feed};
use super::error::{EngineError, Result, Source};
use super::info::EngineInfo;
use super::model::{ModelSource, ValueInfo};
use super::ports::Ports;
use super::session::SessionOptions;
use super::tensor::Tensor;

/// What an engine can do besides running models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// A profile says which nodes ran.
    pub profiles: bool,
    /// The same nodes on the same values give the same bits on the CPU provider.
    pub repeats_bits: bool,
    /// A model in memory may have its external data in a folder.
    pub reads_data_beside_memory: bool,
    /// A model is prepared when it is loaded, not when a pattern of gates is first met.
    pub prepares_at_load: bool,
    /// A graph may decide by its inputs which kind runs; else the driver names it.
    pub decides_while_running: bool,
}

/// An engine that runs.
pub(super) trait Backend: Debug + Send + Sync {
    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// Loads a model; `file` names it in errors. The engine has the provider of `options`.
    fn load(
        &self,
        info: &EngineInfo,
        source: &ModelSource,
        file: &str,
        options: &SessionOptions,
    ) -> Result<Box<dyn Model>>;
}

/// What a loaded model takes and gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Signature {
    /// Inputs that must be given.
    pub inputs: Vec<ValueInfo>,
    /// Inputs with a default in the model.
    pub optional: Vec<ValueInfo>,
    /// The outputs, in order.
    pub outputs: Vec<ValueInfo>,
}

/// A model that an engine has loaded. Inputs are checked before they get here.
pub(super) trait Model: Debug + Send {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// A custom metadata entry.
    fn metadata(&self, key: &str) -> Option<String>;

    /// Runs it and returns the outputs `names` in host memory.
    fn run(
        &mut self,
        inputs: &[(&str, &Tensor)],
        names: &[String],
    ) -> Result<Vec<(String, Tensor)>, Source>;

    /// Runs it and leaves all outputs, in order, where the provider has them.
    fn run_on_device(
        &mut self,
        inputs: &[(&str, Feed<'_>)],
    ) -> Result<Vec<(String, DeviceTensor)>, Source>;

    /// Copies a tensor to where the provider keeps values.
    fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor, Source>;

    /// The buffers that it keeps values in, where these must stay at their addresses.
    fn buffers(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// From now on keeps values in the buffers of another session.
    fn share_buffers(&mut self, _buffers: Arc<dyn Any + Send + Sync>) {}

    /// Ends profiling and returns the path of the profile.
    fn end_profiling(&mut self) -> Result<PathBuf, Source>;

    /// The error of a run.
    fn failed(&self, file: String, source: Source) -> EngineError {
        EngineError::Run { file, source }
    }

    /// Gets ready for [`evaluate`](Self::evaluate); what comes back stops an evaluation that
    /// runs, where the engine can.
    fn keep_caches(&mut self) -> Result<Option<Box<dyn Interrupt>>, Source>;

    /// Evaluates one step of a rewritten model, whose cached values the model keeps from one
    /// call to the next. The outputs stay on the device if `stay`. After an error the cached
    /// values are lost.
    fn evaluate(
        &mut self,
        ports: &Ports,
        given: &[(&str, Feed<'_>)],
        step: i64,
        stay: bool,
    ) -> Result<Vec<(String, DeviceTensor)>, Source>;

    /// Drops all cached values.
    fn forget(&mut self);
}

/// Stops a run from another thread.
pub(super) trait Interrupt: Send + Sync {
    /// Stops the run that goes on, or else the next one.
    fn interrupt(&self) -> Result<(), Source>;

    /// Takes that back.
    fn clear(&self) -> Result<(), Source>;
}

/// A value where its engine left it.
pub(super) trait OnDevice: Any + Send + Sync {
    /// A copy in host memory.
    fn to_tensor(&self) -> Result<Tensor, Source>;

    /// The value as the engine that made it knows it.
    fn as_any(&self) -> &dyn Any;
}
