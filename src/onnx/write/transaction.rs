//! A set of files that appears as a whole.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::{Path, PathBuf};

use prost::Message;
use tempfile::TempPath;

use super::appear::{Staged, appear};
use super::copy::{Meter, Metered, copy, join, new_file};
use super::error::WriteError;
use super::guard::{Guard, resolve};
use super::open;
use super::relocate::{DataFile, DataFiles, Place};
use super::spill::Spill;
use crate::onnx::encode::encode_model;
use crate::onnx::folder_of;
use crate::onnx::proto::ModelProto;

/// The most bytes a model file may have: protobuf counts lengths in 31 bits.
pub const MAX_INLINE: u64 = i32::MAX as u64;

/// Writes a set of files so that either all appear or none do.
///
/// Files are written next to their destinations under temporary names and renamed by
/// [`commit`](Self::commit). A transaction that is dropped or fails removes what it made,
/// folders included. Only a crash of the machine or the process between two renames can leave
/// a part, which is why a file that vouches for others should be added last.
#[derive(Debug)]
pub struct Transaction {
    force: bool,
    max_inline: u64,
    guard: Guard,
    staged: Vec<Staged>,
    /// Resolved destinations of what is staged.
    taken: HashSet<PathBuf>,
    /// Folders made, outer before inner.
    folders: Vec<PathBuf>,
    /// Data files copied so far, by source and destination folder.
    copies: HashMap<(PathBuf, PathBuf), Place>,
}

impl Transaction {
    /// An empty transaction; with `force` it may replace existing files.
    pub fn new(force: bool) -> Self {
        Self {
            force,
            max_inline: MAX_INLINE,
            guard: Guard::default(),
            staged: Vec::new(),
            taken: HashSet::new(),
            folders: Vec::new(),
            copies: HashMap::new(),
        }
    }

    /// The same with another limit on the size of a model file, for tests.
    #[must_use]
    pub fn with_max_inline(mut self, bytes: u64) -> Self {
        self.max_inline = bytes;
        self
    }

    /// A path that is never replaced, even with force: an input or its external data.
    pub fn protect(&mut self, path: &Path) {
        self.guard.protect(path);
    }

