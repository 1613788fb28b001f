//! Host tensors to and from the values of the engine.

use std::fmt::Debug;

use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use ort::value::{
    DynTensor, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType,
    TensorValueTypeMarker, Value, ValueType,
};

use crate::engine::tensor::{DType, Tensor};

/// Runs `$body` with the Rust type of the elements bound to `$t`, except for bool.
macro_rules! for_number {
    ($dtype:expr, $t:ident => $body:expr, bool => $bool:expr) => {
        match $dtype {
            DType::F32 => for_number!(@ f32, $t, $body),
            DType::F16 => for_number!(@ f16, $t, $body),
            DType::BF16 => for_number!(@ bf16, $t, $body),
            DType::F64 => for_number!(@ f64, $t, $body),
            DType::I64 => for_number!(@ i64, $t, $body),
            DType::I32 => for_number!(@ i32, $t, $body),
            DType::I16 => for_number!(@ i16, $t, $body),
            DType::I8 => for_number!(@ i8, $t, $body),
            DType::U64 => for_number!(@ u64, $t, $body),
            DType::U32 => for_number!(@ u32, $t, $body),
            DType::U16 => for_number!(@ u16, $t, $body),
            DType::U8 => for_number!(@ u8, $t, $body),
            DType::Bool => $bool,
        }
    };
    (@ $type:ty, $t:ident, $body:expr) => {{
        type $t = $type;
        $body
    }};
}

/// Elements as bytes in native order, copied in one piece.
trait Element: Sized {
    fn from_bytes(bytes: &[u8]) -> Vec<Self>;
    fn to_bytes(elements: &[Self]) -> Vec<u8>;
}

macro_rules! elements {
    (@pod $($type:ty),*) => {$(
        impl Element for $type {
            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                bytemuck::pod_collect_to_vec(bytes)
            }

            fn to_bytes(elements: &[Self]) -> Vec<u8> {
                bytemuck::cast_slice(elements).to_vec()
            }
        }
    )*};
    (@half $($type:ty),*) => {$(
        impl Element for $type {
            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                u16::from_bytes(bytes).reinterpret_into()
            }

            fn to_bytes(elements: &[Self]) -> Vec<u8> {
                u16::to_bytes(elements.reinterpret_cast())
            }
        }
    )*};
}

elements!(@pod f32, f64, i64, i32, i16, i8, u64, u32, u16, u8);
elements!(@half f16, bf16);

/// The engine's name of an element type, as a [`DType`] where a tensor can hold it.
pub(super) fn dtype(element: TensorElementType) -> Option<DType> {
    Some(match element {
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Bfloat16 => DType::BF16,
        TensorElementType::Float64 => DType::F64,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Int16 => DType::I16,
        TensorElementType::Int8 => DType::I8,
        TensorElementType::Uint64 => DType::U64,
        TensorElementType::Uint32 => DType::U32,
        TensorElementType::Uint16 => DType::U16,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Bool => DType::Bool,
        _ => return None,
    })
}

/// Copies a host tensor into a value of the engine, in host memory.
pub(super) fn to_value(tensor: &Tensor) -> ort::Result<DynTensor> {
    let shape = tensor.shape().to_vec();
    for_number!(tensor.dtype(),
        T => owned(shape, T::from_bytes(tensor.bytes())),
        bool => owned(shape, tensor.bytes().iter().map(|&byte| byte != 0).collect())
    )
}

fn owned<T>(shape: Vec<usize>, data: Vec<T>) -> ort::Result<DynTensor>
where
    T: PrimitiveTensorElementType + Clone + Debug + 'static,
{
    OrtTensor::from_array((shape, data)).map(OrtTensor::upcast)
}

/// A value of zeros in host memory.
pub(super) fn zeros(dtype: DType, shape: &[usize]) -> ort::Result<DynTensor> {
    let shape = shape.to_vec();
    let len = shape.iter().product();
    for_number!(dtype,
        T => owned(shape, vec![T::from_ne_bytes([0; size_of::<T>()]); len]),
        bool => owned(shape, vec![false; len])
    )
}

/// Element type and shape of a value of the engine.
pub(super) fn described<V: TensorValueTypeMarker + ?Sized>(
    value: &Value<V>,
) -> ort::Result<(DType, Vec<usize>)> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(ort::Error::new(format!(
            "expected a tensor, got {}",
            value.dtype()
        )));
    };
    let dtype = dtype(*ty)
        .ok_or_else(|| ort::Error::new(format!("tensors of type {ty} are not supported")))?;
    let size = |&d: &i64| usize::try_from(d).unwrap_or(0);
    Ok((dtype, shape.iter().map(size).collect()))
}

/// Copies a value of the engine, which must lie in host memory, into a host tensor.
pub(super) fn from_value<V: TensorValueTypeMarker + ?Sized>(
    value: &Value<V>,
) -> ort::Result<Tensor> {
    let (dtype, shape) = described(value)?;
    let data: Vec<u8> = for_number!(dtype,
        T => T::to_bytes(value.try_extract_tensor::<T>()?.1),
        bool => value.try_extract_tensor::<bool>()?.1.iter().map(|&v| u8::from(v)).collect()
    );
    Tensor::from_bytes(dtype, &shape, data).map_err(|e| ort::Error::new(e.to_string()))
}
