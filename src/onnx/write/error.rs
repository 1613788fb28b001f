//! Why files cannot be written.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a [`Transaction`](super::Transaction) failed. Nothing has changed on disk then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The destination exists.
    #[error("{file}: exists already, and is not replaced unless that is asked for")]
    Exists {
        /// The destination.
        file: PathBuf,
    },
    /// The destination is an input.
    #[error("{file}: is an input and is never overwritten; write to another file or folder")]
    Protected {
        /// The destination.
        file: PathBuf,
    },
    /// Two outputs have one name.
    #[error("{file}: two outputs would be written to this file; give one another name")]
    Twice {
        /// The destination.
        file: PathBuf,
    },
    /// The destination is a folder, a device or the like, or no file name at all.
    #[error("{file}: not a regular file, cannot be replaced; name another file")]
    NotAFile {
        /// The destination.
        file: PathBuf,
    },
    /// A folder cannot be made.
    #[error("{folder}: cannot create the folder")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No space is left.
    #[error("{file}: no space left to write it; free some or choose another disk")]
    DiskFull {
        /// The file being written.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed otherwise.
    #[error("{file}: cannot write the file")]
    Write {
        /// The file being written.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file to copy cannot be read.
    #[error("{file}: cannot read the file, which {dest} needs a copy of")]
    Source {
        /// The file to copy.
        file: PathBuf,
        /// Its copy.
        dest: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file to copy changed on the way.
    #[error("{file}: changed while it was copied: {found} bytes instead of {expected}; try again")]
    Changed {
        /// The file copied.
        file: PathBuf,
        /// Bytes it had.
        expected: u64,
        /// Bytes copied.
        found: u64,
    },
    /// A reference to external data is unreadable or leads out of the folder.
    #[error("{file}: tensor {tensor:?} has no usable reference to its external data")]
    BadReference {
        /// The model to be written.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Even without its weights the model is larger than protobuf allows.
    #[error(
        "{file}: the model is {size} bytes without its weights, over the {limit} that one \
         file may have; move large constants into initializers"
    )]
    TooLarge {
        /// The model to be written.
        file: PathBuf,
        /// Bytes needed.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
}

impl WriteError {
    /// The error for a failed write to `file`.
    pub(super) fn write(file: &Path, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { file, source },
            _ => Self::Write { file, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = WriteError::write(Path::new("a"), ErrorKind::StorageFull.into());
        assert!(matches!(full, WriteError::DiskFull { .. }));
        assert!(full.to_string().starts_with("a: no space left"));
        let other = WriteError::write(Path::new("a"), ErrorKind::PermissionDenied.into());
        assert!(matches!(other, WriteError::Write { .. }));
    }
}
