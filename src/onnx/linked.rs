//! Data files behind links, as download caches lay them out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::proto::ModelProto;
use super::walk::{each_tensor, each_tensor_mut};

/// Lets the references of `model`, which are relative to `folder`, name the files that links lead to;
/// gives the folder that they are relative to then.
///
/// ONNX Runtime follows the links of a model that it reads from a file. For one in memory it takes
/// nothing that lies outside of the folder that it is told.
pub fn without_links(model: &mut ModelProto, folder: &Path) -> PathBuf {
    let mut files: HashMap<String, PathBuf> = HashMap::new();
    let found = each_tensor(model, &mut |_, tensor| {
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
    if found.is_err() || files.values().all(|file| file.starts_with(&home)) {
        return folder.to_owned();
    }
    let Some(shared) = shared(files.values()) else {
        return folder.to_owned();
    };
    // The visitor never fails.
    let _ = each_tensor_mut::<()>(model, &mut |_, tensor| {
        let file = tensor.external().and_then(|at| files.get(&at.location));
        let inside = file.and_then(|file| file.strip_prefix(&shared).ok());
        let entry = tensor.external_data.iter_mut();
        let entry = entry.into_iter().find(|e| e.key() == "location");
        if let (Some(inside), Some(entry)) = (inside, entry) {
            entry.value = Some(inside.to_string_lossy().into_owned());
        }
        Ok(())
    });
    shared
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
