//! Tensors: sizes, small values, construction.

use bytes::Bytes;
use half::{bf16, f16};

use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};

impl DataType {
    /// Bits of one element as stored in `raw_data`; `None` for strings and the undefined type.
    pub fn bits(self) -> Option<u32> {
        Some(match self {
            Self::Undefined | Self::String => return None,
            Self::Complex128 => 128,
            Self::Double | Self::Int64 | Self::Uint64 | Self::Complex64 => 64,
            Self::Float | Self::Int32 | Self::Uint32 => 32,
            Self::Float16 | Self::Bfloat16 | Self::Int16 | Self::Uint16 => 16,
            Self::Uint8
            | Self::Int8
            | Self::Bool
            | Self::Float8e4m3fn
            | Self::Float8e4m3fnuz
            | Self::Float8e5m2
            | Self::Float8e5m2fnuz
            | Self::Float8e8m0 => 8,
            Self::Float6e2m3 | Self::Float6e3m2 => 6,
            Self::Uint4 | Self::Int4 | Self::Float4e2m1 => 4,
            Self::Uint2 | Self::Int2 => 2,
        })
    }

    /// Bytes of `elems` elements in `raw_data`, the last byte padded.
    pub fn byte_len(self, elems: u64) -> Option<u64> {
        let bits = u128::from(self.bits()?) * u128::from(elems);
        u64::try_from(bits.div_ceil(8)).ok()
    }
}

impl TensorProto {
    /// Element type; `None` if undefined or not one of ONNX.
    pub fn dtype(&self) -> Option<DataType> {
        DataType::try_from(self.data_type?)
            .ok()
            .filter(|t| *t != DataType::Undefined)
    }

    /// Whether the elements are in a file of their own.
    pub fn is_external(&self) -> bool {
        self.data_location == Some(DataLocation::External as i32)
    }

    /// Number of elements; `None` for a negative dimension or more than `u64` counts.
    pub fn elem_count(&self) -> Option<u64> {
        if self.dims.iter().any(|d| *d < 0) {
            return None;
        }
        if self.dims.contains(&0) {
            return Some(0);
        }
        let mut dims = self.dims.iter().map(|d| d.unsigned_abs());
        dims.try_fold(1u64, u64::checked_mul)
    }

    /// Bytes of the elements, little endian and packed; `None` for strings and bad dimensions.
    pub fn byte_len(&self) -> Option<u64> {
        self.dtype()?.byte_len(self.elem_count()?)
    }

    /// Elements of an inline integer or boolean tensor.
    ///
    /// `None` for other types, external data, a payload that disagrees with the dimensions,
    /// and unsigned values beyond `i64`.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        use DataType as T;
        let raw = self.inline_raw();
        let values: Vec<i64> = match (self.dtype()?, raw) {
            (T::Int64, Some(raw)) => le(raw, i64::from_le_bytes)?,
            (T::Int64, None) => self.int64_data.clone(),
            (T::Uint64, Some(raw)) => signed(le(raw, u64::from_le_bytes)?)?,
            (T::Uint32, Some(raw)) => le(raw, |b| i64::from(u32::from_le_bytes(b)))?,
            (T::Uint64 | T::Uint32, None) => signed(self.uint64_data.clone())?,
            (T::Int32, Some(raw)) => le(raw, |b| i64::from(i32::from_le_bytes(b)))?,
            (T::Int16, Some(raw)) => le(raw, |b| i64::from(i16::from_le_bytes(b)))?,
            (T::Uint16, Some(raw)) => le(raw, |b| i64::from(u16::from_le_bytes(b)))?,
            (T::Int8, Some(raw)) => le(raw, |b| i64::from(i8::from_le_bytes(b)))?,
            (T::Uint8 | T::Bool, Some(raw)) => le(raw, |b| i64::from(u8::from_le_bytes(b)))?,
            (T::Int32 | T::Int16 | T::Uint16 | T::Int8 | T::Uint8 | T::Bool, None) => {
                self.int32_data.iter().copied().map(i64::from).collect()
            }
            _ => return None,
        };
        self.whole(values)
    }

    /// Elements of an inline float tensor of 16, 32 or 64 bits, rounded to `f32`.
    ///
    /// `None` for other types, external data and a payload that disagrees with the dimensions.
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        use DataType as T;
        let raw = self.inline_raw();
        let values: Vec<f32> = match (self.dtype()?, raw) {
            (T::Float, Some(raw)) => le(raw, f32::from_le_bytes)?,
            (T::Float, None) => self.float_data.clone(),
            (T::Double, Some(raw)) => le(raw, |b| f64::from_le_bytes(b) as f32)?,
            (T::Double, None) => self.double_data.iter().map(|v| *v as f32).collect(),
            (T::Float16, Some(raw)) => le(raw, |b| f16::from_le_bytes(b).to_f32())?,
            (T::Float16, None) => self.halves(|bits| f16::from_bits(bits).to_f32()),
            (T::Bfloat16, Some(raw)) => le(raw, |b| bf16::from_le_bytes(b).to_f32())?,
            (T::Bfloat16, None) => self.halves(|bits| bf16::from_bits(bits).to_f32()),
            _ => return None,
        };
        self.whole(values)
    }

    /// The raw payload, unless there is none or it does not count.
    fn inline_raw(&self) -> Option<&[u8]> {
        self.raw_data.as_deref()
    }

    /// 16-bit floats kept as bit patterns in `int32_data`.
    fn halves(&self, convert: impl Fn(u16) -> f32) -> Vec<f32> {
        let bits = self.int32_data.iter().map(|v| *v as u16);
        bits.map(convert).collect()
    }

    /// `values` if they are all the elements of this inline tensor.
    fn whole<T>(&self, values: Vec<T>) -> Option<Vec<T>> {
        let complete = !self.is_external() && self.elem_count()? == values.len() as u64;
        complete.then_some(values)
    }
}

