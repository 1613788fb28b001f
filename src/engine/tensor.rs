//! Tensors in host memory.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F16,
    BF16,
    F64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether elements are floating-point numbers.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }

    /// The type of an ONNX `TensorProto.DataType`, if a tensor can hold it.
    #[must_use]
    pub fn from_onnx(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            4 => Self::U16,
            5 => Self::I16,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            12 => Self::U32,
            13 => Self::U64,
            16 => Self::BF16,
            _ => return None,
        })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F64 => "float64",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U64 => "uint64",
            Self::U32 => "uint32",
            Self::U16 => "uint16",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        })
    }
}

/// A tensor that cannot be built or compared.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorError {
    /// Shape and data do not agree.
    #[error("a {dtype} tensor of shape {shape:?} takes {expected} bytes, but {found} were given")]
    Length {
        /// Element type.
        dtype: DType,
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes the shape needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The shape has more elements than memory can hold.
    #[error("shape {shape:?} has too many elements")]
    TooLarge {
        /// Shape asked for.
        shape: Vec<usize>,
    },
    /// Two tensors of different shape cannot be compared.
    #[error("cannot compare a tensor of shape {left:?} with one of shape {right:?}")]
    ShapesDiffer {
        /// Shape of the first.
        left: Vec<usize>,
        /// Shape of the second.
        right: Vec<usize>,
    },
}

/// A dense tensor in host memory, in native byte order. Cloning shares the data.
///
/// `==` is equality of type, shape and bits: a NaN equals itself and -0 differs
/// from 0.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
}

impl Tensor {
    /// A tensor over `data`, which is not copied.
    pub fn from_bytes(
        dtype: DType,
        shape: &[usize],
        data: impl Into<Bytes>,
    ) -> Result<Self, TensorError> {
        let data = data.into();
        let expected = byte_len(dtype, shape)?;
        if expected != data.len() {
            let (shape, found) = (shape.to_vec(), data.len());
            return Err(TensorError::Length {
                dtype,
                shape,
                expected,
                found,
            });
        }
        Ok(Self {
            dtype,
            shape: shape.to_vec(),
            data,
        })
    }

    /// A float32 tensor.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<Self, TensorError> {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        Self::from_bytes(DType::F32, shape, data)
    }

    /// An int64 tensor.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Result<Self, TensorError> {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        Self::from_bytes(DType::I64, shape, data)
    }

    /// A tensor of `dtype` with the given values rounded to it: floats to nearest
    /// even, integers to nearest and saturating, `bool` to "not zero".
    pub fn from_f32_as(dtype: DType, shape: &[usize], values: &[f32]) -> Result<Self, TensorError> {
        let mut data = Vec::with_capacity(values.len() * dtype.size());
        for &v in values {
            push_f32(&mut data, dtype, v);
        }
        Self::from_bytes(dtype, shape, data)
    }

    /// An int64 scalar.
    #[must_use]
    pub fn scalar_i64(value: i64) -> Self {
        let data = Bytes::copy_from_slice(&value.to_ne_bytes());
        Self {
            dtype: DType::I64,
            shape: Vec::new(),
            data,
        }
    }

    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Self, TensorError> {
        let len = byte_len(dtype, shape)?;
        Ok(Self {
            dtype,
            shape: shape.to_vec(),
            data: vec![0; len].into(),
        })
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

    /// The elements, row-major, in native byte order.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements as float32; wider types are rounded.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self.elements(f32::from_ne_bytes),
            DType::F16 => self.elements(|b| f16::from_ne_bytes(b).to_f32()),
            DType::BF16 => self.elements(|b| bf16::from_ne_bytes(b).to_f32()),
            DType::F64 => self.elements(|b| f64::from_ne_bytes(b) as f32),
            DType::I64 => self.elements(|b| i64::from_ne_bytes(b) as f32),
            DType::I32 => self.elements(|b| i32::from_ne_bytes(b) as f32),
            DType::I16 => self.elements(|b| f32::from(i16::from_ne_bytes(b))),
            DType::I8 => self.elements(|b| f32::from(i8::from_ne_bytes(b))),
            DType::U64 => self.elements(|b| u64::from_ne_bytes(b) as f32),
            DType::U32 => self.elements(|b| u32::from_ne_bytes(b) as f32),
            DType::U16 => self.elements(|b| f32::from(u16::from_ne_bytes(b))),
            DType::U8 | DType::Bool => self.elements(|b| f32::from(u8::from_ne_bytes(b))),
        }
    }

    /// Whether type, shape and every bit agree.
    #[must_use]
    pub fn bit_equal(&self, other: &Self) -> bool {
        self == other
    }

    /// The largest absolute difference of two elements. Infinite where exactly one
    /// of the two is NaN; equal infinities and two NaN do not differ.
    pub fn max_abs_diff(&self, other: &Self) -> Result<f64, TensorError> {
        if self.shape != other.shape {
            let (left, right) = (self.shape.clone(), other.shape.clone());
            return Err(TensorError::ShapesDiffer { left, right });
        }
        if self == other {
            return Ok(0.0);
        }
        let (left, right) = (self.to_f32(), other.to_f32());
        Ok(left
            .iter()
            .zip(&right)
            .map(|(&a, &b)| abs_diff(a, b))
            .fold(0.0, f64::max))
    }

    /// `convert` applied to each element's bytes.
    pub(super) fn elements<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.data
            .as_chunks::<N>()
            .0
            .iter()
            .map(|&bytes| convert(bytes))
            .collect()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

