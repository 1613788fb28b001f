//! What a driver must know of a compiled model, as data: `hgc.json` beside it, and the same in its
//! metadata for callers that have nothing but the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::convention::key;
use crate::limited;
use crate::onnx::proto::ModelProto;
use crate::plan::data::is_usual;
use crate::plan::flow::{Extent, Flow, Flows, StateFlow, Touch};
use crate::plan::{Kind, Prompted, Schedule, choose};

/// Name of the file in a component's folder.
pub const FILE: &str = "hgc.json";
/// Version of the schema that this code writes and reads.
pub const SCHEMA: &str = "hgc.model.v1";

/// How a compiled model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormName {
    /// One file, kinds as branches.
    Gated,
    /// A file a kind, without control flow.
    Variants,
}

/// A compiled model as its drivers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the compiler.
    pub version: String,
    /// How it is written.
    pub form: FormName,
    /// Name in the plan: `unet`, `controlnet`, `controlnet_1`, `merged`.
    pub name: String,
    /// `unet`, `controlnet` or `merged`.
    pub role: String,
    /// Policy of the plan.
    pub policy: String,
    /// Hash of the original's graph.
    pub graph: String,
    /// Which rows of a batch carry the prompt.
    pub rows: RowRule,
    /// The kinds, the start first: all gates of all models of the pipeline, so that these agree.
    pub kinds: Vec<Kind>,
    /// MACs of each kind in this model, at the sizes that were assumed when it was compiled.
    pub macs: Vec<u64>,
    /// File of each kind, for variants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Rows of the tables of weights but for row 0, which holds; see [`step`](Self::step).
    #[serde(default, skip_serializing_if = "is_usual")]
    pub weights: usize,
    /// The schedules; the first is in the gated model, for callers that count.
    pub schedules: Vec<Schedule>,
    /// Cached values, in the order of the model's inputs.
    pub states: Vec<StateEntry>,
    /// What each input of the original is: `latent`, `timestep`, `text`, `control image`, `residual`, ...
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Inputs that must stay the same over a generation.
    pub constant_inputs: Vec<String>,
    /// Inputs after whose change everything must refresh.
    pub watched_inputs: Vec<String>,
}

/// Which rows of a batch carry the prompt, and whether some kinds run them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRule {
    /// The half that carries the prompt.
    pub prompted: Prompted,
    /// Whether the model runs the prompted half alone on kinds with held or fused guidance; then
    /// batches are even.
    pub halves: bool,
}

/// One cached value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateEntry {
    /// Name, without `hgc.past.` and `hgc.present.`.
    pub name: String,
    /// Element type, as the runtime names it: `float32`, `float16`, `int64`.
    pub r#type: String,
    /// Sizes; those that depend on the call are null.
    pub shape: Vec<Option<u64>>,
    /// Whether past and present may share one buffer.
    pub in_place: bool,
    /// Kinds that read it, with the rows they must find.
    pub reads: BTreeMap<String, Extent>,
    /// Kinds that write it, with the rows they leave.
    pub writes: BTreeMap<String, Extent>,
}

/// Why a sidecar cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum SidecarError {
    #[error("cannot read {file}")]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{file} is damaged: {reason}; compile the original again")]
    Damaged { file: String, reason: String },
}

/// Where the sidecar of a model lies.
#[must_use]
pub fn path_of(model: &Path) -> PathBuf {
    match model.file_name().is_some_and(|n| n == "model.onnx") {
        true => model.with_file_name(FILE),
        // Several models may share a folder.
        false => model.with_extension(FILE),
    }
}

impl Sidecar {
    /// The sidecar beside a model; none where there is no such file.
    ///
    /// # Errors
    /// [`SidecarError`] naming the file.
    pub fn beside(model: &Path) -> Result<Option<Self>, SidecarError> {
        let file = path_of(model);
        if !file.is_file() {
            return Ok(None);
        }
        Self::read(&file).map(Some)
    }