/// Little-endian elements of `raw`; `None` if the last one is incomplete.
fn le<const N: usize, T>(raw: &[u8], convert: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (elems, rest) = raw.as_chunks::<N>();
    rest.is_empty()
        .then(|| elems.iter().map(|e| convert(*e)).collect())
}

fn signed(values: Vec<u64>) -> Option<Vec<i64>> {
    values.into_iter().map(|v| i64::try_from(v).ok()).collect()
}

fn raw_tensor(name: &str, dtype: DataType, dims: &[i64], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(dtype as i32),
        dims: dims.to_vec(),
        raw_data: Some(Bytes::from(raw)),
        ..TensorProto::default()
    }
}

/// An INT64 tensor; `dims` is empty for a scalar.
pub fn tensor_i64(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    raw_tensor(name, DataType::Int64, dims, raw)
}

/// An INT32 tensor; `dims` is empty for a scalar.
pub fn tensor_i32(name: &str, dims: &[i64], data: &[i32]) -> TensorProto {
    let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    raw_tensor(name, DataType::Int32, dims, raw)
}

/// A FLOAT tensor; `dims` is empty for a scalar.
pub fn tensor_f32(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    raw_tensor(name, DataType::Float, dims, raw)
}

/// A FLOAT16 tensor of the values rounded; `dims` is empty for a scalar.
pub fn tensor_f16(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let halves = data.iter().map(|v| f16::from_f32(*v));
    let raw = halves.flat_map(|v| v.to_le_bytes()).collect();
    raw_tensor(name, DataType::Float16, dims, raw)
}

/// A BOOL tensor; `dims` is empty for a scalar.
pub fn tensor_bool(name: &str, dims: &[i64], data: &[bool]) -> TensorProto {
    let raw = data.iter().map(|v| u8::from(*v)).collect();
    raw_tensor(name, DataType::Bool, dims, raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_from_raw_and_typed_data() {
        let raw = tensor_i64("a", &[2], &[-1, 7]);
        assert_eq!(raw.to_i64s(), Some(vec![-1, 7]));
        let typed = TensorProto {
            data_type: Some(DataType::Bool as i32),
            int32_data: vec![1],
            ..TensorProto::default()
        };
        assert_eq!(typed.to_i64s(), Some(vec![1]));
        assert_eq!(typed.to_f32s(), None);
        assert_eq!(
            tensor_bool("b", &[2], &[true, false]).to_i64s(),
            Some(vec![1, 0])
        );
        assert_eq!(tensor_i32("c", &[1], &[-9]).to_i64s(), Some(vec![-9]));
    }

    #[test]
    fn floats_come_back_from_every_width() {
        assert_eq!(tensor_f32("a", &[], &[1.5]).to_f32s(), Some(vec![1.5]));
        assert_eq!(
            tensor_f16("a", &[2], &[1.5, -2.0]).to_f32s(),
            Some(vec![1.5, -2.0])
        );
        let typed = TensorProto {
            data_type: Some(DataType::Float16 as i32),
            dims: vec![1],
            int32_data: vec![0x3c00],
            ..TensorProto::default()
        };
        assert_eq!(typed.to_f32s(), Some(vec![1.0]));
    }

    #[test]
    fn wrong_or_absent_payloads_give_nothing() {
        assert_eq!(tensor_i64("a", &[3], &[1, 2]).to_i64s(), None);
        let mut external = tensor_i64("a", &[0], &[]);
        external.data_location = Some(DataLocation::External as i32);
        assert_eq!(external.to_i64s(), None);
        let mut ragged = tensor_i64("a", &[1], &[1]);
        ragged.raw_data = Some(Bytes::from_static(&[0; 9]));
        assert_eq!(ragged.to_i64s(), None);
    }

    #[test]
    fn sizes_round_up_and_never_overflow() {
        assert_eq!(DataType::Int4.byte_len(3), Some(2));
        assert_eq!(DataType::Uint2.byte_len(5), Some(2));
        assert_eq!(DataType::Float6e2m3.byte_len(5), Some(4));
        assert_eq!(DataType::Complex128.byte_len(u64::MAX), None);
        let mut t = tensor_f32("t", &[i64::MAX, i64::MAX, 0], &[]);
        assert_eq!(t.elem_count(), Some(0));
        t.dims = vec![i64::MAX, i64::MAX];
        assert_eq!(t.elem_count(), None);
        t.dims = vec![-1];
        assert_eq!(t.elem_count(), None);
    }
}
