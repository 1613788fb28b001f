//! Runs whose values lie at addresses that stay, as captured graphs (CUDA graphs) need them.
//!
//! A captured graph reads and writes where its first run did, whatever a later run is given. So inputs and outputs
//! lie in buffers that live as long as the session, and each set of addresses has a graph of its own
//! (`gpu_graph_id`). A buffer is written again once nobody holds what it gave: what a caller keeps stays
//! as it is, and a cached value that a kind reads and writes gets a second buffer and a second graph by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ort::memory::AllocationDevice;
use ort::session::{IoBinding, RunOptions};
use ort::value::DynTensor;

use super::bound;
use super::convert;
use super::model::value_of;
use crate::engine::backend::Signature;
use crate::engine::device::{Content, DeviceTensor, Feed};
use crate::engine::model::{Dim, ValueInfo};
use crate::engine::session::SessionOptions;
use crate::engine::tensor::DType;

/// Graphs of one session. More sets of addresses than these run as they are, uncaptured: a graph is never released.
const MOST_GRAPHS: usize = 16;

/// A buffer on the device, and what was copied there last.
pub(super) struct Buffer {
    pub(super) value: DynTensor,
    holds: Mutex<Option<Content>>,
}

impl Buffer {
    /// Another handle of the same memory, to write there.
    fn shared(&self) -> ort::Result<DynTensor> {
        let shared = self.value.view().try_upgrade();
        shared.map_err(|_| ort::Error::new("a buffer cannot be shared"))
    }
}

/// Buffers by name, element type and shape. The kinds of one model share them.
#[derive(Default)]
pub(super) struct Buffers(Mutex<HashMap<Place, Vec<Arc<Buffer>>>>);

type Place = (String, DType, Vec<usize>);

impl Buffers {
    /// The first buffer that nobody holds; a new one where there is none.
    fn free(
        &self,
        place: Place,
        (device, id): (AllocationDevice<'static>, i32),
    ) -> ort::Result<Arc<Buffer>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = all.get(&place).into_iter().flatten();
        if let Some(free) = known.find(|b| Arc::strong_count(b) == 1) {
            return Ok(Arc::clone(free));
        }
        let buffer = Arc::new(Buffer {
            value: convert::zeros(place.1, &place.2)?.to(device, id)?,
            holds: Mutex::new(None),
        });
        all.entry(place).or_default().push(Arc::clone(&buffer));
        Ok(buffer)
    }
}

/// What runs on one set of addresses.
struct Graph {
    binding: IoBinding,
    options: RunOptions,
}