    /// Reads a sidecar.
    ///
    /// # Errors
    /// [`SidecarError`] naming the file.
    pub fn read(file: &Path) -> Result<Self, SidecarError> {
        let text = limited::read_text(file).map_err(|source| SidecarError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(&text, &file.display().to_string())
    }

    /// The sidecar inside a compiled model; none where it has none.
    ///
    /// # Errors
    /// [`SidecarError::Damaged`] naming the `file` that the model is in.
    pub fn inside(model: &ModelProto, file: &str) -> Result<Option<Self>, SidecarError> {
        let mut entries = model.metadata_props.iter();
        let entry = entries.find(|e| e.key() == key::MODEL);
        entry.map(|e| Self::parse(e.value(), file)).transpose()
    }

    /// Reads the text of a sidecar, which is in `file`.
    ///
    /// # Errors
    /// [`SidecarError::Damaged`] if it is none, or says what cannot be.
    pub fn parse(text: &str, file: &str) -> Result<Self, SidecarError> {
        let damaged = |reason: String| SidecarError::Damaged {
            file: file.to_owned(),
            reason,
        };
        let found: Self = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        match found.problem() {
            Some(problem) => Err(damaged(problem)),
            None => Ok(found),
        }
    }

    /// What cannot be, if anything.
    fn problem(&self) -> Option<String> {
        if self.schema != SCHEMA {
            return Some(format!("its schema is {:?}, not {SCHEMA:?}", self.schema));
        }
        if self.kinds.is_empty() {
            return Some("it has no kinds".to_owned());
        }
        let known = |name: &String| self.kinds.iter().any(|k| k.name == *name);
        let mut named = self.schedules.iter().flat_map(|s| &s.kinds);
        if let Some(name) = named.find(|n| !known(n)) {
            return Some(format!(
                "a schedule names the kind {name:?}, which is not there"
            ));
        }
        let fits = |s: &Schedule| {
            let rows = s.rows.len();
            (rows == 0 || rows == s.kinds.len()) && s.rows.iter().all(|r| *r <= self.weights)
        };
        if !self.schedules.iter().all(fits) {
            return Some("rows of a schedule do not fit".to_owned());
        }
        let mut decided = self.schedules.iter();
        let problem = |s: &Schedule| s.adaptive.as_ref()?.problem(s, &self.kinds);
        if let Some(problem) = decided.find_map(problem) {
            return Some(problem);
        }
        let mut touching = self
            .states
            .iter()
            .flat_map(|s| s.reads.keys().chain(s.writes.keys()));
        if let Some(name) = touching.find(|n| !known(n)) {
            return Some(format!(
                "a state names the kind {name:?}, which is not there"
            ));
        }
        let first = self.kinds.first().map(|k| &k.name);
        if self.schedules.iter().any(|s| s.kinds.first() != first) {
            return Some("a schedule does not begin with the first kind".to_owned());
        }
        if self.macs.len() != self.kinds.len() {
            return Some(format!(
                "MACs of {} kinds for {}",
                self.macs.len(),
                self.kinds.len()
            ));
        }
        let variants = self.form == FormName::Variants;
        if variants != (self.files.len() == self.kinds.len() && !self.files.is_empty()) {
            return Some(format!(
                "{} files for {} kinds",
                self.files.len(),
                self.kinds.len()
            ));
        }
        self.schedules
            .is_empty()
            .then(|| "it has no schedule".to_owned())
    }

    /// As JSON.
    #[must_use]
    pub fn text(&self) -> String {
        // Strings and numbers can be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Position of a kind.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<usize> {
        self.kinds.iter().position(|k| k.name == name)
    }

    /// The value of `hgc.step` that names a kind, and a row of the weights.
    #[must_use]
    pub fn step(&self, kind: usize, row: usize) -> i64 {
        let code = row.saturating_mul(self.kinds.len()).saturating_add(kind);
        i64::try_from(code).map_or(i64::MIN, |code| -1 - code)
    }

    /// The kind and the row that a value of `hgc.step` below 0 names.
    #[must_use]
    pub fn named(&self, step: i64) -> Option<(usize, usize)> {
        let code = usize::try_from(step.checked_add(1)?.checked_neg()?).ok()?;
        let kinds = self.kinds.len();
        let (kind, row) = (code.checked_rem(kinds)?, code.checked_div(kinds)?);
        (row <= self.weights).then_some((kind, row))
    }

    /// What each kind does with each cached value.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let state = |s: &StateEntry| StateFlow {
            name: s.name.clone(),
            kinds: self
                .kinds
                .iter()
                .map(|k| Touch {
                    reads: s.reads.get(&k.name).copied(),
                    writes: s.writes.get(&k.name).copied(),
                })
                .collect(),
        };
        Flow {
            states: self.states.iter().map(state).collect(),
        }
    }
}

/// The schedule for so many evaluations with that sampler, over the models of one pipeline: one that
/// they have, or else their first, spread.
#[must_use]
pub fn schedule_for(
    models: &[&Sidecar],
    evaluations: usize,
    sampler: Option<&str>,
) -> Option<Schedule> {
    let first = models.first()?;
    let found = &first.schedules[choose(&first.schedules, evaluations, sampler)?];
    match found.evaluations() == evaluations {
        true => Some(found.clone()),
        false => Some(flows_of(models)?.spread(found, evaluations)),
    }
}

/// What may follow what in the models of one pipeline.
#[must_use]
pub fn flows_of(models: &[&Sidecar]) -> Option<Flows> {
    let kinds = models.first()?.kinds.clone();
    let work = |kind: usize| {
        let macs = models.iter().filter_map(|m| m.macs.get(kind));
        macs.fold(0u64, |sum, n| sum.saturating_add(*n))
    };
    let work = (0..kinds.len()).map(work).collect();
    let flows = models.iter().map(|m| m.flow()).collect();
    Some(Flows::new(kinds, flows, work))
}
