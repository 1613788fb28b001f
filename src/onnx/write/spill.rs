//! Inline weights that move to a data file because one protobuf message cannot hold them.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::onnx::External;
use crate::onnx::digest::WEIGHT_BYTES;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{ModelProto, TensorProto};
use crate::onnx::walk::each_tensor_mut;

/// Alignment of every payload, enough for vector loads.
const ALIGN: u64 = 64;

/// Alignment of payloads of at least a page, so that engines can map them.
const PAGE: u64 = 4096;

/// Entries of a typed payload that are converted at a time.
const CHUNK: usize = 1 << 14;

/// Payloads on their way to a data file.
pub(super) struct Spill {
    /// Former holders of the payloads with their offsets.
    tensors: Vec<(u64, TensorProto)>,
    /// Bytes of the data file.
    pub size: u64,
    /// Where each payload goes, by the name of its tensor.
    pub places: HashMap<String, External>,
}

impl Spill {
    /// Moves the large inline initializers of `model` to the data file at `location`.
    pub fn take(model: &mut ModelProto, location: &str) -> Self {
        let mut spill = Self {
            tensors: Vec::new(),
            size: 0,
            places: HashMap::new(),
        };
        // The visitor never fails.
        let _ = each_tensor_mut::<()>(model, &mut |is_initializer, tensor| {
            if is_initializer && let Some(len) = movable(tensor) {
                spill.push(tensor, location, len);
            }
            Ok(())
        });
        spill
    }

    /// Makes the initializers of another model refer to the payloads that were taken of initializers
    /// with the same names.
    pub fn share(places: &HashMap<String, External>, model: &mut ModelProto) {
        // The visitor never fails.
        let _ = each_tensor_mut::<()>(model, &mut |is_initializer, tensor| {
            if is_initializer
                && movable(tensor).is_some()
                && let Some(place) = places.get(tensor.name())
            {
                place.attach(tensor);
            }
            Ok(())
        });
    }

    fn push(&mut self, tensor: &mut TensorProto, location: &str, len: u64) {
        let align = if len >= PAGE { PAGE } else { ALIGN };
        let offset = self.size.next_multiple_of(align);
        let payload = TensorProto {
            data_type: tensor.data_type,
            raw_data: tensor.raw_data.take(),
            float_data: std::mem::take(&mut tensor.float_data),
            int32_data: std::mem::take(&mut tensor.int32_data),
            int64_data: std::mem::take(&mut tensor.int64_data),
            double_data: std::mem::take(&mut tensor.double_data),
            uint64_data: std::mem::take(&mut tensor.uint64_data),
            ..TensorProto::default()
        };
        let here = External {
            location: location.to_owned(),
            offset,
            length: Some(len),
        };
        here.attach(tensor);
        self.places.insert(tensor.name().to_owned(), here);
        self.tensors.push((offset, payload));
        self.size = offset + len;
    }

    /// Writes the data file.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut at = 0;
        for (offset, tensor) in &self.tensors {
            io::copy(&mut io::Read::take(io::repeat(0), offset - at), out)?;
            at = offset + write_payload(tensor, out)?;
        }
        Ok(())
    }
}

/// The bytes of a payload that is large enough and can be converted to raw bytes.
fn movable(tensor: &TensorProto) -> Option<u64> {
    let six_bits = tensor.dtype().and_then(DataType::bits) == Some(6);
    let convertible = tensor.raw_data.is_some() || !six_bits;
    let len = tensor.byte_len().filter(|len| *len > WEIGHT_BYTES)?;
    (convertible && !tensor.is_external()).then_some(len)
}

/// Writes the elements as raw bytes and returns their number.
fn write_payload(tensor: &TensorProto, out: &mut dyn Write) -> io::Result<u64> {
    if let Some(raw) = &tensor.raw_data {
        out.write_all(raw)?;
        return Ok(raw.len() as u64);
    }
    let bits = tensor.dtype().and_then(DataType::bits).unwrap_or(8);
    // Types below a byte share one already in their typed field.
    let width = bits.div_ceil(8) as usize;
    Ok(write_all(&tensor.float_data, f32::to_le_bytes, 4, out)?
        + write_all(&tensor.double_data, f64::to_le_bytes, 8, out)?
        + write_all(&tensor.int64_data, i64::to_le_bytes, 8, out)?
        + write_all(&tensor.uint64_data, u64::to_le_bytes, width, out)?
        + write_all(&tensor.int32_data, i32::to_le_bytes, width, out)?)
}

/// Writes the low `width` bytes of each value and returns their number.
fn write_all<T: Copy, const N: usize>(
    values: &[T],
    bytes: fn(T) -> [u8; N],
    width: usize,
    out: &mut dyn Write,
) -> io::Result<u64> {
    let mut buffer = Vec::new();
    for chunk in values.chunks(CHUNK) {
        buffer.clear();
        for value in chunk {
            buffer.extend_from_slice(&bytes(*value)[..width.min(N)]);
        }
        out.write_all(&buffer)?;
    }
    Ok((values.len() * width.min(N)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(tensor: TensorProto) -> Vec<u8> {
        let mut out = Vec::new();
        let len = write_payload(&tensor, &mut out).map_err(|e| e.to_string());
        assert_eq!(len, Ok(out.len() as u64));
        out
    }

    #[test]
    fn typed_payloads_become_raw() {
        let typed = |dtype: DataType| TensorProto {
            data_type: Some(dtype as i32),
            ..TensorProto::default()
        };
        let halves = TensorProto {
            int32_data: vec![0x3c00, 0xc000],
            ..typed(DataType::Float16)
        };
        assert_eq!(payload(halves), [0x00, 0x3c, 0x00, 0xc0]);
        let signed = TensorProto {
            int32_data: vec![-1],
            ..typed(DataType::Int8)
        };
        assert_eq!(payload(signed), [0xff]);
        let nibbles = TensorProto {
            int32_data: vec![0x21, 0x03],
            ..typed(DataType::Uint4)
        };
        assert_eq!(payload(nibbles), [0x21, 0x03]);
        let words = TensorProto {
            uint64_data: vec![7],
            ..typed(DataType::Uint32)
        };
        assert_eq!(payload(words), [7, 0, 0, 0]);
    }
}
