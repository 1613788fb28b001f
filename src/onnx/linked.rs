//! Data files behind links, as download caches lay them out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::proto::ModelProto;
use super::walk::{each_tensor, each_tensor_mut};

/// The model whose references, which are relative to `folder`, name the files that links lead to, and
/// the folder that they are relative to then. Nothing is copied where there are no such links.
///
/// ONNX Runtime follows the links of a model that it reads from a file. For one in memory it takes
/// nothing that lies outside of the folder that it is told.
pub fn without_links<'m>(
    mut model: Cow<'m, ModelProto>,
    folder: &Path,
) -> (Cow<'m, ModelProto>, PathBuf) {
    let mut files: HashMap<String, PathBuf> = HashMap::new();
    let found = each_tensor(&model, &mut |_, tensor| {
        if let Some(at) = tensor.external()
            && !files.contains_key(&at.location)
        {
            let file = folder.join(&at.location).canonicalize()?;
            files.insert(at.location, file);
        }
        Ok::<(), std::io::Error>(())
    });
    let home = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    // Who loads the model says what is missing.
    let stays = found.is_err() || files.values().all(|file| file.starts_with(&home));
    let Some(shared) = shared(files.values()).filter(|_| !stays) else {
        return (model, folder.to_owned());
    };
    // The visitor never fails.
    let _ = each_tensor_mut::<()>(model.to_mut(), &mut |_, tensor| {
        let file = tensor.external().and_then(|at| files.get(&at.location));
        let inside = file.and_then(|file| file.strip_prefix(&shared).ok());
        let mut entries = tensor.external_data.iter_mut();
        let entry = entries.find(|e| e.key() == "location");
        if let (Some(inside), Some(entry)) = (inside, entry) {
            entry.value = Some(inside.to_string_lossy().into_owned());
        }
        Ok(())
    });
    (model, shared)
}

/// The innermost folder around all files.
fn shared<'f>(mut files: impl Iterator<Item = &'f PathBuf>) -> Option<PathBuf> {
    let mut shared = files.next()?.parent()?.to_owned();
    for file in files {
        while !file.starts_with(&shared) {
            shared = shared.parent()?.to_owned();
        }
    }
    Some(shared)
}
