//! Tensors: known type, sane dimensions, a payload of exactly the size that these ask for.

use std::path::{Path, PathBuf};

use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{ModelProto, TensorProto};
use crate::onnx::walk::{Place, each_tensor};

/// A tensor that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The element type is absent or none of ONNX.
    #[error(
        "{file}: tensor {tensor} has element type {code}, which is none of ONNX; \
         export the model again"
    )]
    UnknownType {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type's number.
        code: i32,
    },
    /// A dimension is below zero.
    #[error(
        "{file}: tensor {tensor} has the negative dimension {dim}; constants need real sizes, \
         export the model again"
    )]
    NegativeDim {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dimension.
        dim: i64,
    },
    /// The size does not fit 64 bits.
    #[error(
        "{file}: tensor {tensor} with dimensions {dims:?} is larger than any memory; \
         the file is damaged"
    )]
    TooLarge {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dimensions.
        dims: Vec<i64>,
    },
    /// The payload has another size than type and dimensions ask for.
    #[error(
        "{file}: tensor {tensor} with dimensions {dims:?} needs {expected} {unit} but its \
         {field} has {found}; the file is damaged, export or download it again"
    )]
    WrongLength {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dimensions.
        dims: Vec<i64>,
        /// Field of the payload.
        field: &'static str,
        /// What the numbers count.
        unit: &'static str,
        /// Number needed.
        expected: u64,
        /// Number there.
        found: u64,
    },
    /// There are elements but no payload.
    #[error(
        "{file}: tensor {tensor} with dimensions {dims:?} has no data; \
         the weights were stripped, export the model again"
    )]
    NoData {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dimensions.
        dims: Vec<i64>,
    },
    /// More than one payload, so the value is ambiguous.
    #[error(
        "{file}: tensor {tensor} has data in both {first} and {second}; \
         keep one, or export the model again"
    )]
    SeveralPayloads {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// A field with data.
        first: &'static str,
        /// Another one.
        second: &'static str,
    },
    /// The payload is in a field that the type does not use.
    #[error(
        "{file}: tensor {tensor} of type {dtype} has its data in {field}, which is for other \
         types; export the model again"
    )]
    WrongField {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element type.
        dtype: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// Checks types, dimensions and inline payloads of all tensors.
///
/// # Errors
/// The first tensor found wrong.
pub fn validate_tensors(model: &ModelProto, file: &Path) -> Result<(), TensorError> {
    each_tensor(model, &mut |place, tensor| {
        Check {
            file,
            place,
            tensor,
        }
        .run()
    })
}

/// The payload fields of `tensor` that have something in them, with their lengths.
fn payloads(tensor: &TensorProto) -> impl Iterator<Item = (&'static str, usize)> {
    let all = [
        ("raw_data", tensor.raw_data.as_ref().map_or(0, |d| d.len())),
        ("float_data", tensor.float_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("string_data", tensor.string_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("double_data", tensor.double_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
    ];
    all.into_iter().filter(|(_, len)| *len > 0)
}

/// The typed field for `dtype` and how many entries `elems` elements take in it.
fn typed_field(dtype: DataType, elems: u64) -> (&'static str, Option<u64>) {
    use DataType as T;
    match dtype {
        T::Float => ("float_data", Some(elems)),
        T::Complex64 => ("float_data", elems.checked_mul(2)),
        T::Double => ("double_data", Some(elems)),
        T::Complex128 => ("double_data", elems.checked_mul(2)),
        T::Int64 => ("int64_data", Some(elems)),
        T::Uint32 | T::Uint64 => ("uint64_data", Some(elems)),
        T::String => ("string_data", Some(elems)),
        T::Int4 | T::Uint4 | T::Float4e2m1 => ("int32_data", Some(elems.div_ceil(2))),
        T::Int2 | T::Uint2 => ("int32_data", Some(elems.div_ceil(4))),
        _ => ("int32_data", Some(elems)),
    }
}

struct Check<'a> {
    file: &'a Path,
    place: Place<'a>,
    tensor: &'a TensorProto,
}

impl Check<'_> {
    fn run(&self) -> Result<(), TensorError> {
        let dtype = self.dtype()?;
        let elems = self.elems()?;
        let mut payloads = payloads(self.tensor);
        let first = payloads.next();
        if let (Some((first, _)), Some((second, _))) = (first, payloads.next()) {
            return Err(self.several(first, second));
        }
        match first {
            Some((field, _)) if self.tensor.is_external() => {
                Err(self.several(field, "external_data"))
            }
            Some((field, found)) => self.payload(dtype, elems, field, found as u64),
            None if dtype == DataType::String && self.tensor.is_external() => {
                Err(self.wrong_field(dtype, "external_data"))
            }
            None if elems == 0 || self.tensor.is_external() => Ok(()),
            None => Err(TensorError::NoData {
                file: self.file.to_owned(),
                tensor: self.label(),
                dims: self.tensor.dims.clone(),
            }),
        }
    }

    fn dtype(&self) -> Result<DataType, TensorError> {
        self.tensor.dtype().ok_or_else(|| TensorError::UnknownType {
            file: self.file.to_owned(),
            tensor: self.label(),
            code: self.tensor.data_type(),
        })
    }

    /// The number of elements, whose bytes can be counted too.
    fn elems(&self) -> Result<u64, TensorError> {
        if let Some(dim) = self.tensor.dims.iter().find(|d| **d < 0) {
            return Err(TensorError::NegativeDim {
                file: self.file.to_owned(),
                tensor: self.label(),
                dim: *dim,
            });
        }
        let bits = self.tensor.dtype().and_then(DataType::bits).unwrap_or(8);
        let elems = self.tensor.elem_count();
        let addressable = elems.filter(|e| e.checked_mul(u64::from(bits)).is_some());
        addressable.ok_or_else(|| self.too_large())
    }

    fn payload(
        &self,
        dtype: DataType,
        elems: u64,
        field: &'static str,
        found: u64,
    ) -> Result<(), TensorError> {
        let (unit, expected) = if field == "raw_data" {
            let len = dtype.byte_len(elems);
            ("bytes", len.ok_or_else(|| self.wrong_field(dtype, field))?)
        } else {
            let (home, len) = typed_field(dtype, elems);
            if field != home {
                return Err(self.wrong_field(dtype, field));
            }
            ("entries", len.ok_or_else(|| self.too_large())?)
        };
        if found == expected {
            return Ok(());
        }
        Err(TensorError::WrongLength {
            file: self.file.to_owned(),
            tensor: self.label(),
            dims: self.tensor.dims.clone(),
            field,
            unit,
            expected,
            found,
        })
    }

    fn label(&self) -> String {
        self.place.label(self.tensor)
    }

    fn several(&self, first: &'static str, second: &'static str) -> TensorError {
        TensorError::SeveralPayloads {
            file: self.file.to_owned(),
            tensor: self.label(),
            first,
            second,
        }
    }

    fn wrong_field(&self, dtype: DataType, field: &'static str) -> TensorError {
        TensorError::WrongField {
            file: self.file.to_owned(),
            tensor: self.label(),
            dtype: dtype.as_str_name(),
            field,
        }
    }

    fn too_large(&self) -> TensorError {
        TensorError::TooLarge {
            file: self.file.to_owned(),
            tensor: self.label(),
            dims: self.tensor.dims.clone(),
        }
    }
}
