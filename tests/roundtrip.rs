//! Decoding and encoding a model loses nothing, not even a field this crate has no name for.
//!
//! Bytes are compared by a walker of the wire format that knows no schema, so that it cannot
//! share a mistake with the generated types.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hgc::unstable::onnx::proto::ModelProto;
use hgc::unstable::onnx::{encode_model, validate_graphs, validate_tensors};
use prost::Message;

#[test]
fn fixtures_survive() -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    find(&fixtures(), &mut files)?;
    assert!(!files.is_empty(), "no fixtures in {:?}", fixtures());
    for file in files {
        let bytes = zstd::decode_all(fs::File::open(&file)?)?;
        let model = survives(&bytes).map_err(|e| format!("{file:?}: {e}"))?;
        // Weights are made when a test needs them, so only what is inside can be checked.
        validate_graphs(&model, &file)?;
        validate_tensors(&model, &file)?;
    }
    Ok(())
}

#[test]
fn a_file_with_every_field_survives() -> Result<(), Box<dyn Error>> {
    survives(&fs::read(fixtures().join("all_fields.onnx"))?)?;
    Ok(())
}

#[test]
fn the_walker_sees_a_lost_field() {
    // graph { node { field 99: 1 } name: "g" }
    let inner = [0x0a, 3, 0x98, 0x06, 1, 0x12, 1, b'g'];
    let mut original = vec![0x08, 8, 0x3a, inner.len() as u8];
    original.extend(inner);
    assert!(survives(&original).is_err_and(|e| e.contains("7.1.99")));
}

#[test]
fn the_walker_takes_packed_and_unpacked_numbers_for_the_same() {
    assert_eq!(compare(&[0x08, 1, 0x08, 2], &[0x0a, 2, 1, 2], ""), Ok(()));
    assert!(compare(&[0x08, 1, 0x08, 2], &[0x0a, 2, 1, 3], "").is_err());
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn find(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.file_name().is_some_and(|n| n == "model.onnx.zst") {
            found.push(path);
        }
    }
    Ok(())
}

/// Decodes, encodes, decodes again, and compares models and bytes.
fn survives(original: &[u8]) -> Result<ModelProto, String> {
    let text = |e: prost::DecodeError| e.to_string();
    let model = ModelProto::decode(Bytes::copy_from_slice(original)).map_err(text)?;
    let mut encoded = Vec::new();
    encode_model(&model, &mut encoded).map_err(|e| e.to_string())?;
    let again = ModelProto::decode(&*encoded).map_err(text)?;
    if again != model {
        return Err("the models differ".into());
    }
    compare(original, &encoded, "")?;
    Ok(model)
}

/// One field: its number on the wire in a form that can be compared.
#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Number(u64),
    Fixed(&'a [u8]),
    Delimited(&'a [u8]),
}

/// The fields of a message by number, in order; `None` if it is no message.
fn fields(mut bytes: &[u8]) -> Option<BTreeMap<u64, Vec<Value<'_>>>> {
    let mut fields: BTreeMap<u64, Vec<Value<'_>>> = BTreeMap::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => Value::Fixed(bytes.split_off(..8)?),
            5 => Value::Fixed(bytes.split_off(..4)?),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Delimited(bytes.split_off(..len)?)
            }
            _ => return None,
        };
        fields.entry(key >> 3).or_default().push(value);
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Checks that both messages have the same fields; says where they differ.
fn compare(original: &[u8], encoded: &[u8], path: &str) -> Result<(), String> {
    if original == encoded {
        return Ok(());
    }
    let (Some(mut a), Some(mut b)) = (fields(original), fields(encoded)) else {
        return Err(format!("{path}: payloads differ"));
    };
    let numbers: Vec<u64> = a.keys().chain(b.keys()).copied().collect();
    for number in numbers {
        let path = format!("{path}.{number}");
        let path = path.trim_start_matches('.');
        let (a, b) = (a.entry(number).or_default(), b.entry(number).or_default());
        unpack(a, b);
        unpack(b, a);
        if a.len() != b.len() {
            return Err(format!("{path}: {} became {}", a.len(), b.len()));
        }
        for (a, b) in a.iter().zip(b.iter()) {
            match (a, b) {
                (Value::Delimited(a), Value::Delimited(b)) => compare(a, b, path)?,
                (a, b) if a == b => {}
                (a, b) => return Err(format!("{path}: {a:?} became {b:?}")),
            }
        }
    }
    Ok(())
}

/// Splits packed numbers in `values` if `other` has them one by one.
fn unpack<'a>(values: &mut Vec<Value<'a>>, other: &[Value<'a>]) {
    let single = other.iter().find(|v| !matches!(v, Value::Delimited(_)));
    let Some(single) = single.cloned() else {
        return;
    };
    let mut unpacked = Vec::new();
    for value in values.drain(..) {
        let Value::Delimited(mut bytes) = value else {
            unpacked.push(value);
            continue;
        };
        match single {
            Value::Fixed(like) => unpacked.extend(bytes.chunks(like.len()).map(Value::Fixed)),
            _ => {
                while let Some(number) = varint(&mut bytes) {
                    unpacked.push(Value::Number(number));
                }
            }
        }
    }
    *values = unpacked;
}
