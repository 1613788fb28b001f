//! Temporary files next to their destination, and copying into them.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use super::error::WriteError;
use super::open;
use super::relocate::DataFile;
use crate::onnx::folder_of;

/// Bytes between two reports of progress.
const STEP: u64 = 16 << 20;
/// Engines map data files by pages.
const PAGE: u64 = 4096;

/// Counts bytes written and reports them.
pub(super) struct Meter<'a> {
    pub done: u64,
    pub total: u64,
    pub report: &'a mut dyn FnMut(u64, u64),
}

impl Meter<'_> {
    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        (self.report)(self.done, self.total);
    }
}

/// A writer that moves a meter.
pub(super) struct Metered<'a, 'm> {
    pub file: &'a mut File,
    pub meter: &'a mut Meter<'m>,
}

impl Write for Metered<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = bytes.len().min(STEP as usize);
        let written = self.file.write(&bytes[..step])?;
        self.meter.add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes a new file `.name.<tag>-XXXXXX` in the folder of `dest` by `make`.
pub(super) fn make_temp<R>(
    dest: &Path,
    tag: &str,
    make: impl FnMut(&Path) -> io::Result<R>,
) -> io::Result<NamedTempFile<R>> {
    let mut prefix = OsString::from(".");
    prefix.push(dest.file_name().unwrap_or_default());
    prefix.push(format!(".{tag}-"));
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).make_in(folder_of(dest), make)
}

/// A new file with the permissions of any other new file, unlike a private temporary one.
pub(super) fn new_file(dest: &Path) -> io::Result<NamedTempFile<File>> {
    make_temp(dest, "tmp", |path| {
        let mut options = OpenOptions::new();
        // Not made while everything is being cleared away.
        let mut open = open::lock();
        let file = options.write(true).create_new(true).open(path)?;
        open.add_file(path);
        Ok(file)
    })
}

/// A copy of `src` that will become `dest`; shares blocks with it where the file system can. A hard
/// link will not do: ONNX Runtime (1.32) refuses data files that have several names.
pub(super) fn copy(
    src: &Path,
    dest: &Path,
    size: u64,
    meter: &mut Meter<'_>,
) -> Result<TempPath, WriteError> {
    if let Ok(clone) = make_temp(dest, "tmp", |path| {
        let mut open = open::lock();
        reflink_copy::reflink(src, path)?;
        open.add_file(path);
        Ok(())
    }) {
        meter.add(size);
        return Ok(clone.into_temp_path());
    }
    let mut output = new_file(dest).map_err(|e| WriteError::write(dest, e))?;
    append(src, size, output.as_file_mut(), dest, meter)?;
    Ok(output.into_temp_path())
}

/// The contents of several files one after the other, for `dest`, and where each begins.
pub(super) fn join(
    files: &[&DataFile],
    dest: &Path,
    meter: &mut Meter<'_>,
) -> Result<(TempPath, Vec<u64>), WriteError> {
    let failed = |e| WriteError::write(dest, e);
    let mut output = new_file(dest).map_err(failed)?;
    let (mut offsets, mut end) = (Vec::new(), 0u64);
    for file in files {
        let offset = end.next_multiple_of(PAGE);
        let mut gap = io::repeat(0).take(offset - end);
        io::copy(&mut gap, output.as_file_mut()).map_err(failed)?;
        append(&file.source, file.size, output.as_file_mut(), dest, meter)?;
        offsets.push(offset);
        end = offset + file.size;
    }
    Ok((output.into_temp_path(), offsets))
}

/// Appends the `size` bytes of `src` to what becomes `dest`.
fn append(
    src: &Path,
    size: u64,
    output: &mut File,
    dest: &Path,
    meter: &mut Meter<'_>,
) -> Result<(), WriteError> {
    let unread = |source| WriteError::Source {
        file: src.to_owned(),
        dest: dest.to_owned(),
        source,
    };
    let input = File::open(src).map_err(unread)?;
    let failed = |source| WriteError::write(dest, source);
    let mut found = 0;
    loop {
        let mut part = (&input).take(STEP);
        let bytes = io::copy(&mut part, output).map_err(failed)?;
        if bytes == 0 {
            break;
        }
        found += bytes;
        meter.add(bytes);
    }
    if found == size {
        return Ok(());
    }
    Err(WriteError::Changed {
        file: src.to_owned(),
        expected: size,
        found,
    })
}
