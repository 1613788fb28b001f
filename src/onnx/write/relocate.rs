//! External data that stay with a model when it moves to another folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::WriteError;
use super::guard::resolve;
use crate::onnx::External;
use crate::onnx::proto::{ModelProto, TensorProto};
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
}

impl DataFiles {
    /// Looks up all references of `model`, which are relative to `source_dir`. `dest` is
    /// the file the model is for.
    pub fn of(model: &ModelProto, source_dir: &Path, dest: &Path) -> Result<Self, WriteError> {
        let mut found = Self {
            files: Vec::new(),
            by_location: HashMap::new(),
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
        let known = self.files.iter().position(|f| f.source == source);
        let index = known.unwrap_or_else(|| {
            let size = meta.len();
            self.files.push(DataFile { source, size });
            self.files.len() - 1
        });
        self.by_location.insert(location, index);
        Ok(())
    }

    /// Makes every reference name the new location of its file, if it has one; `locations` is
    /// parallel to `files`.
    pub fn rename(&self, model: &mut ModelProto, locations: &[Option<String>]) {
        // The visitor never fails.
        let _ = each_tensor_mut::<()>(model, &mut |_, tensor| {
            if tensor.is_external() {
                for entry in &mut tensor.external_data {
                    let index = (entry.key() == "location")
                        .then(|| self.by_location.get(entry.value()))
                        .flatten();
                    if let Some(location) = index.and_then(|i| locations[*i].clone()) {
                        entry.value = Some(location);
                    }
                }
            }
            Ok(())
        });
    }
}
