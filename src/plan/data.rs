//! A plan as data: what is cached where, and what runs on which step.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::policy::{Nothing, Policy as _};
use super::schedule::{GuidanceSchedule, Schedule};
use crate::analysis::Role;

/// What a site gives on a step that reuses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reuse {
    /// The value of the last refresh.
    #[default]
    Hold,
    /// The value of the last refresh, moved on by the slope between the last two:
    /// `value + slope * steps_since`.
    Linear,
}

impl fmt::Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Linear => "linear",
        })
    }
}

impl FromStr for Reuse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hold" => Ok(Self::Hold),
            "linear" => Ok(Self::Linear),
            _ => Err(format!("{text:?} is neither hold nor linear")),
        }
    }
}

/// Rows of the batch that a cache keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// The rows of the step that refreshed; a step that runs the prompted half alone
    /// reads that half of them.
    #[default]
    All,
    /// The prompted half; it is read only on steps that run that half alone.
    Prompted,
    /// The mean of both halves (T-GATE); read only on steps that run one half.
    Mean,
}

/// Which half of the batch carries the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompted {
    /// Unprompted rows first, as diffusers concatenates them.
    #[default]
    Last,
    /// Prompted rows first.
    First,
}

/// Whether a value is what stands where none is written; a plan does not say it.
fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Several sites that refresh on the same steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Name, unique in a model.
    pub name: String,
    /// One character a step: `R` refresh, `.` reuse, `N` refresh from nothing.
    pub schedule: Schedule,
}

/// A cut of the graph whose values are cached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Name, unique in a model.
    pub name: String,
    /// The gate that says when it refreshes.
    pub gate: String,
    /// What a reuse gives.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub reuse: Reuse,
    /// Rows that are kept.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub rows: Rows,
    /// Names of the cached values.
    pub tensors: Vec<String>,
    /// Why the site is there.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub why: String,
}

/// A candidate that did not become a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// What was considered.
    pub candidate: String,
    /// Why not.
    pub reason: String,
}

/// The plan of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// `unet`, `controlnet`, `controlnet_1`, `merged`.
    pub name: String,
    /// What the file is.
    pub role: Role,
    /// [`graph_hash`](crate::onnx::graph_hash) of the graph the plan was made for.
    pub hash: String,
    /// Whether the file runs half the batch on held and fused steps.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub halves: bool,
    /// Gates.
    #[serde(default, rename = "gate", skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// Sites.
    #[serde(default, rename = "site", skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<Site>,
    /// Candidates that were refused.
    #[serde(default, rename = "refused", skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
}

impl ModelPlan {
    /// The gate of that name.
    #[must_use]
    pub fn gate(&self, name: &str) -> Option<&Gate> {
        self.gates.iter().find(|g| g.name == name)
    }
}

/// Guidance by step, and how the held difference is reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guidance {
    /// One character a step: `F` full, `H` held, `U` fused, `N` full from nothing.
    pub schedule: GuidanceSchedule,
    /// How the guidance difference is reused on held steps.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub reuse: Reuse,
    /// Which half of the batch carries the prompt.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub prompted: Prompted,
}

/// Everything that decides a rewrite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this format.
    pub format: u32,
    /// Name of the policy that made it.
    pub policy: String,
    /// Model evaluations in a generation.
    pub steps: usize,
    /// Parameters of the policy, for the reader.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Guidance by step.
    pub guidance: Guidance,
    /// Plans by file.
    #[serde(rename = "model")]
    pub models: Vec<ModelPlan>,
}

/// Version of the plan format that this code writes and reads.
pub const FORMAT: u32 = 1;

impl Plan {
    /// Whether any site is cached or any step saves work.
    #[must_use]
    pub fn changes_anything(&self) -> bool {
        self.models.iter().any(|m| !m.sites.is_empty()) || self.changes_batch()
    }

    /// Whether a policy was asked to cache something and found nothing to cache.
    #[must_use]
    pub fn found_nothing(&self) -> bool {
        self.policy != Nothing.name() && !self.changes_anything()
    }

    /// Whether some step runs half of the batch.
    #[must_use]
    pub fn changes_batch(&self) -> bool {
        self.guidance.schedule.has_half() && self.models.iter().any(|m| m.halves)
    }

    /// The plan of the file with that graph hash.
    #[must_use]
    pub fn for_hash(&self, hash: &str) -> Option<&ModelPlan> {
        self.models.iter().find(|m| m.hash == hash)
    }
}
