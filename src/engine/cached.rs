//! A rewritten model, called like the original.

use std::borrow::Cow;

use ort::memory::MemoryInfo;
use ort::session::{IoBinding, RunOptions, SessionInputValue};
use ort::value::{DynTensor, DynValue};

use super::cancel::CancelHandle;
use super::convert;
use super::error::{EngineError, Result};
use super::provider::Provider;
use super::session::{ModelSource, Session, SessionOptions, take};
use super::state::{Generation, Layout, STEP_INPUT, Site};
use super::tensor::Tensor;
use super::{Engine, EngineKind};

/// A session of a rewritten model that owns the step counter and the caches.
///
/// A *generation* is a run of evaluations between two resets, at most as many as
/// the model's schedule has steps. Its first evaluation fixes the shapes of all
/// inputs and the values of those that cached values depend on; an evaluation that
/// breaks this is refused without running. A failed or cancelled evaluation ends
/// the generation. No cache outlives a generation.
#[derive(Debug)]
pub struct CachedSession {
    session: Session,
    layout: Layout,
    generation: Generation,
    cancel: CancelHandle,
    /// Cached values, one a site; `None` before the first evaluation.
    past: Vec<Option<DynValue>>,
    device: Option<Device>,
}

/// Where caches live on ONNX Runtime.
#[derive(Debug)]
struct Device {
    binding: IoBinding,
    memory: MemoryInfo<'static>,
    host: MemoryInfo<'static>,
    /// Whether a buffer may be past and present at once.
    shares: bool,
}

/// What one evaluation returns.
struct Evaluated {
    outputs: Vec<(String, Tensor)>,
    present: Vec<DynValue>,
}

impl CachedSession {
    /// Loads a rewritten model.
    pub fn open(
        engine: &Engine,
        source: impl Into<ModelSource>,
        options: &SessionOptions,
    ) -> Result<Self> {
        Self::new(Session::load(engine, source, options)?, options)
    }

    fn new(session: Session, options: &SessionOptions) -> Result<Self> {
        let layout = Layout::of(&session)?;
        let load = |source| EngineError::Load { file: session.file.clone(), source };
        let (device, run_options) = match session.kind {
            EngineKind::Embedded => (None, None),
            EngineKind::OnnxRuntime => {
                let device = Device::of(&session, options).map_err(load)?;
                (Some(device), Some(RunOptions::new().map_err(load)?))
            }
        };
        Ok(Self {
            past: layout.sites.iter().map(|_| None).collect(),
            cancel: CancelHandle::new(run_options),
            generation: Generation::default(),
            session,
            layout,
            device,
        })
    }