fn abs_diff(a: f32, b: f32) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (true, false) | (false, true) => f64::INFINITY,
        (false, false) if a == b => 0.0,
        (false, false) => (f64::from(a) - f64::from(b)).abs(),
    }
}

/// Bytes of a tensor, or an error where that overflows.
fn byte_len(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    let too_large = || TensorError::TooLarge {
        shape: shape.to_vec(),
    };
    let bytes = shape
        .iter()
        .try_fold(dtype.size(), |n, &d| n.checked_mul(d))
        .ok_or_else(too_large)?;
    if isize::try_from(bytes).is_err() {
        return Err(too_large());
    }
    Ok(bytes)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn push_f32(data: &mut Vec<u8>, dtype: DType, v: f32) {
    let r = v.round_ties_even();
    match dtype {
        DType::F32 => data.extend(v.to_ne_bytes()),
        DType::F16 => data.extend(f16::from_f32(v).to_ne_bytes()),
        DType::BF16 => data.extend(bf16::from_f32(v).to_ne_bytes()),
        DType::F64 => data.extend(f64::from(v).to_ne_bytes()),
        DType::I64 => data.extend((r as i64).to_ne_bytes()),
        DType::I32 => data.extend((r as i32).to_ne_bytes()),
        DType::I16 => data.extend((r as i16).to_ne_bytes()),
        DType::I8 => data.extend((r as i8).to_ne_bytes()),
        DType::U64 => data.extend((r as u64).to_ne_bytes()),
        DType::U32 => data.extend((r as u32).to_ne_bytes()),
        DType::U16 => data.extend((r as u16).to_ne_bytes()),
        DType::U8 => data.push(r as u8),
        DType::Bool => data.push(u8::from(v != 0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_convert_both_ways() {
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            let t = Tensor::from_f32_as(dtype, &[3], &[0.5, -2.0, 0.0]).unwrap();
            assert_eq!(t.bytes().len(), 3 * dtype.size());
            assert_eq!(t.to_f32(), [0.5, -2.0, 0.0]);
        }
        let t = Tensor::from_f32_as(DType::U8, &[3], &[-1.0, 2.5, 300.0]).unwrap();
        assert_eq!(t.to_f32(), [0.0, 2.0, 255.0]);
    }

    #[test]
    fn equality_is_of_bits() {
        let t = |v: f32| Tensor::from_f32(&[1], &[v]).unwrap();
        assert!(t(f32::NAN).bit_equal(&t(f32::NAN)));
        assert!(!t(0.0).bit_equal(&t(-0.0)));
        assert_eq!(t(0.0).max_abs_diff(&t(-0.0)), Ok(0.0));
        assert_eq!(t(f32::NAN).max_abs_diff(&t(1.0)), Ok(f64::INFINITY));
        assert_eq!(
            t(f32::INFINITY).max_abs_diff(&t(f32::NEG_INFINITY)),
            Ok(f64::INFINITY)
        );
        assert_eq!(t(1.5).max_abs_diff(&t(1.0)), Ok(0.5));
        let other = Tensor::from_f32(&[1, 1], &[1.0]).unwrap();
        assert!(matches!(
            t(1.0).max_abs_diff(&other),
            Err(TensorError::ShapesDiffer { .. })
        ));
    }

    #[test]
    fn shape_and_data_must_agree() {
        assert!(matches!(
            Tensor::from_f32(&[2], &[1.0]),
            Err(TensorError::Length { .. })
        ));
        let huge = [usize::MAX, 2];
        assert!(matches!(
            Tensor::zeros(DType::F32, &huge),
            Err(TensorError::TooLarge { .. })
        ));
        assert!(Tensor::zeros(DType::F32, &[2, 0, 3]).unwrap().is_empty());
    }
}