/// The buffers and graphs of a session.
pub(super) struct Fixed {
    home: (AllocationDevice<'static>, i32),
    pub(super) buffers: Arc<Buffers>,
    graphs: HashMap<Vec<usize>, Graph>,
    /// Shapes of the outputs by those of the inputs, where the model does not tell.
    shapes: HashMap<Vec<Vec<usize>>, Vec<Vec<usize>>>,
    captures: bool,
}

impl Fixed {
    /// None where the options ask for no such thing.
    pub fn of(options: &SessionOptions, home: (AllocationDevice<'static>, i32)) -> Option<Self> {
        let captures = options.captures_graphs();
        (captures || options.fixed_buffers).then(|| Self {
            home,
            buffers: Arc::default(),
            graphs: HashMap::new(),
            shapes: HashMap::new(),
            captures,
        })
    }

    /// Runs the session; the outputs stay on the device.
    pub fn run(
        &mut self,
        session: &mut ort::session::Session,
        signature: &Signature,
        given: &[(&str, Feed<'_>)],
    ) -> ort::Result<Vec<(String, DeviceTensor)>> {
        let Some(shapes) = self.shapes_of(signature, given) else {
            return self.first(session, signature, given);
        };
        let mut inputs = Vec::with_capacity(given.len());
        for &(name, feed) in given {
            inputs.push((name, self.input(name, feed)?));
        }
        let mut outputs = Vec::with_capacity(shapes.len());
        for (output, shape) in signature.outputs.iter().zip(shapes) {
            let place = (output.name.clone(), output.dtype, shape);
            outputs.push((output, self.buffers.free(place, self.home)?));
        }
        let values = inputs.iter().map(|(_, held)| held.value());
        let values = values.chain(outputs.iter().map(|(_, buffer)| &buffer.value));
        let key: Vec<usize> = values.map(|value| value.data_ptr() as usize).collect();
        if !self.graphs.contains_key(&key) {
            let graph = self.graph(session, &inputs, &outputs)?;
            self.graphs.insert(key.clone(), graph);
        }
        if let Some(Graph { binding, options }) = self.graphs.get(&key) {
            session.run_binding_with_options(binding, options)?;
        }
        let left = |(output, buffer): (&ValueInfo, Arc<Buffer>)| {
            let (dtype, shape) = convert::described(&buffer.value)?;
            let tensor = DeviceTensor::on_device(dtype, shape, buffer);
            Ok((output.name.clone(), tensor))
        };
        outputs.into_iter().map(left).collect()
    }

    /// The shapes of all outputs, as far as they are known.
    fn shapes_of(
        &self,
        signature: &Signature,
        given: &[(&str, Feed<'_>)],
    ) -> Option<Vec<Vec<usize>>> {
        let fixed = |output: &ValueInfo| -> Option<Vec<usize>> {
            let dims = output.dims.iter().map(|dim| match dim {
                Dim::Fixed(size) => Some(*size),
                _ => None,
            });
            dims.collect()
        };
        let told: Option<Vec<_>> = signature.outputs.iter().map(fixed).collect();
        told.or_else(|| self.shapes.get(&shapes(given)).cloned())
    }

    /// The first run with inputs of these shapes, which tells those of the outputs.
    fn first(
        &mut self,
        session: &mut ort::session::Session,
        signature: &Signature,
        given: &[(&str, Feed<'_>)],
    ) -> ort::Result<Vec<(String, DeviceTensor)>> {
        let names = signature.outputs.iter().map(|o| o.name.clone());
        let device = super::provider::memory(self.home)?;
        let options = self.options(None)?;
        let outputs = bound::run_on_device(session, (&device, &options), given, names)?;
        let found = outputs.iter().map(|(_, tensor)| tensor.shape().to_vec());
        self.shapes.insert(shapes(given), found.collect());
        Ok(outputs)
    }

    /// The graph of a new set of addresses.
    fn graph(
        &self,
        session: &ort::session::Session,
        inputs: &[(&str, Held<'_>)],
        outputs: &[(&ValueInfo, Arc<Buffer>)],
    ) -> ort::Result<Graph> {
        let mut binding = session.create_binding()?;
        for (name, held) in inputs {
            binding.bind_input(*name, held.value())?;
        }
        for (output, buffer) in outputs {
            binding.bind_output(&output.name, buffer.shared()?)?;
        }
        let number = (self.graphs.len() < MOST_GRAPHS).then_some(self.graphs.len() + 1);
        let options = self.options(number)?;
        Ok(Graph { binding, options })
    }

    /// Options of runs that are captured as the graph of that number, or not at all.
    fn options(&self, graph: Option<usize>) -> ort::Result<RunOptions> {
        let mut options = RunOptions::new()?;
        if self.captures {
            let number = graph.map_or("-1".to_owned(), |number| number.to_string());
            options.set("gpu_graph_id", number)?;
        }
        Ok(options)
    }

    /// What an input is bound to: what already lies in a buffer as it is, all else copied into one.
    fn input<'a>(&self, name: &str, feed: Feed<'a>) -> ort::Result<Held<'a>> {
        let feed = feed.resolved();
        if let Feed::Device(tensor) = feed
            && let Some(buffer) = tensor.value::<Buffer>()
        {
            return Ok(Held::Given(buffer));
        }
        let place = (name.to_owned(), feed.dtype(), feed.shape().to_vec());
        let buffer = self.buffers.free(place, self.home)?;
        // Content on the host is compared by value, which costs more than copying it.
        let content = match feed {
            Feed::Host(_) => None,
            Feed::Device(_) => Some(feed.content()),
        };
        let mut holds = buffer.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if content.is_none() || *holds != content {
            let mut target = buffer.shared()?;
            match feed {
                Feed::Host(tensor) => convert::to_value(tensor)?.copy_into(&mut target)?,
                Feed::Device(tensor) => match value_of(tensor) {
                    Some(value) => value.copy_into(&mut target)?,
                    None => return Err(ort::Error::new(format!("`{name}` is of another engine"))),
                },
            }
            *holds = content;
        }
        drop(holds);
        Ok(Held::Copied(buffer))
    }
}

/// What is bound for a run. A copy holds its buffer until the run has ended.
enum Held<'a> {
    Given(&'a Buffer),
    Copied(Arc<Buffer>),
}

impl Held<'_> {
    fn value(&self) -> &DynTensor {
        match self {
            Self::Given(buffer) => &buffer.value,
            Self::Copied(buffer) => &buffer.value,
        }
    }
}

fn shapes(given: &[(&str, Feed<'_>)]) -> Vec<Vec<usize>> {
    given
        .iter()
        .map(|(_, feed)| feed.shape().to_vec())
        .collect()
}
