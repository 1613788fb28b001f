//! Tensors that stay where a session left them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::OnDevice;
use super::error::{EngineError, Result};
use super::tensor::{DType, Tensor};

/// A tensor where its session left it: in the memory of the device, or of the host.
///
/// What one session returns so, another one of the same provider and device takes without a copy:
/// the residuals of a ControlNet reach the UNet. It does not change any more; cloning shares it.
#[derive(Clone)]
pub struct DeviceTensor {
    identity: u64,
    dtype: DType,
    shape: Vec<usize>,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Host(Tensor),
    Device(Arc<dyn OnDevice>),
}

/// What an input is given.
#[derive(Clone, Copy, Debug)]
pub enum Feed<'a> {
    /// A tensor in host memory.
    Host(&'a Tensor),
    /// A tensor that a session or [`Session::upload`](super::Session::upload) returned.
    Device(&'a DeviceTensor),
}

impl<'a> From<&'a Tensor> for Feed<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Host(tensor)
    }
}

impl<'a> From<&'a DeviceTensor> for Feed<'a> {
    fn from(tensor: &'a DeviceTensor) -> Self {
        match &tensor.place {
            Place::Host(host) => Self::Host(host),
            Place::Device(_) => Self::Device(tensor),
        }
    }
}

/// Two feeds of equal content are the same; of tensors on the device only the tensor itself is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Host(Tensor),
    Device(u64),
}

impl Feed<'_> {
    /// A tensor that was left in host memory as what it is.
    pub(super) fn resolved(self) -> Self {
        match self {
            Self::Host(_) => self,
            Self::Device(tensor) => tensor.into(),
        }
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::Host(tensor) => tensor.dtype(),
            Self::Device(tensor) => tensor.dtype,
        }
    }

    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Host(tensor) => tensor.shape(),
            Self::Device(tensor) => &tensor.shape,
        }
    }

    pub(super) fn content(self) -> Content {
        match self.resolved() {
            Self::Host(tensor) => Content::Host(tensor.clone()),
            Self::Device(tensor) => Content::Device(tensor.identity),
        }
    }

    /// The tensor in host memory, copied there where it must be.
    pub(super) fn to_tensor(self) -> Result<Tensor> {
        match self {
            Self::Host(tensor) => Ok(tensor.clone()),
            Self::Device(tensor) => tensor.to_tensor(),
        }
    }
}

impl DeviceTensor {
    fn new(dtype: DType, shape: Vec<usize>, place: Place) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self {
            identity: COUNT.fetch_add(1, Ordering::Relaxed),
            dtype,
            shape,
            place,
        }
    }

    /// A value of an engine, where it lies.
    pub(super) fn on_device(dtype: DType, shape: Vec<usize>, value: Arc<dyn OnDevice>) -> Self {
        Self::new(dtype, shape, Place::Device(value))
    }

    /// The value of the engine that keeps its values as `V`, if it is one.
    pub(super) fn value<V: 'static>(&self) -> Option<&V> {
        match &self.place {
            Place::Host(_) => None,
            Place::Device(value) => value.as_any().downcast_ref(),
        }
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// A copy in host memory.
    ///
    /// # Errors
    /// [`EngineError::Transfer`] if the engine cannot copy it.
    pub fn to_tensor(&self) -> Result<Tensor> {
        match &self.place {
            Place::Host(tensor) => Ok(tensor.clone()),
            Place::Device(value) => value
                .to_tensor()
                .map_err(|source| EngineError::Transfer { source }),
        }
    }
}

impl From<Tensor> for DeviceTensor {
    fn from(tensor: Tensor) -> Self {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        Self::new(dtype, shape, Place::Host(tensor))
    }
}

impl fmt::Debug for DeviceTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Host(_) => "host",
            Place::Device(_) => "device",
        };
        write!(f, "{}{:?} in {place} memory", self.dtype, self.shape)
    }
}

/// Host tensors as feeds.
pub(super) fn feeds<'a>(tensors: &[(&'a str, &'a Tensor)]) -> Vec<(&'a str, Feed<'a>)> {
    tensors
        .iter()
        .map(|&(name, tensor)| (name, tensor.into()))
        .collect()
}

/// Outputs in host memory.
pub(super) fn to_host(outputs: Vec<(String, DeviceTensor)>) -> Result<Vec<(String, Tensor)>> {
    let read = |(name, tensor): (String, DeviceTensor)| Ok((name, tensor.to_tensor()?));
    outputs.into_iter().map(read).collect()
}
