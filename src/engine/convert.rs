//! Host tensors to and from the values of the engine.

use std::fmt::Debug;

use half::{bf16, f16};
use ort::value::{
    DynTensor, DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType,
    ValueType,
};

use super::tensor::{DType, Tensor};

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
        T => owned(shape, tensor.elements(T::from_ne_bytes)),
        bool => owned(shape, tensor.elements(|[byte]: [u8; 1]| byte != 0))
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

/// Copies a value of the engine, which must lie in host memory, into a host tensor.
pub(super) fn from_value(value: &DynValue) -> ort::Result<Tensor> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(ort::Error::new(format!(
            "expected a tensor, got {}",
            value.dtype()
        )));
    };
    let dtype = dtype(*ty)
        .ok_or_else(|| ort::Error::new(format!("tensors of type {ty} are not supported")))?;
    let shape: Vec<usize> = shape
        .iter()
        .map(|&d| usize::try_from(d).unwrap_or(0))
        .collect();
    let data: Vec<u8> = for_number!(dtype,
        T => {
            let (_, values) = value.try_extract_tensor::<T>()?;
            values.iter().flat_map(|v| v.to_ne_bytes()).collect()
        },
        bool => {
            let (_, values) = value.try_extract_tensor::<bool>()?;
            values.iter().map(|&v| u8::from(v)).collect()
        }
    );
    Tensor::from_bytes(dtype, &shape, data).map_err(|e| ort::Error::new(e.to_string()))
}
