//! A model on ONNX Runtime.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ort::environment::Environment;
use ort::memory::AllocationDevice;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{OutputSelector, RunOptions, SessionInputValue, SessionOutputs};
use ort::value::{DynTensor, DynTensorValueType, DynValue, Outlet, ValueType};

use super::bound::{self, Bound};
use super::fixed::{Buffer, Buffers, Fixed};
use super::{convert, provider};
use crate::engine::backend::{Interrupt, Model, OnDevice, Signature};
use crate::engine::device::{DeviceTensor, Feed, feeds, to_host};
use crate::engine::error::{EngineError, Result, Source};
use crate::engine::info::EngineInfo;
use crate::engine::model::{Dim, ModelSource, ValueInfo};
use crate::engine::ports::Ports;
use crate::engine::session::{Optimization, SessionOptions};
use crate::engine::tensor::Tensor;

/// A session of ONNX Runtime, and its caches.
pub(super) struct RuntimeModel {
    session: ort::session::Session,
    signature: Signature,
    options: SessionOptions,
    /// The device of the provider, and its number.
    home: (AllocationDevice<'static>, i32),
    caches: Option<Caches>,
    /// Values at addresses that stay, where they must.
    fixed: Option<Fixed>,
}

impl fmt::Debug for RuntimeModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeModel")
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

struct Caches {
    bound: Bound,
    options: Arc<RunOptions>,
}

impl RuntimeModel {
    /// Loads a model; `file` names it in errors.
    pub fn load(
        environment: &Environment,
        engine: &EngineInfo,
        source: &ModelSource,
        (file, options): (&str, &SessionOptions),
    ) -> Result<Self> {
        let load = |source: ort::Error| EngineError::Load {
            file: file.to_owned(),
            source: Box::new(source),
        };
        let builder = ort::session::Session::builder(environment).map_err(load)?;
        let (ep, ep_options) = (options.provider, &options.provider_options);
        let builder = provider::register(builder, (environment, engine), ep, ep_options)?;
        let session = configure(builder, options)
            .and_then(|b| commit(b, source))
            .map_err(load)?;
        let infos = |outlets: &[Outlet]| -> Result<Vec<ValueInfo>> {
            outlets
                .iter()
                .map(|o| value_info(file, o.name(), o.dtype()))
                .collect()
        };
        let optional = session.overridable_initializers();
        let optional = optional
            .iter()
            .map(|o| value_info(file, o.name(), o.dtype()));
        let signature = Signature {
            inputs: infos(session.inputs())?,
            optional: optional.filter_map(Result::ok).collect(),
            outputs: infos(session.outputs())?,
        };
        let home = provider::device(ep, ep_options);
        Ok(Self {
            session,
            signature,
            options: options.clone(),
            home,
            caches: None,
            fixed: Fixed::of(options, home),
        })
    }
}

impl Model for RuntimeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.session.metadata().ok()?.custom(key)
    }

    fn run(
        &mut self,
        inputs: &[(&str, &Tensor)],
        names: &[String],
    ) -> Result<Vec<(String, Tensor)>, Source> {
        if self.fixed.is_some() {
            let outputs = to_host(self.run_on_device(&feeds(inputs))?)?;
            let asked = |(name, _): &(String, Tensor)| names.contains(name);
            return Ok(outputs.into_iter().filter(asked).collect());
        }
        let all = names.len() == self.signature.outputs.len();
        Ok(run(&mut self.session, inputs, names, all)?)
    }

    fn run_on_device(
        &mut self,
        inputs: &[(&str, Feed<'_>)],
    ) -> Result<Vec<(String, DeviceTensor)>, Source> {
        if let Some(fixed) = &mut self.fixed {
            return Ok(fixed.run(&mut self.session, &self.signature, inputs)?);
        }
        let device = provider::memory(self.home)?;
        let options = RunOptions::new()?;
        let names = self.signature.outputs.iter().map(|o| o.name.clone());
        let outputs = bound::run_on_device(&mut self.session, (&device, &options), inputs, names)?;
        Ok(outputs)
    }

    fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor, Source> {
        let (device, id) = self.home;
        if device == AllocationDevice::CPU {
            return Ok(tensor.clone().into());
        }
        let value = convert::to_value(tensor)?.to(device, id)?;
        Ok(left(value.into_dyn())?)
    }

    fn buffers(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let fixed = self.fixed.as_ref()?;
        Some(Arc::clone(&fixed.buffers) as _)
    }

    fn share_buffers(&mut self, buffers: Arc<dyn Any + Send + Sync>) {
        if let (Some(fixed), Ok(buffers)) = (&mut self.fixed, buffers.downcast::<Buffers>()) {
            fixed.buffers = buffers;
        }
    }

    fn end_profiling(&mut self) -> Result<PathBuf, Source> {
        Ok(self.session.end_profiling().map(PathBuf::from)?)
    }

    fn keep_caches(&mut self) -> Result<Option<Box<dyn Interrupt>>, Source> {
        let options = Arc::new(RunOptions::new()?);
        self.caches = Some(Caches {
            bound: Bound::new(&self.session, &self.options)?,
            options: Arc::clone(&options),
        });
        Ok(Some(Box::new(Running(options))))
    }

    fn evaluate(
        &mut self,
        ports: &Ports,
        given: &[(&str, Feed<'_>)],
        step: i64,
        stay: bool,
    ) -> Result<Vec<(String, DeviceTensor)>, Source> {
        let Some(Caches { bound, options }) = &mut self.caches else {
            return Err("the session keeps no caches".into());
        };
        Ok(bound.run(&mut self.session, ports, options, given, (step, stay))?)
    }

    fn forget(&mut self) {
        if let Some(caches) = &mut self.caches {
            caches.bound.forget();
        }
    }
}

/// The options of the run that goes on.
struct Running(Arc<RunOptions>);

impl Interrupt for Running {
    fn interrupt(&self) -> Result<(), Source> {
        Ok(self.0.terminate()?)
    }

    fn clear(&self) -> Result<(), Source> {
        Ok(self.0.unterminate()?)
    }
}

/// A value of ONNX Runtime, where it lies.
pub(super) struct Left(pub(super) DynTensor);

impl OnDevice for Left {
    fn to_tensor(&self) -> Result<Tensor, Source> {
        to_tensor(&self.0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl OnDevice for Buffer {
    fn to_tensor(&self) -> Result<Tensor, Source> {
        to_tensor(&self.value)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn to_tensor(value: &DynTensor) -> Result<Tensor, Source> {
    Ok(if value.memory_info().is_cpu_accessible() {
        convert::from_value(value)?
    } else {
        convert::from_value(&value.to(AllocationDevice::CPU, 0)?)?
    })
}

/// The value of this engine that a tensor is.
pub(super) fn value_of(tensor: &DeviceTensor) -> Option<&DynTensor> {
    let left = tensor.value::<Left>().map(|left| &left.0);
    left.or_else(|| Some(&tensor.value::<Buffer>()?.value))
}

/// The value as a tensor that stays where it lies.
pub(super) fn left(value: DynValue) -> ort::Result<DeviceTensor> {
    let (dtype, shape) = convert::described(&value)?;
    let tensor = value.downcast::<DynTensorValueType>()?;
    Ok(DeviceTensor::on_device(
        dtype,
        shape,
        Arc::new(Left(tensor)),
    ))
}

/// Runs a session and returns the outputs `names`; `all` says that they are all the
/// outputs there are.
fn run(
    session: &mut ort::session::Session,
    inputs: &[(&str, &Tensor)],
    names: &[String],
    all: bool,
) -> ort::Result<Vec<(String, Tensor)>> {
    let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
    for &(name, tensor) in inputs {
        values.push((name.into(), convert::to_value(tensor)?.into()));
    }
    let selected = names
        .iter()
        .fold(OutputSelector::no_default(), |s, name| s.with(name));
    let options = RunOptions::new()?.with_outputs(selected);
    let mut results = match all {
        true => session.run(values)?,
        false => session.run_with_options(values, &options)?,
    };
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        tensors.push((
            name.clone(),
            convert::from_value(&take(&mut results, name)?)?,
        ));
    }
    Ok(tensors)
}

/// Takes the output `name` out of the results of a run.
pub(super) fn take(results: &mut SessionOutputs<'_>, name: &str) -> ort::Result<DynValue> {
    results
        .remove(name)
        .ok_or_else(|| ort::Error::new(format!("output `{name}` was not returned")))
}

fn configure(builder: SessionBuilder, options: &SessionOptions) -> ort::Result<SessionBuilder> {
    let mut builder = builder.with_optimization_level(match options.optimization {
        Optimization::Off => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::Default => GraphOptimizationLevel::All,
    })?;
    if options.no_memory_pattern {
        builder = builder.with_memory_pattern(false)?;
    }
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads)?;
    }
    if let Some(prefix) = &options.profile {
        builder = builder.with_profiling(prefix)?;
    }
    Ok(builder)
}

fn commit(mut builder: SessionBuilder, source: &ModelSource) -> ort::Result<ort::session::Session> {
    let (bytes, folder) = match source {
        ModelSource::File(path) => return builder.commit_from_file(path),
        ModelSource::Memory { bytes, folder, .. } => (bytes, folder),
    };
    if let Some(folder) = folder {
        let key = "session.model_external_initializers_file_folder_path";
        builder = builder.with_config_entry(key, folder.to_string_lossy())?;
    }
    builder.commit_from_memory(bytes)
}

/// A declared input or output.
fn value_info(file: &str, name: &str, value_type: &ValueType) -> Result<ValueInfo> {
    let unsupported = || EngineError::UnsupportedType {
        file: file.to_owned(),
        value: name.to_owned(),
        found: value_type.to_string(),
    };
    let ValueType::Tensor {
        ty,
        shape,
        dimension_symbols,
    } = value_type
    else {
        return Err(unsupported());
    };
    let dtype = convert::dtype(*ty).ok_or_else(unsupported)?;
    let dims = shape
        .iter()
        .zip(dimension_symbols.iter())
        .map(
            |(&size, symbol)| match (usize::try_from(size), symbol.as_str()) {
                (Ok(size), _) => Dim::Fixed(size),
                (Err(_), "") => Dim::Unknown,
                (Err(_), symbol) => Dim::Symbol(symbol.to_owned()),
            },
        );
    Ok(ValueInfo {
        name: name.to_owned(),
        dtype,
        dims: dims.collect(),
    })
}
