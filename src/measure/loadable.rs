//! A graph in memory as an engine can load it.

use std::path::Path;

use tempfile::TempDir;

use super::MeasureError;
use crate::engine::{Engine, ModelSource};
use crate::onnx::proto::ModelProto;
use crate::onnx::{Transaction, folder_of};

/// A source of `model`, whose data lie beside `path`: in memory, or a copy on disk in `scratch` for
/// an engine that takes none so.
pub fn loadable(
    engine: &Engine,
    model: ModelProto,
    path: &Path,
    scratch: &mut Option<TempDir>,
) -> Result<ModelSource, MeasureError> {
    if engine.abilities().reads_data_beside_memory {
        let source = ModelSource::in_memory(&model, path);
        return source.map_err(|source| MeasureError::File {
            what: "a part of the model could not be encoded".to_owned(),
            source,
        });
    }
    let made = match scratch.take() {
        Some(folder) => Ok(folder),
        None => tempfile::tempdir(),
    };
    let folder = scratch.insert(made.map_err(|source| MeasureError::File {
        what: "no temporary folder could be made".to_owned(),
        source,
    })?);
    let taken = folder.path().read_dir().into_iter().flatten().count();
    let file = folder.path().join(format!("part{taken}.onnx"));
    let mut transaction = Transaction::new(false);
    transaction.add_model(model, &folder_of(path), &file, &mut |_, _| {})?;
    transaction.commit()?;
    Ok(ModelSource::File(file))
}
