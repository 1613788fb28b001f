//! Which paths may be written to.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use super::error::WriteError;

/// Files that must not be replaced, however they are spelled or linked.
#[derive(Debug, Default)]
pub(super) struct Guard {
    paths: HashSet<PathBuf>,
    /// Device and number of the file, which all hard links to it share.
    ids: HashSet<(u64, u64)>,
}

impl Guard {
    pub fn protect(&mut self, path: &Path) {
        self.paths.insert(resolve(path));
        if let Ok(meta) = path.metadata() {
            self.ids.extend(file_id(&meta));
        }
    }

    pub fn is_protected(&self, path: &Path) -> bool {
        let id = path.metadata().ok().and_then(|meta| file_id(&meta));
        self.paths.contains(&resolve(path)) || id.is_some_and(|id| self.ids.contains(&id))
    }

    /// Whether `dest` may be written now.
    pub fn check(&self, dest: &Path, force: bool) -> Result<(), WriteError> {
        let file = || dest.to_owned();
        if dest.file_name().is_none() {
            return Err(WriteError::NotAFile { file: file() });
        }
        if self.is_protected(dest) {
            return Err(WriteError::Protected { file: file() });
        }
        // Of a link both ends count: itself it would be replaced, its target tells what it
        // stands for (/dev/stdout is a link).
        let Ok(own) = fs::symlink_metadata(dest) else {
            return Ok(());
        };
        let target = dest.metadata().map_or(true, |meta| meta.is_file());
        if !(own.is_file() || own.is_symlink()) || !target {
            return Err(WriteError::NotAFile { file: file() });
        }
        if force {
            Ok(())
        } else {
            Err(WriteError::Exists { file: file() })
        }
    }
}

/// An absolute path without links; works for files that do not exist yet.
pub(super) fn resolve(path: &Path) -> PathBuf {
    if let Ok(full) = path.canonicalize() {
        return full;
    }
    let dir = crate::onnx::folder_of(path);
    match (dir.canonicalize(), path.file_name()) {
        (Ok(dir), Some(name)) => dir.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(unix)]
fn file_id(meta: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn file_id(_: &Metadata) -> Option<(u64, u64)> {
    None
}
