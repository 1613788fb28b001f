//! References to data outside of the model file.

use std::path::{Path, PathBuf};

use super::proto::tensor_proto::DataLocation;
use super::proto::{StringStringEntryProto, TensorProto};

/// The folder that the external data of the model at `file` are relative to.
pub fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(dir) if dir != Path::new("") => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Where the elements of an external tensor are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Path of the data file, relative to the folder of the model.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes, where the file says it.
    pub length: Option<u64>,
}

/// A reference that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadExternal {
    NoLocation,
    BadNumber { key: String, value: String },
    Twice { key: String },
}

impl External {
    /// The reference of `tensor`. A key that stands twice is refused: readers differ in which one
    /// they take.
    pub(super) fn parse(tensor: &TensorProto) -> Result<Self, BadExternal> {
        let (mut location, mut offset, mut length) = ("", 0, None);
        for (index, entry) in tensor.external_data.iter().enumerate() {
            let before = &tensor.external_data[..index];
            let known = ["location", "offset", "length"].contains(&entry.key());
            if known && before.iter().any(|e| e.key() == entry.key()) {
                return Err(BadExternal::Twice {
                    key: entry.key().to_owned(),
                });
            }
            match entry.key() {
                "location" => location = entry.value(),
                "offset" => offset = number(entry)?,
                "length" => length = Some(number(entry)?),
                _ => {}
            }
        }
        if location.is_empty() {
            return Err(BadExternal::NoLocation);
        }
        Ok(Self {
            location: location.to_owned(),
            offset,
            length,
        })
    }

    /// Makes `tensor` refer here instead of to its former data, which it drops.
    pub(super) fn attach(&self, tensor: &mut TensorProto) {
        tensor.raw_data = None;
        tensor.float_data = Vec::new();
        tensor.int32_data = Vec::new();
        tensor.int64_data = Vec::new();
        tensor.double_data = Vec::new();
        tensor.uint64_data = Vec::new();
        tensor.data_location = Some(DataLocation::External as i32);
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        tensor.external_data = vec![
            entry("location", self.location.clone()),
            entry("offset", self.offset.to_string()),
        ];
        let length = self.length.map(|l| entry("length", l.to_string()));
        tensor.external_data.extend(length);
    }
}

fn number(entry: &StringStringEntryProto) -> Result<u64, BadExternal> {
    let digits = entry.value().bytes().all(|b| b.is_ascii_digit());
    let value = entry.value().parse().ok().filter(|_| digits);
    value.ok_or_else(|| BadExternal::BadNumber {
        key: entry.key().to_owned(),
        value: entry.value().to_owned(),
    })
}

impl TensorProto {
    /// Where the elements are, if outside of the file and told in a way one can read.
    pub fn external(&self) -> Option<External> {
        self.is_external()
            .then(|| External::parse(self).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_its_encoding() {
        let here = External {
            location: "a.bin".into(),
            offset: 4096,
            length: Some(12),
        };
        let mut tensor = TensorProto::default();
        assert_eq!(tensor.external(), None);
        here.attach(&mut tensor);
        assert_eq!(tensor.external(), Some(here));
    }

    #[test]
    fn signs_and_spaces_are_no_numbers() {
        for bad in ["-1", "+1", " 1", "1.0", "0x10", "", "18446744073709551616"] {
            let entry = |key: &str, value: &str| StringStringEntryProto {
                key: Some(key.into()),
                value: Some(value.into()),
            };
            let tensor = TensorProto {
                external_data: vec![entry("location", "a"), entry("offset", bad)],
                ..TensorProto::default()
            };
            assert!(External::parse(&tensor).is_err(), "{bad:?}");
        }
    }
}