    /// Adds `model` as `dest`.
    ///
    /// Its external references are relative to `source_dir`. If `dest` and the data are in that
    /// folder, the data are shared. Otherwise they are copied to `<dest>_data`, several files one
    /// after the other, and models that share a data file and a destination folder share the
    /// copy. Inline weights beyond what one file may hold go to a data file too
    /// (`<dest>_data_1`).
    /// `progress` is called with bytes done and bytes in total.
    ///
    /// # Errors
    /// If `dest` must not be written, data are missing, or writing fails.
    pub fn add_model(
        &mut self,
        mut model: ModelProto,
        source_dir: &Path,
        dest: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WriteError> {
        self.claim(dest)?;
        let mut meter = Meter {
            done: 0,
            total: 0,
            report: progress,
        };
        self.move_data(&mut model, source_dir, dest, &mut meter)?;
        let size = model.encoded_len() as u64;
        meter.total = meter.done + size;
        if size > self.max_inline {
            self.spill(&mut model, dest, &mut meter)?;
        }
        self.stage(dest, &mut meter, |out| encode_model(&model, out))
    }

    /// Adds models that have weights of `model` in common, all in one folder: `model` as `dest`, and
    /// `parts` beside it. All weights are in data files, each once.
    ///
    /// # Errors
    /// As for [`add_model`](Self::add_model).
    pub fn add_sharing(
        &mut self,
        model: ModelProto,
        parts: Vec<(String, ModelProto)>,
        source_dir: &Path,
        dest: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WriteError> {
        let mut meter = Meter {
            done: 0,
            total: 0,
            report: progress,
        };
        let mut models = vec![(dest.to_owned(), model)];
        for (name, part) in parts {
            models.push((dest.with_file_name(name), part));
        }
        for (dest, model) in &mut models {
            self.claim(dest)?;
            self.move_data(model, source_dir, dest, &mut meter)?;
        }
        let (path, location) = self.data_file(dest)?;
        let spill = Spill::take(&mut models[0].1, &location);
        for (_, part) in &mut models[1..] {
            Spill::share(&spill.places, part);
        }
        let sizes = models.iter().map(|(_, m)| m.encoded_len() as u64);
        meter.total = meter.done + spill.size + sizes.sum::<u64>();
        if spill.size > 0 {
            self.stage(&path, &mut meter, |out| spill.write(out))?;
        }
        for (dest, model) in &models {
            let size = model.encoded_len() as u64;
            if size > self.max_inline {
                return Err(WriteError::TooLarge {
                    file: dest.clone(),
                    size,
                    limit: self.max_inline,
                });
            }
            self.stage(dest, &mut meter, |out| encode_model(model, out))?;
        }
        Ok(())
    }

    /// Copies the data files of a model next to `dest`, where they are not there already, and makes
    /// it refer to them.
    fn move_data(
        &mut self,
        model: &mut ModelProto,
        source_dir: &Path,
        dest: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<(), WriteError> {
        let data = DataFiles::of(model, source_dir, dest)?;
        for file in &data.files {
            self.guard.protect(&file.source);
        }
        let folder = resolve(&folder_of(dest));
        let stays = |file: &DataFile| {
            // A link in the folder that leads elsewhere is no file of the folder.
            resolve(source_dir) == folder && file.source.starts_with(&folder)
        };
        if !data.files.iter().all(stays) {
            let sizes = data.files.iter().filter(|f| !stays(f)).map(|f| f.size);
            meter.total = sizes.sum::<u64>() + model.encoded_len() as u64;
            let places = self.copy_data(&data, &stays, dest, meter)?;
            data.rename(model, &places);
        }
        Ok(())
    }

    /// Adds a file of these bytes as `dest`.
    ///
    /// # Errors
    /// If `dest` must not be written or writing fails.
    pub fn add_bytes(&mut self, dest: &Path, bytes: &[u8]) -> Result<(), WriteError> {
        self.claim(dest)?;
        let mut meter = Meter {
            done: 0,
            total: bytes.len() as u64,
            report: &mut |_, _| {},
        };
        self.stage(dest, &mut meter, |out| out.write_all(bytes))
    }

    /// Adds a copy of the file `src` as `dest`, sharing its blocks where the file system can.
    ///
    /// # Errors
    /// If `dest` must not be written, `src` cannot be read, or writing fails.
    pub fn copy_file(
        &mut self,
        src: &Path,
        dest: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WriteError> {
        self.guard.protect(src);
        self.claim(dest)?;
        let src = resolve(src);
        let meta = src.metadata().map_err(|source| WriteError::Source {
            file: src.clone(),
            dest: dest.to_owned(),
            source,
        })?;
        let mut meter = Meter {
            done: 0,
            total: meta.len(),
            report: progress,
        };
        let temp = copy(&src, dest, meta.len(), &mut meter)?;
        self.push(temp, dest);
        Ok(())
    }

    /// Makes all files appear under their names, in the order they were added, and returns
    /// their paths.
    ///
    /// # Errors
    /// If a destination appeared meanwhile or the disk fails. Files that were replaced before
    /// the failure are put back.
    pub fn commit(mut self) -> Result<Vec<PathBuf>, WriteError> {
        let folders = self.folders.drain(..).map(|f| folder_of(&f)).collect();
        appear(
            mem::take(&mut self.staged),
            &self.guard,
            self.force,
            folders,
        )
    }

    /// Copies the data files next to `dest`, save those that stay, and returns their new places.
    fn copy_data(
        &mut self,
        data: &DataFiles,
        stays: &dyn Fn(&DataFile) -> bool,
        dest: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Option<Place>>, WriteError> {
        let folder = resolve(&folder_of(dest));
        let key = |file: &DataFile| (file.source.clone(), folder.clone());
        let moving: Vec<&DataFile> = data.files.iter().filter(|f| !stays(f)).collect();
        let known = |file: &&&DataFile| self.copies.contains_key(&key(file));
        meter.add(moving.iter().filter(known).map(|f| f.size).sum());
        let missing = |file: &&DataFile| !self.copies.contains_key(&key(file));
        let new: Vec<&DataFile> = moving.iter().copied().filter(missing).collect();
        if !new.is_empty() {
            let (path, location) = self.data_file(dest)?;
            let (temp, offsets) = match new[..] {
                [one] => (copy(&one.source, &path, one.size, meter)?, vec![None]),
                _ => {
                    let (temp, offsets) = join(&new, &path, meter)?;
                    (temp, offsets.into_iter().map(Some).collect())
                }
            };
            self.push(temp, &path);
            for (file, offset) in new.iter().zip(offsets) {
                let location = location.clone();
                self.copies.insert(key(file), Place { location, offset });
            }
        }
        let place = |file: &DataFile| {
            let place = self.copies.get(&key(file)).cloned();
            place.filter(|_| !stays(file))
        };
        Ok(data.files.iter().map(place).collect())
    }

    /// Moves inline weights to a data file, so that the model fits into one.
    fn spill(
        &mut self,
        model: &mut ModelProto,
        dest: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<(), WriteError> {
        let (path, location) = self.data_file(dest)?;
        let spill = Spill::take(model, &location);
        let size = model.encoded_len() as u64;
        if size > self.max_inline {
            return Err(WriteError::TooLarge {
                file: dest.to_owned(),
                size,
                limit: self.max_inline,
            });
        }
        meter.total = meter.done + spill.size + size;
        self.stage(&path, meter, |out| spill.write(out))
    }

    /// A path for data of the model at `dest` that nothing else uses, and its location.
    fn data_file(&self, dest: &Path) -> Result<(PathBuf, String), WriteError> {
        let name = dest.file_name().unwrap_or_default();
        let Some(name) = name.to_str() else {
            return Err(WriteError::NotAFile {
                file: dest.to_owned(),
            });
        };
        let mut location = format!("{name}_data");
        let mut number = 0;
        loop {
            let path = dest.with_file_name(&location);
            if !self.is_staged(&path) && !self.guard.is_protected(&path) {
                self.guard.check(&path, self.force)?;
                return Ok((path, location));
            }
            number += 1;
            location = format!("{name}_data_{number}");
        }
    }

    /// Makes sure that `dest` may be written and its folder exists.
    fn claim(&mut self, dest: &Path) -> Result<(), WriteError> {
        self.guard.check(dest, self.force)?;
        self.make_folder(&folder_of(dest))?;
        if self.is_staged(dest) {
            return Err(WriteError::Twice {
                file: dest.to_owned(),
            });
        }
        Ok(())
    }

    fn make_folder(&mut self, folder: &Path) -> Result<(), WriteError> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(outer) = folder.parent().filter(|outer| *outer != Path::new("")) {
            self.make_folder(outer)?;
        }
        match fs::create_dir(folder) {
            Ok(()) => {
                open::lock().add_folder(folder);
                self.folders.push(folder.to_owned());
            }
            Err(_) if folder.is_dir() => {}
            Err(source) => {
                return Err(WriteError::Folder {
                    folder: folder.to_owned(),
                    source,
                });
            }
        }
        Ok(())
    }

    fn is_staged(&self, dest: &Path) -> bool {
        self.taken.contains(&resolve(dest))
    }

    /// Writes a temporary file for `dest` by `write`.
    fn stage(
        &mut self,
        dest: &Path,
        meter: &mut Meter<'_>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let failed = |source| WriteError::write(dest, source);
        let mut temp = new_file(dest).map_err(failed)?;
        let file = temp.as_file_mut();
        let mut out = BufWriter::with_capacity(1 << 20, Metered { file, meter });
        write(&mut out).and_then(|()| out.flush()).map_err(failed)?;
        drop(out);
        self.push(temp.into_temp_path(), dest);
        Ok(())
    }

    fn push(&mut self, temp: TempPath, dest: &Path) {
        self.taken.insert(resolve(dest));
        let dest = dest.to_owned();
        self.staged.push(Staged { temp, dest });
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.staged.clear();
        for folder in self.folders.iter().rev() {
            // One that is not empty any more belongs to somebody else too.
            let _ = fs::remove_dir(folder);
        }
    }
}
