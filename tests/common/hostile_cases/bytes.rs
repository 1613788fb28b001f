//! Files whose bytes are no model, or whose tensors contradict themselves.

use hgc::unstable::onnx::proto::tensor_proto::DataType;
use hgc::unstable::onnx::{ReadError as R, TensorError as T, ValidateError as V};

use super::Case;
use super::models::{bad_constant, bad_default, bad_sparse, branch, deep_graphs, deep_types};
use super::write::{bytes, cut, inner_length, not_utf8, pipe, put, typed, unknown_field, weight};

/// Bytes that are no model at all.
pub(super) fn files() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "missing file",
            |d| d.join("no.onnx"),
            R::Open { .. },
            "cannot read"
        ),
        case!(
            "folder",
            |d| d.to_owned(),
            R::NotAFile { .. },
            "not a regular file"
        ),
        case!("empty", bytes(b""), R::Empty { .. }, "empty"),
        case!(
            "lfs pointer",
            bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
            R::LfsPointer { .. },
            "git lfs pull"
        ),
        case!(
            "text",
            bytes(b"hello, this is no model"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!(
            "json",
            bytes(b"{\"a\": [1, 2, 3]}"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!(
            "png",
            bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!(
            "zip",
            bytes(b"PK\x03\x04\x14\0\0\0\x08\0abcdef"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!("zeros", bytes(&[0; 64]), R::NotOnnx { .. }, "not an ONNX"),
        case!(
            "cut in the middle",
            |d| cut(d, 2),
            R::Truncated { .. },
            "cut short"
        ),
        case!(
            "last byte gone",
            |d| cut(d, 1),
            R::Truncated { .. },
            "cut short"
        ),
        case!(
            "nested types",
            |d| put(d, &deep_types()),
            R::TooDeep { .. },
            "nested deeper"
        ),
        case!(
            "nested graphs",
            |d| put(d, &deep_graphs()),
            R::TooDeep { .. },
            "nested deeper"
        ),
        case!(
            "text not UTF-8",
            not_utf8,
            R::Malformed { .. },
            "damaged inside"
        ),
        case!(
            "inner length too long",
            inner_length,
            R::Malformed { .. },
            "damaged inside"
        ),
        case!(
            "unknown field",
            unknown_field,
            R::UnknownField { .. },
            "of onnx.GraphProto"
        ),
    ];
    if cfg!(unix) {
        cases.push(case!(
            "pipe",
            |d| pipe(d, "m.onnx"),
            R::NotAFile { .. },
            "not a regular"
        ));
    }
    cases
}

/// Tensors that contradict themselves.
pub(super) fn payloads() -> Vec<Case> {
    vec![
        case!(
            "negative dim",
            weight(|t| t.dims = vec![-4]),
            tensor!(NegativeDim),
            "-4"
        ),
        case!(
            "dims overflow",
            weight(|t| t.dims = vec![i64::MAX, i64::MAX]),
            tensor!(TooLarge),
            "larger than any memory"
        ),
        case!(
            "bits overflow",
            weight(|t| t.dims = vec![1 << 61]),
            tensor!(TooLarge),
            "larger than any memory"
        ),
        case!(
            "raw too short",
            weight(|t| t.dims = vec![5]),
            tensor!(WrongLength),
            "needs 20 bytes but its raw_data has 16"
        ),
        case!(
            "raw too long",
            weight(|t| t.dims = vec![3]),
            tensor!(WrongLength),
            "needs 12 bytes but its raw_data has 16"
        ),
        case!(
            "no elements but data",
            weight(|t| t.dims = vec![0]),
            tensor!(WrongLength),
            "needs 0 bytes"
        ),
        case!(
            "typed too short",
            typed(DataType::Float, 4, |t| t.float_data = vec![1.0; 3]),
            tensor!(WrongLength),
            "needs 4 entries but its float_data has 3"
        ),
        case!(
            "complex counted singly",
            typed(DataType::Complex64, 4, |t| t.float_data = vec![1.0; 4]),
            tensor!(WrongLength),
            "needs 8 entries"
        ),
        case!(
            "int4 in whole bytes",
            typed(DataType::Int4, 5, |t| t.raw_data = Some(vec![0; 5].into())),
            tensor!(WrongLength),
            "needs 3 bytes"
        ),
        case!(
            "int4 entries unpacked",
            typed(DataType::Uint4, 5, |t| t.int32_data = vec![0; 5]),
            tensor!(WrongLength),
            "needs 3 entries"
        ),
        case!(
            "int2 in nibbles",
            typed(DataType::Int2, 8, |t| t.raw_data = Some(vec![0; 4].into())),
            tensor!(WrongLength),
            "needs 2 bytes"
        ),
        case!(
            "float6 in bytes",
            typed(DataType::Float6e3m2, 4, |t| t.raw_data =
                Some(vec![0; 4].into())),
            tensor!(WrongLength),
            "needs 3 bytes"
        ),
        case!(
            "strings in raw",
            typed(DataType::String, 4, |t| t.raw_data =
                Some(vec![0; 4].into())),
            tensor!(WrongField),
            "STRING"
        ),
        case!(
            "floats as integers",
            typed(DataType::Float, 4, |t| t.int64_data = vec![0; 4]),
            tensor!(WrongField),
            "int64_data"
        ),
        case!(
            "two payloads",
            weight(|t| t.float_data = vec![0.0; 4]),
            tensor!(SeveralPayloads),
            "both raw_data and float_data"
        ),
        case!(
            "no data",
            weight(|t| t.raw_data = None),
            tensor!(NoData),
            "no data"
        ),
        case!(
            "type 99",
            weight(|t| t.data_type = Some(99)),
            tensor!(UnknownType),
            "99"
        ),
        case!(
            "no type",
            weight(|t| t.data_type = None),
            tensor!(UnknownType),
            "type 0"
        ),
        case!(
            "bad constant in a branch",
            |d| put(d, &branch(&["y2"], vec![bad_constant()])),
            tensor!(WrongLength),
            "attribute \"value\" of node \"c\" (Constant)"
        ),
        case!(
            "bad sparse tensor",
            |d| put(d, &bad_sparse()),
            tensor!(WrongLength),
            "sparse"
        ),
        case!(
            "bad default in a function",
            |d| put(d, &bad_default()),
            tensor!(NoData),
            "\"f\""
        ),
    ]
}
