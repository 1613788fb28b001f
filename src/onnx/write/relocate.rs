//! External data that stay with a model when it moves to another folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::WriteError;
use super::guard::resolve;
use crate::onnx::External;
use crate::onnx::proto::{ModelProto, StringStringEntryProto, TensorProto};
use crate::onnx::walk::{each_tensor, each_tensor_mut};

/// A data file that a model refers to.
#[derive(Debug)]
pub(super) struct DataFile {
    /// Where it is, without links.
    pub source: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// The data files of `model`, each once, by the locations that mean it.
pub(super) struct DataFiles {
    pub files: Vec<DataFile>,
    by_location: HashMap<String, usize>,
    by_source: HashMap<PathBuf, usize>,
}

impl DataFiles {
    /// Looks up all references of `model`, which are relative to `source_dir`. `dest` is
    /// the file the model is for.
    pub fn of(model: &ModelProto, source_dir: &Path, dest: &Path) -> Result<Self, WriteError> {
        let mut found = Self {
            files: Vec::new(),
            by_location: HashMap::new(),
            by_source: HashMap::new(),
        };
        each_tensor(model, &mut |_, tensor| found.add(tensor, source_dir, dest))?;
        Ok(found)
    }

    fn add(&mut self, tensor: &TensorProto, dir: &Path, dest: &Path) -> Result<(), WriteError> {
        if !tensor.is_external() {
            return Ok(());
        }
        let Some(External { location, .. }) = tensor.external() else {
            return Err(WriteError::BadReference {
                file: dest.to_owned(),
                tensor: tensor.name().to_owned(),
            });
        };
        if self.by_location.contains_key(&location) {
            return Ok(());
        }
        let source = resolve(&dir.join(&location));
        let meta = source.metadata().map_err(|e| WriteError::Source {
            file: source.clone(),
            dest: dest.to_owned(),
            source: e,
        })?;
        let index = *self.by_source.entry(source.clone()).or_insert_with(|| {
            let size = meta.len();
            self.files.push(DataFile { source, size });
            self.files.len() - 1
        });
        self.by_location.insert(location, index);
        Ok(())
    }

    /// Makes every reference name the new place of its file, if it has one; `places` is parallel
    /// to `files`.
    pub fn rename(&self, model: &mut ModelProto, places: &[Option<Place>]) {
        // The visitor never fails.
        let _ = each_tensor_mut::<()>(model, &mut |_, tensor| {
            let external = tensor.external().filter(|_| tensor.is_external());
            let index = external.and_then(|e| self.by_location.get(&e.location));
            if let Some(place) = index.and_then(|i| places[*i].as_ref()) {
                place.apply(tensor);
            }
            Ok(())
        });
    }
}

/// Where a data file is copied to.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The new file's name.
    pub location: String,
    /// Where the data begin in it, if others are in it too.
    pub offset: Option<u64>,
}

impl Place {
    /// Lets a reference to the old file mean the new one. Its other entries stay.
    fn apply(&self, tensor: &mut TensorProto) {
        let length = tensor.byte_len();
        let entries = &mut tensor.external_data;
        set(entries, "location", |_| Some(self.location.clone()));
        let Some(shift) = self.offset else {
            return;
        };
        set(entries, "offset", |old| {
            let old: u64 = old.and_then(|o| o.parse().ok()).unwrap_or_default();
            Some(old.saturating_add(shift).to_string())
        });
        // Without a length the data would go on to the end of the file.
        set(entries, "length", |old| {
            old.map(str::to_owned).or_else(|| Some(length?.to_string()))
        });
        // It is of the old file.
        entries.retain(|e| e.key() != "checksum");
    }
}

/// Sets an entry from its old value; one that was missing is added where there is a value.
fn set(
    entries: &mut Vec<StringStringEntryProto>,
    key: &str,
    value: impl FnOnce(Option<&str>) -> Option<String>,
) {
    match entries.iter_mut().find(|e| e.key() == key) {
        Some(entry) => entry.value = value(entry.value.as_deref()),
        None => {
            if let Some(value) = value(None) {
                entries.push(StringStringEntryProto {
                    key: Some(key.to_owned()),
                    value: Some(value),
                });
            }
        }
    }
}
