//! Cached values on ONNX Runtime: they stay where the provider keeps them.

use ort::memory::MemoryInfo;
use ort::session::{IoBinding, RunOptions};
use ort::value::DynValue;

use super::model::{left, take, value_of};
use super::{convert, provider};
use crate::convention::STEP;
use crate::engine::device::{DeviceTensor, Feed};
use crate::engine::ports::{CachePort, Ports};
use crate::engine::provider::Provider;
use crate::engine::session::SessionOptions;
use crate::engine::tensor::Tensor;

/// The cached values of a session and what they are bound with.
#[derive(Debug)]
pub(super) struct Bound {
    binding: IoBinding,
    /// Where the provider keeps values.
    device: MemoryInfo<'static>,
    host: MemoryInfo<'static>,
    /// Whether a buffer may be past and present at once.
    shares: bool,
    /// One value a site, empty before the first evaluation.
    past: Vec<DynValue>,
}

impl Bound {
    pub fn new(session: &ort::session::Session, options: &SessionOptions) -> ort::Result<Self> {
        Ok(Self {
            binding: session.create_binding()?,
            device: provider::memory(provider::device(
                options.provider,
                &options.provider_options,
            ))?,
            host: MemoryInfo::default(),
            // TensorRT may write an output before all its inputs are read.
            shares: options.provider != Provider::TensorRt,
            past: Vec::new(),
        })
    }

    /// Drops all cached values.
    pub fn forget(&mut self) {
        self.past.clear();
        self.binding.clear();
    }

    /// Evaluates one step. The outputs stay on the device if `stay`. After an error the cached
    /// values are lost.
    pub fn run(
        &mut self,
        session: &mut ort::session::Session,
        ports: &Ports,
        options: &RunOptions,
        given: &[(&str, Feed<'_>)],
        (step, stay): (i64, bool),
    ) -> ort::Result<Vec<(String, DeviceTensor)>> {
        self.binding.clear();
        bind_inputs(&mut self.binding, given)?;
        self.binding
            .bind_input(STEP, &convert::to_value(&Tensor::scalar_i64(step))?)?;
        let place = if stay { &self.device } else { &self.host };
        for output in &ports.outputs {
            self.binding.bind_output_to_device(&output.name, place)?;
        }
        let mut past = std::mem::take(&mut self.past).into_iter();
        for site in &ports.sites {
            self.bind(site, past.next())?;
        }
        let mut results = session.run_binding_with_options(&self.binding, options)?;
        let mut outputs = Vec::with_capacity(ports.outputs.len());
        for output in &ports.outputs {
            let value = take(&mut results, &output.name)?;
            outputs.push((output.name.clone(), kept(value, stay)?));
        }
        let present = ports
            .sites
            .iter()
            .map(|site| take(&mut results, &site.present.name));
        let present = present.collect::<ort::Result<Vec<_>>>()?;
        drop(results);
        self.binding.clear();
        self.past = present;
        Ok(outputs)
    }

    /// Binds past and present of a site. A value from an earlier evaluation may be
    /// both at once: it has the right size, since shapes do not change within a
    /// generation.
    fn bind(&mut self, site: &CachePort, past: Option<DynValue>) -> ort::Result<()> {
        let Some(past) = past else {
            let first = convert::zeros(site.past.dtype, &Ports::first_shape(site))?;
            self.binding.bind_input(&site.past.name, &first)?;
            return self
                .binding
                .bind_output_to_device(&site.present.name, &self.device);
        };
        self.binding.bind_input(&site.past.name, &past)?;
        if site.in_place && self.shares {
            self.binding.bind_output(&site.present.name, past)
        } else {
            self.binding
                .bind_output_to_device(&site.present.name, &self.device)
        }
    }
}

/// Binds what is given, each where it lies.
fn bind_inputs(binding: &mut IoBinding, given: &[(&str, Feed<'_>)]) -> ort::Result<()> {
    for &(name, feed) in given {
        match feed.resolved() {
            Feed::Host(tensor) => binding.bind_input(name, &convert::to_value(tensor)?)?,
            Feed::Device(tensor) => match value_of(tensor) {
                Some(value) => binding.bind_input(name, value)?,
                None => return Err(ort::Error::new(format!("`{name}` is of another engine"))),
            },
        }
    }
    Ok(())
}

/// An output where it lies, or read into host memory.
fn kept(value: DynValue, stay: bool) -> ort::Result<DeviceTensor> {
    if stay {
        left(value)
    } else {
        Ok(convert::from_value(&value)?.into())
    }
}

/// Runs a session that keeps nothing, and leaves `names` of its outputs on `device`.
pub(super) fn run_on_device(
    session: &mut ort::session::Session,
    (device, options): (&MemoryInfo<'_>, &RunOptions),
    given: &[(&str, Feed<'_>)],
    names: impl Iterator<Item = String>,
) -> ort::Result<Vec<(String, DeviceTensor)>> {
    let mut binding = session.create_binding()?;
    bind_inputs(&mut binding, given)?;
    let names: Vec<String> = names.collect();
    for name in &names {
        binding.bind_output_to_device(name, device)?;
    }
    let mut results = session.run_binding_with_options(&binding, options)?;
    let outputs = names.into_iter().map(|name| {
        let value = take(&mut results, &name)?;
        Ok((name, left(value)?))
    });
    outputs.collect()
}