    /// Evaluations of the schedule.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.layout.steps
    }

    /// The step the next evaluation has.
    #[must_use]
    pub fn next_step(&self) -> usize {
        self.generation.step()
    }

    /// The loaded model, for its inputs, outputs and metadata.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A handle to cancel evaluations from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Evaluates the next step on the inputs of the original model and returns its
    /// outputs, in order.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>> {
        let step = i64::try_from(self.generation.step()).unwrap_or(i64::MAX);
        self.evaluate(inputs, step)
    }

    /// Like [`run`](Self::run), but recomputes everything whatever the schedule says.
    /// It counts as one evaluation.
    pub fn run_forced_refresh(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>> {
        self.evaluate(inputs, -1)
    }

    /// Starts another generation: drops all caches, a failure and a cancellation,
    /// and goes back to step 0.
    pub fn reset(&mut self) -> Result<()> {
        self.generation = Generation::default();
        self.forget();
        let failed = |source| EngineError::Run { file: self.session.file.clone(), source };
        self.cancel.clear().map_err(failed)
    }

    /// Ends profiling and returns the path of the profile.
    pub fn end_profiling(&mut self) -> Result<std::path::PathBuf> {
        self.session.end_profiling()
    }

    fn forget(&mut self) {
        self.past.iter_mut().for_each(|value| *value = None);
        if let Some(device) = &mut self.device {
            device.binding.clear();
        }
    }

    fn evaluate(&mut self, given: &[(&str, &Tensor)], step: i64) -> Result<Vec<(String, Tensor)>> {
        self.session.check_inputs(&self.layout.inputs, given)?;
        self.generation.admit(&self.session.file, &self.layout, given)?;
        if self.cancel.is_cancelled() {
            return Err(self.stop(None));
        }
        let evaluated = match self.device {
            Some(_) => self.run_bound(given, step),
            None => self.run_moved(given, step),
        };
        match evaluated {
            Ok(Evaluated { outputs, present }) => {
                self.past = present.into_iter().map(Some).collect();
                self.generation.advance(&self.layout, given);
                Ok(outputs)
            }
            Err(source) => Err(self.stop(Some(source))),
        }
    }

    /// Ends the generation after a failure or, without one, a cancellation.
    fn stop(&mut self, failure: Option<ort::Error>) -> EngineError {
        self.forget();
        let file = self.session.file.clone();
        match failure {
            Some(source) if !self.cancel.is_cancelled() => {
                self.generation.end(format!("an evaluation failed: {source}"));
                EngineError::Run { file, source }
            }
            _ => {
                self.generation.end("an evaluation was cancelled");
                EngineError::Cancelled { file }
            }
        }
    }

    /// Runs with all values bound: caches stay where the provider keeps them.
    fn run_bound(&mut self, given: &[(&str, &Tensor)], step: i64) -> ort::Result<Evaluated> {
        let Self { session, layout, cancel, past, device, .. } = self;
        let (Some(device), Some(options)) = (device, cancel.options()) else {
            return Err(ort::Error::new("the session has no binding"));
        };
        device.binding.clear();
        for &(name, tensor) in given {
            device.binding.bind_input(name, &convert::to_value(tensor)?)?;
        }
        device.binding.bind_input(STEP_INPUT, &convert::to_value(&Tensor::scalar_i64(step))?)?;
        for name in &layout.outputs {
            device.binding.bind_output_to_device(name, &device.host)?;
        }
        for (site, past) in layout.sites.iter().zip(past.iter_mut()) {
            device.bind(site, past.take())?;
        }
        let present = |site: &Site| site.present.name.clone();
        let names: Vec<String> = layout.sites.iter().map(present).collect();
        let evaluated = {
            let mut results = session.inner.run_binding_with_options(&device.binding, options)?;
            let mut outputs = Vec::with_capacity(layout.outputs.len());
            for name in &layout.outputs {
                let value = take(&mut results, name)?;
                outputs.push((name.clone(), convert::from_value(&value)?));
            }
            let present = names.iter().map(|name| take(&mut results, name));
            Evaluated { outputs, present: present.collect::<ort::Result<_>>()? }
        };
        device.binding.clear();
        Ok(evaluated)
    }

    /// Runs without bindings: caches are handed over as inputs and taken from the
    /// outputs.
    fn run_moved(&mut self, given: &[(&str, &Tensor)], step: i64) -> ort::Result<Evaluated> {
        let Self { session, layout, past, .. } = self;
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
        for &(name, tensor) in given {
            values.push((name.into(), convert::to_value(tensor)?.into()));
        }
        let step = convert::to_value(&Tensor::scalar_i64(step))?;
        values.push((STEP_INPUT.into(), step.into()));
        for (site, past) in layout.sites.iter().zip(past.iter_mut()) {
            let value = match past.take() {
                Some(value) => value,
                None => {
                    let shape = layout.first_shape_resolved(site, given);
                    convert::zeros(site.past.dtype, &shape)?.into_dyn()
                }
            };
            values.push((site.past.name.as_str().into(), value.into()));
        }
        let mut results = session.inner.run(values)?;
        let mut outputs = Vec::with_capacity(layout.outputs.len());
        for name in &layout.outputs {
            let value = take(&mut results, name)?;
            outputs.push((name.clone(), convert::from_value(&value)?));
        }
        let present = layout.sites.iter().map(|site| take(&mut results, &site.present.name));
        Ok(Evaluated { outputs, present: present.collect::<ort::Result<_>>()? })
    }
}

impl Device {
    fn of(session: &Session, options: &SessionOptions) -> ort::Result<Self> {
        Ok(Self {
            binding: session.inner.create_binding()?,
            memory: options.provider.memory(&options.provider_options)?,
            host: MemoryInfo::default(),
            // TensorRT may write an output before all its inputs are read.
            shares: options.provider != Provider::TensorRt,
        })
    }

    /// Binds past and present of a site. A value from an earlier evaluation may be
    /// both at once: it has the right size, since shapes do not change within a
    /// generation.
    fn bind(&mut self, site: &Site, past: Option<DynValue>) -> ort::Result<()> {
        let Some(past) = past else {
            let first: DynTensor = convert::zeros(site.past.dtype, &Layout::first_shape(site))?;
            self.binding.bind_input(&site.past.name, &first)?;
            return self.binding.bind_output_to_device(&site.present.name, &self.memory);
        };
        self.binding.bind_input(&site.past.name, &past)?;
        if site.in_place && self.shares {
            self.binding.bind_output(&site.present.name, past)
        } else {
            self.binding.bind_output_to_device(&site.present.name, &self.memory)
        }
    }
}
