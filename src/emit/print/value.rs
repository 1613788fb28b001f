//! Types, shapes, tensors and attributes as text.

use sha2::{Digest, Sha256};

use crate::analysis::dims::Dim;
use crate::onnx::hexadecimal;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::tensor_shape_proto::dimension::Value;
use crate::onnx::proto::{AttributeProto, TensorProto, ValueInfoProto, type_proto};

/// Elements up to which integers are written out: axes, sizes, small tables.
const FEW: usize = 32;
/// Elements up to which floats are: scales and thresholds, no biases.
const FEW_FLOATS: usize = 4;

/// A name as it may reach a terminal: control characters are escaped.
pub fn escaped(name: &str) -> String {
    if name.is_empty() {
        return "-".to_owned();
    }
    let plain = |c: char| !c.is_control() && c != '\u{feff}';
    if name.chars().all(plain) {
        return name.to_owned();
    }
    name.chars()
        .map(|c| match plain(c) {
            true => c.to_string(),
            false => c.escape_default().to_string(),
        })
        .collect()
}

/// Name of an element type, in lower case.
fn type_name(elem_type: i32) -> String {
    DataType::try_from(elem_type).map_or_else(
        |_| format!("type{elem_type}"),
        |t| t.as_str_name().to_lowercase(),
    )
}

/// `float[2B, 320, 8, 8]`; `B` is the batch.
pub fn shape(elem_type: i32, dims: &[Dim]) -> String {
    let dims: Vec<_> = dims.iter().map(ToString::to_string).collect();
    format!("{}[{}]", type_name(elem_type), dims.join(", "))
}

/// The declared type of an input or output.
pub fn declared(info: &ValueInfoProto) -> String {
    let value = info.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return "?".to_owned();
    };
    let name = type_name(tensor.elem_type());
    let Some(shape) = &tensor.shape else {
        return format!("{name}[...]");
    };
    let dim = |value: &Option<Value>| match value {
        Some(Value::DimValue(n)) => n.to_string(),
        Some(Value::DimParam(name)) => escaped(name),
        None => "?".to_owned(),
    };
    let dims: Vec<_> = shape.dim.iter().map(|d| dim(&d.value)).collect();
    format!("{name}[{}]", dims.join(", "))
}

/// A table of booleans as a schedule: `R` where true, `.` where false.
pub fn rows(tensor: &TensorProto) -> Option<String> {
    let is_table = tensor.dtype() == Some(DataType::Bool) && tensor.dims.len() == 1;
    let values = tensor.to_i64s().filter(|_| is_table)?;
    Some(
        values
            .iter()
            .map(|v| if *v == 0 { '.' } else { 'R' })
            .collect(),
    )
}

/// Type, shape, and the numbers where they are few, else the bytes.
pub fn initializer(tensor: &TensorProto) -> String {
    let dims: Vec<_> = tensor.dims.iter().map(ToString::to_string).collect();
    let kind = type_name(tensor.data_type.unwrap_or_default());
    let kind = format!("{kind}[{}]", dims.join(", "));
    if let Some(rows) = rows(tensor) {
        return format!("{kind} {rows}");
    }
    if let Some(numbers) = numbers(tensor) {
        return format!("{kind} {numbers}");
    }
    match tensor.byte_len() {
        Some(bytes) => format!("{kind} {bytes} bytes"),
        None => kind,
    }
}

fn numbers(tensor: &TensorProto) -> Option<String> {
    let count = usize::try_from(tensor.elem_count()?).ok()?;
    let few = |most: usize| !tensor.is_external() && count <= most;
    let texts: Vec<String> = if few(FEW)
        && let Some(values) = tensor.to_i64s()
    {
        values.iter().map(ToString::to_string).collect()
    } else if few(FEW_FLOATS) {
        tensor.to_f32s()?.iter().map(ToString::to_string).collect()
    } else {
        return None;
    };
    Some(texts.join(" "))
}

/// `name=value`.
pub fn attribute(attr: &AttributeProto) -> String {
    let name = escaped(attr.name());
    if let Some(reference) = &attr.ref_attr_name {
        return format!("{name}=@{}", escaped(reference));
    }
    if let Some(tensor) = &attr.t {
        return format!("{name}={}", initializer(tensor));
    }
    if let Some(text) = &attr.s {
        return format!("{name}={}", string(text));
    }
    if let Some(number) = attr.i {
        return format!("{name}={number}");
    }
    if let Some(number) = attr.f {
        return format!("{name}={number}");
    }
    let lists = [
        attr.ints
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        attr.floats.iter().map(ToString::to_string).collect(),
        attr.strings.iter().map(|s| string(s)).collect(),
        attr.tensors.iter().map(initializer).collect(),
    ];
    format!("{name}=[{}]", lists.concat().join(", "))
}

/// A string if it is short text, else its size and digest.
fn string(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 64 => format!("{text:?}"),
        _ => format!(
            "{} bytes {}",
            bytes.len(),
            &hexadecimal(Sha256::new_with_prefix(bytes))[..16]
        ),
    }
}
