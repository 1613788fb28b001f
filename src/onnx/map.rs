//! Mapping of files into memory.
//!
//! The one module of the crate that may use `unsafe`. A map is sound as long as nobody
//! changes the bytes under it: Rust requires that `&[u8]` does not change while borrowed.
//! This crate keeps its side of that bargain:
//!
//! - maps are read-only, so no write can go through them;
//! - [`Transaction`](super::Transaction) never writes in place: it writes new files and renames
//!   them over old names, and a mapped file lives on under its map after that;
//! - inputs are protected, so they are not replaced either.
//!
//! What is left is another process that truncates or rewrites a model while it is compiled.
//! No reader of maps can prevent that; it ends in wrong weights or a bus error for this
//! process, as it would in every inference engine that maps its models. The bytes are
//! plain integers, so no value of them is invalid.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// The contents of the file at `path`, without reading them.
///
/// Slices of the result share the map and keep it alive.
///
/// # Errors
/// If the file cannot be opened or mapped. An empty file gives empty bytes.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private to the returned `Bytes`, read-only, and the crate never
    // writes to a file it has mapped; see the module documentation for other processes.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_share_memory() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x");
        std::fs::write(&path, b"0123456789")?;
        let bytes = map_file(&path)?;
        let part = bytes.slice(3..5);
        assert_eq!(part.as_ptr(), bytes[3..].as_ptr());
        drop(bytes);
        assert_eq!(&part[..], b"34");
        Ok(())
    }

    #[test]
    fn an_empty_file_is_empty_bytes() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x");
        std::fs::write(&path, b"")?;
        assert!(map_file(&path)?.is_empty());
        Ok(())
    }
}
