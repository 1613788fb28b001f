//! What a compilation gives: graphs and plan, with all that is needed to write them.

use std::path::{Path, PathBuf};

use super::output::{self, OutputError, Progress};
use crate::emit::VariantSet;
use crate::onnx::proto::ModelProto;
use crate::plan::Plan;
use crate::plan::cost::{Cost, saved};

/// The compiled models of one project. It owns all it needs: weights stay in the mapped files of the
/// originals until they are written.
pub struct Compiled {
    /// The plan that was followed.
    pub plan: Plan,
    /// Costs, parallel to the models.
    pub costs: Vec<Cost>,
    /// The models, UNet first.
    pub models: Vec<CompiledModel>,
    /// Files of the originals, which are never written to.
    pub(super) files: Vec<PathBuf>,
    /// The pipeline folder, if one was compiled.
    pub(super) pipeline: Option<PathBuf>,
}

/// One compiled model.
pub struct CompiledModel {
    /// Its name in the plan: `unet`, `controlnet`, `controlnet_1`, `merged`.
    pub name: String,
    /// The gated graph.
    pub(crate) graph: ModelProto,
    /// A graph a kind, where the form is `variants`; these are written in the place of the gated one.
    pub(crate) variants: Option<VariantSet>,
    /// The original.
    pub(crate) original: ModelProto,
    /// File of the original.
    pub path: PathBuf,
    /// Path inside the pipeline folder; none for a bare file.
    pub relative: Option<PathBuf>,
}

impl CompiledModel {
    /// The gated graph as protobuf, for those who work on [`unstable`](crate::unstable).
    #[doc(hidden)]
    #[must_use]
    pub fn graph(&self) -> &ModelProto {
        &self.graph
    }

    /// Where it goes in an output folder: the compiled graph, or, of variants, the original beside
    /// which they lie.
    #[must_use]
    pub fn destination(&self) -> PathBuf {
        let file = |folder: &Path| match &self.variants {
            // Beside others its name must say which one is the model.
            Some(_) => folder.join("model.onnx"),
            None => folder.with_extension("onnx"),
        };
        match (&self.relative, &self.variants) {
            (Some(relative), None) => relative.clone(),
            (Some(relative), Some(_)) => relative.with_file_name("model.onnx"),
            (None, _) => file(Path::new(&self.name)),
        }
    }
}

impl Compiled {
    /// The share of multiply-accumulates that a generation is spared.
    #[must_use]
    pub fn saved(&self) -> f64 {
        let before = self.costs.iter().map(|c| c.before().all).sum();
        let after = self.costs.iter().map(|c| c.after().all).sum();
        saved(before, after)
    }

    /// Stores everything under `folder`, all files or none; `plan.toml` comes last. Gives the files.
    ///
    /// # Errors
    /// [`OutputError`]; nothing is stored then.
    pub fn write(
        &self,
        folder: &Path,
        force: bool,
        progress: Progress<'_>,
    ) -> Result<Vec<PathBuf>, OutputError> {
        output::write(self, folder, force, progress)
    }
}
