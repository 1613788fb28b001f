//! In what a cached value is kept.

use super::data::CacheType;
use super::layout::{Placed, SiteTensor};
use crate::analysis::dims::Shape;

/// In what one cached value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As it is.
    Same,
    /// In half precision.
    Half,
    /// In 8 bits: the nearest multiples of a power of two, one for each row of the batch and channel, whose
    /// values lie along these axes.
    Int8(&'static [usize]),
}

/// `TensorProto.DataType` values.
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const FLOAT16: i32 = 10;

impl Storage {
    /// In what a site keeps one of its values. What cannot be kept in 8 bits (whose channels are not known)
    /// is kept in half precision.
    #[must_use]
    pub fn of(placed: &Placed, tensor: &SiteTensor) -> Self {
        let Some(shape) = tensor.shape.as_ref().filter(|_| !tensor.measure) else {
            return Self::Same;
        };
        let half = match shape.elem_type {
            FLOAT => Self::Half,
            _ => Self::Same,
        };
        match placed.site.cache {
            CacheType::Same => Self::Same,
            CacheType::F16 => half,
            CacheType::Int8 if matches!(shape.elem_type, FLOAT | FLOAT16) => {
                channel(shape, tensor.batch_axis).map_or(half, Self::Int8)
            }
            CacheType::Int8 => half,
        }
    }

    /// The type of what is kept of values of type `elem_type` (`TensorProto.DataType`).
    #[must_use]
    pub fn elem_type(self, elem_type: i32) -> i32 {
        match self {
            Self::Same => elem_type,
            Self::Half => FLOAT16,
            Self::Int8(_) => INT8,
        }
    }

    /// Bytes of a value of this shape at `batch`.
    #[must_use]
    pub fn bytes(self, shape: &Shape, batch: u64) -> u64 {
        match self {
            Self::Same => shape.bytes(batch),
            Self::Half => shape.elements(batch).saturating_mul(2),
            Self::Int8(within) => {
                let dims = shape.dims.iter().enumerate();
                let scales = dims.filter(|(axis, _)| !within.contains(axis));
                let scales = scales.fold(4, |n: u64, (_, d)| n.saturating_mul(d.at(batch)));
                shape.elements(batch).saturating_add(scales)
            }
        }
    }
}

/// The axes along which the values of one channel lie: of an image (row, channel, height, width) the last
/// two, of tokens (row, token, channel) the tokens.
fn channel(shape: &Shape, batch_axis: Option<usize>) -> Option<&'static [usize]> {
    let within: &[usize] = match shape.dims.len() {
        4 => &[2, 3],
        3 => &[1],
        _ => return None,
    };
    // Rows of a batch are not to see each other.
    let apart = batch_axis.is_none_or(|axis| !within.contains(&axis));
    apart.then_some(within)
}
