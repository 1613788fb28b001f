//! How finished files get their names: all of them, or what was there before stays.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::copy::make_temp;
use super::error::WriteError;
use super::guard::Guard;
use super::open;
use crate::onnx::folder_of;

/// A complete file under a temporary name.
#[derive(Debug)]
pub struct Staged {
    pub temp: TempPath,
    pub dest: PathBuf,
}

/// A file under its final name, and the one it replaced.
struct Renamed {
    dest: PathBuf,
    backup: Option<TempPath>,
}

/// Renames all files, in order, and returns their paths; `folders` changed before and are synced with
/// theirs.
///
/// # Errors
/// If a destination appeared meanwhile or the disk fails. Files that were replaced before the failure
/// are put back.
pub fn appear(
    staged: Vec<Staged>,
    guard: &Guard,
    force: bool,
    mut folders: Vec<PathBuf>,
) -> Result<Vec<PathBuf>, WriteError> {
    for file in &staged {
        sync(&file.temp).map_err(|e| WriteError::write(&file.dest, e))?;
    }
    let whole = open::lock();
    let mut placed = Vec::new();
    for file in staged {
        if let Err(error) = place(file, guard, force, &mut placed) {
            placed.into_iter().rev().for_each(undo);
            return Err(error);
        }
    }
    // Nobody may end the process while old files lie beside the new ones.
    let placed: Vec<PathBuf> = placed.into_iter().map(|p| p.dest).collect();
    drop(whole);
    folders.extend(placed.iter().map(|dest| folder_of(dest)));
    folders.sort();
    folders.dedup();
    // The files are whole and in place; a folder that cannot be synced changes nothing.
    folders.iter().for_each(|f| drop(sync(f)));
    Ok(placed)
}

/// Renames one file, keeping what it replaces.
fn place(
    file: Staged,
    guard: &Guard,
    force: bool,
    placed: &mut Vec<Renamed>,
) -> Result<(), WriteError> {
    let Staged { temp, dest } = file;
    guard.check(&dest, force)?;
    let failed = |source| WriteError::write(&dest, source);
    let backup = if fs::symlink_metadata(&dest).is_ok() {
        Some(back_up(&dest).map_err(failed)?)
    } else {
        None
    };
    let renamed = if force {
        temp.persist(&dest)
    } else {
        temp.persist_noclobber(&dest)
    };
    if let Err(error) = renamed {
        // A backup made by linking left the original where it was.
        if let Some(backup) = backup.filter(|_| fs::symlink_metadata(&dest).is_err()) {
            restore(backup, &dest);
        }
        return Err(match error.error.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists { file: dest },
            _ => WriteError::write(&dest, error.error),
        });
    }
    placed.push(Renamed { dest, backup });
    Ok(())
}

/// Keeps the file `dest` under a temporary name, in place as well where links allow it.
fn back_up(dest: &Path) -> io::Result<TempPath> {
    let link = make_temp(dest, "old", |path| fs::hard_link(dest, path));
    let kept = link.or_else(|_| make_temp(dest, "old", |path| fs::rename(dest, path)))?;
    Ok(kept.into_temp_path())
}

fn restore(backup: TempPath, dest: &Path) {
    if let Err(error) = backup.persist(dest) {
        // Better a file under a strange name than none.
        let _ = error.path.keep();
    }
}

fn undo(placed: Renamed) {
    match placed.backup {
        Some(backup) => restore(backup, &placed.dest),
        None => drop(fs::remove_file(&placed.dest)),
    }
}

/// Brings a file or folder to the disk.
fn sync(path: &Path) -> io::Result<()> {
    let file = if cfg!(windows) {
        OpenOptions::new().write(true).open(path)?
    } else {
        File::open(path)?
    };
    file.sync_all()
}
