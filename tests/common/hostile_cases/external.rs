//! External data that are not there or must not be touched.

use hgc::unstable::onnx::proto::tensor_proto::DataType;
use hgc::unstable::onnx::{
    ExternalError as E, ReadError as R, TensorError as T, ValidateError as V,
};

use super::Case;
use super::models::refer;
use super::write::{at, linked, outside, pipe, weight};

/// External data that are not there or must not be touched.
pub(super) fn references() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "no location",
            outside(&[("offset", "0")]),
            external!(NoLocation),
            "no location"
        ),
        case!(
            "empty location",
            at(""),
            external!(NoLocation),
            "no location"
        ),
        case!(
            "two locations",
            outside(&[("location", "w.bin"), ("location", "other.bin")]),
            external!(Twice),
            "location is given twice"
        ),
        case!(
            "two offsets",
            outside(&[("location", "w.bin"), ("offset", "0"), ("offset", "16")]),
            external!(Twice),
            "offset is given twice"
        ),
        case!(
            "offset in words",
            outside(&[("location", "w.bin"), ("offset", "zero")]),
            external!(BadNumber),
            "offset \"zero\""
        ),
        case!(
            "offset negative",
            outside(&[("location", "w.bin"), ("offset", "-16")]),
            external!(BadNumber),
            "offset \"-16\""
        ),
        case!(
            "length in hex",
            outside(&[("location", "w.bin"), ("length", "0x10")]),
            external!(BadNumber),
            "length \"0x10\""
        ),
        case!(
            "absolute",
            at("/etc/passwd"),
            external!(Absolute),
            "absolute"
        ),
        case!(
            "absolute, drive",
            at("C:\\w.bin"),
            external!(Absolute),
            "absolute"
        ),
        case!(
            "absolute, share",
            at("\\\\host\\w.bin"),
            external!(Absolute),
            "absolute"
        ),
        case!("climbs", at("../w.bin"), external!(Escapes), "leads out"),
        case!(
            "climbs inside",
            at("sub/../../w.bin"),
            external!(Escapes),
            "leads out"
        ),
        case!(
            "climbs backwards",
            at("sub\\..\\..\\w.bin"),
            external!(Escapes),
            "leads out"
        ),
        case!("NUL", at("w.bin\0.txt"), external!(Nul), "NUL"),
        case!(
            "data missing",
            at("gone.bin"),
            external!(Missing),
            "gone.bin does not exist"
        ),
        case!(
            "data in a file",
            at("w.bin/x"),
            external!(Missing),
            "does not exist"
        ),
        case!(
            "data is a folder",
            at("sub"),
            external!(NotAFile),
            "not a regular file"
        ),
        case!(
            "data is the folder",
            at("."),
            external!(NotAFile),
            "not a regular file"
        ),
        case!(
            "past the end",
            outside(&[("location", "w.bin"), ("offset", "64")]),
            external!(PastEnd),
            "has 64 bytes, but the tensor needs 16 from 64 on"
        ),
        case!(
            "offset overflow",
            outside(&[("location", "w.bin"), ("offset", "18446744073709551615")]),
            external!(PastEnd),
            "cut short"
        ),
        case!(
            "length other than dims",
            outside(&[("location", "w.bin"), ("length", "8")]),
            external!(WrongLength),
            "needs 16 bytes but its external length is 8"
        ),
        case!(
            "strings outside",
            weight(|t| {
                t.data_type = Some(DataType::String as i32);
                refer(t, &[("location", "w.bin")]);
            }),
            tensor!(WrongField),
            "external_data"
        ),
        case!(
            "inside and outside",
            weight(|t| {
                let raw = t.raw_data.clone();
                refer(t, &[("location", "w.bin")]);
                t.raw_data = raw;
            }),
            tensor!(SeveralPayloads),
            "both raw_data and external_data"
        ),
    ];
    if cfg!(unix) {
        cases.extend(links());
    }
    cases
}

pub(super) fn links() -> Vec<Case> {
    vec![
        case!(
            "link out",
            |d| linked(d, "/etc/passwd"),
            external!(LinkLeaves),
            "is a link"
        ),
        case!(
            "link to device",
            |d| linked(d, "/dev/zero"),
            external!(LinkLeaves),
            "/dev/zero"
        ),
        case!(
            "link to nothing",
            |d| linked(d, "gone"),
            external!(Missing),
            "does not exist"
        ),
        case!(
            "data is a pipe",
            |d| {
                pipe(d, "p");
                at("p")(d)
            },
            external!(NotAFile),
            "not a regular file"
        ),
    ]
}
