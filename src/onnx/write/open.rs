//! Temporary files and new folders of transactions that are under way, for a process that is
//! told to end: destructors do not run then.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Open {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

static OPEN: Mutex<Open> = Mutex::new(Open {
    files: Vec::new(),
    folders: Vec::new(),
});

/// Held while files are renamed, which must not be left half done.
pub(super) fn lock() -> MutexGuard<'static, Open> {
    // Paths are pushed and taken whole.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    pub fn add_file(&mut self, path: &Path) {
        // Files that came to their names, or went, are forgotten now and then.
        if self.files.len() > 1000 {
            self.files.retain(|f| f.exists());
        }
        self.files.push(path.to_owned());
    }

    pub fn add_folder(&mut self, path: &Path) {
        self.folders.push(path.to_owned());
    }
}

/// Removes the temporary files and the empty folders of all transactions, and stops them: for
/// a process that ends at once, as on a signal. A transaction that is putting its files
/// into place is waited for.
pub fn abandon_transactions() {
    let mut open = lock();
    for file in open.files.drain(..) {
        let _ = fs::remove_file(file);
    }
    // Inner folders were made after outer ones.
    for folder in open.folders.drain(..).rev() {
        let _ = fs::remove_dir(folder);
    }
    // Whoever would go on waits for a lock that is never given back.
    mem::forget(open);
}
