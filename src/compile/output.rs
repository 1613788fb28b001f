//! Stores compiled models: bare files as `<role>.onnx`, a pipeline folder as its mirror.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::onnx::{Transaction, WriteError, folder_of};

use super::Compiled;
use crate::sidecar::{self, Sidecar, SidecarError};

/// Name of the plan in an output folder.
pub const PLAN_FILE: &str = "plan.toml";

/// Why results could not be stored.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum OutputError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error("the plan could not be written as TOML: {0}")]
    Toml(#[from] toml::ser::Error),
    #[error(
        "{folder} lies in {part}, a part of the pipeline; choose a folder outside of its parts"
    )]
    InsidePart { folder: PathBuf, part: PathBuf },
    #[error("cannot list {folder}")]
    List {
        folder: PathBuf,
        source: std::io::Error,
    },
}

/// Told of bytes copied so far and in all.
pub type Progress<'p> = &'p mut dyn FnMut(u64, u64);

/// Stores a product under `folder`; `plan.toml` comes last.
pub(super) fn write(
    compiled: &Compiled,
    folder: &Path,
    force: bool,
    progress: Progress<'_>,
) -> Result<Vec<PathBuf>, OutputError> {
    let start = std::time::Instant::now();
    outside_of_parts(compiled, folder)?;
    let mut transaction = Transaction::new(force);
    compiled.files.iter().for_each(|f| transaction.protect(f));
    for model in &compiled.models {
        let dest = folder.join(model.destination());
        let weights = folder_of(&model.path);
        if let Some(set) = &model.variants {
            let named = set.sidecar.files.iter().cloned();
            let parts = named.zip(set.variants.iter().map(|v| v.model.clone()));
            let original = model.original.clone();
            transaction.add_sharing(original, parts.collect(), &weights, &dest, progress)?;
            let sidecar = dest.with_file_name(sidecar::FILE);
            transaction.add_bytes(&sidecar, set.sidecar.text().as_bytes())?;
            continue;
        }
        transaction.add_model(model.graph.clone(), &weights, &dest, progress)?;
        if let Some(sidecar) = Sidecar::inside(&model.graph, &dest.display().to_string())? {
            transaction.add_bytes(&sidecar::path_of(&dest), sidecar.text().as_bytes())?;
        }
    }
    if let Some(pipeline) = &compiled.pipeline {
        mirror(compiled, pipeline, folder, &mut transaction, progress)?;
    }
    let toml = toml::to_string(&compiled.plan)?;
    transaction.add_bytes(&folder.join(PLAN_FILE), toml.as_bytes())?;
    let files = transaction.commit()?;
    tracing::info!(files = files.len(), "written in {:.2?}", start.elapsed());
    Ok(files)
}

/// A result inside a part would make the next run take the part for a result.
fn outside_of_parts(compiled: &Compiled, folder: &Path) -> Result<(), OutputError> {
    let Some(pipeline) = &compiled.pipeline else {
        return Ok(());
    };
    // The folder may not be there yet, nor the one around it.
    let known = folder.ancestors().find_map(|f| f.canonicalize().ok());
    let parts = compiled
        .models
        .iter()
        .filter_map(|s| s.relative.as_deref()?.parent());
    for part in parts.map(|p| pipeline.join(p)) {
        let inside = |known: &PathBuf| part.canonicalize().is_ok_and(|p| known.starts_with(p));
        if known.as_ref().is_some_and(inside) {
            let folder = folder.to_owned();
            return Err(OutputError::InsidePart { folder, part });
        }
    }
    Ok(())
}

/// Copies the rest of a pipeline folder: tokenizer, text encoder, VAE, scheduler. Left out are
/// hidden files, linked folders, results of earlier runs, and a plan, which makes way for the
/// one that is followed.
fn mirror(
    compiled: &Compiled,
    pipeline: &Path,
    folder: &Path,
    transaction: &mut Transaction,
    progress: Progress<'_>,
) -> Result<(), OutputError> {
    let models: HashSet<&PathBuf> = compiled.files.iter().collect();
    let target = folder.canonicalize().ok();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let here = pipeline.join(&relative);
        let list = |source| OutputError::List {
            folder: here.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in here.read_dir().map_err(list)? {
            names.push(entry.map_err(list)?.file_name());
        }
        names.sort();
        for name in names {
            let path = here.join(&name);
            let inside = relative.join(&name);
            let ours = inside == Path::new(PLAN_FILE) || name == sidecar::FILE;
            if ours || name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() {
                // Links may lead anywhere, also back here; a folder with a plan is a result.
                let is_link = path.is_symlink();
                let is_output = target.is_some() && path.canonicalize().ok() == target;
                if !is_link && !is_output && !path.join(PLAN_FILE).exists() {
                    todo.push(inside);
                }
            } else if path.is_file() && !models.contains(&path) {
                transaction.copy_file(&path, &folder.join(inside), progress)?;
            }
        }
    }
    Ok(())
}
