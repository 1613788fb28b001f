//! Originals and the files that were compiled from them.

use std::path::{Path, PathBuf};

use super::MeasureError;
use crate::compile::output::PLAN_FILE;
use crate::emit::{StripError, compiled_plan, is_compiled};
use crate::onnx::{Model, graph_hash};
use crate::plan::{ModelPlan, Plan};
use crate::sidecar::{FormName, Sidecar};

/// An original and what was compiled from it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Name in the plan.
    pub name: String,
    /// The original file.
    pub original: PathBuf,
    /// The compiled file.
    pub rewritten: PathBuf,
}

fn missing(folder: &Path, name: String) -> MeasureError {
    MeasureError::MissingFile {
        rewritten: folder.display().to_string(),
        name,
    }
}

/// Whether a model that is given as the original is one.
///
/// # Errors
/// [`MeasureError::CompiledOriginal`] if it was compiled.
pub(super) fn check_original(model: &Model) -> Result<(), MeasureError> {
    match is_compiled(&model.proto) {
        true => Err(MeasureError::CompiledOriginal {
            file: model.path.display().to_string(),
        }),
        false => Ok(()),
    }
}

/// The compiled model at `path`: the gated graph, or, of variants, the graph of the start, which
/// carries the plan.
///
/// # Errors
/// [`MeasureError`] if it cannot be read.
pub(super) fn carrier(path: &Path) -> Result<(Model, FormName), MeasureError> {
    match Sidecar::beside(path)?.filter(|s| s.form == FormName::Variants) {
        Some(sidecar) => {
            let start = sidecar
                .files
                .first()
                .map(Path::new)
                .and_then(Path::file_name);
            let start = path.with_file_name(start.unwrap_or_default());
            Ok((Model::read(&start)?, FormName::Variants))
        }
        None => Ok((Model::read(path)?, FormName::Gated)),
    }
}

/// The plan that a compiled model carries.
///
/// # Errors
/// [`MeasureError::NotCompiled`] or [`MeasureError::DamagedPlan`].
pub(super) fn plan_in(model: &Model) -> Result<Plan, MeasureError> {
    let file = model.path.display().to_string();
    compiled_plan(&model.proto).map_err(|source| match source {
        StripError::NotCompiled => MeasureError::NotCompiled { file },
        source => MeasureError::DamagedPlan { file, source },
    })
}

/// The plan of a compiled folder.
///
/// # Errors
/// [`MeasureError::MissingFile`] if there is none that can be read.
pub fn plan_of(folder: &Path) -> Result<Plan, MeasureError> {
    let text = crate::limited::read_text(&folder.join(PLAN_FILE))
        .map_err(|_| missing(folder, PLAN_FILE.to_owned()))?;
    toml::from_str(&text).map_err(|e| missing(folder, format!("readable {PLAN_FILE} ({e})")))
}

/// Finds for each original its compiled file in `folder`, by graph hash.
///
/// # Errors
/// [`MeasureError::MissingFile`] naming what the folder lacks.
pub fn find_pairs(originals: &[PathBuf], folder: &Path) -> Result<Vec<Pair>, MeasureError> {
    let plan = plan_of(folder)?;
    let missing = |name: String| missing(folder, name);
    let mut pairs: Vec<Pair> = Vec::new();
    for original in originals {
        let model = Model::read(original)?;
        check_original(&model)?;
        let hash = graph_hash(&model.proto);
        let free = |m: &&ModelPlan| m.hash == hash && !pairs.iter().any(|p| p.name == m.name);
        let model = plan.models.iter().find(free);
        let model = model.ok_or_else(|| missing(format!("model for {}", original.display())))?;
        let bare = folder.join(format!("{}.onnx", model.name));
        let variants = folder.join(&model.name).join("model.onnx");
        // A pipeline folder is mirrored.
        let part = original.parent().and_then(Path::file_name);
        let file = original.file_name().unwrap_or_default();
        let mirrored = folder.join(part.unwrap_or_default()).join(file);
        let rewritten = [bare, mirrored, variants].into_iter().find(|p| p.is_file());
        let rewritten = rewritten.ok_or_else(|| missing(format!("{}.onnx", model.name)))?;
        let name = model.name.clone();
        pairs.push(Pair {
            name,
            original: original.clone(),
            rewritten,
        });
    }
    Ok(pairs)
}
