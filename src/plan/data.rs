//! A plan as data: what is cached where, and what runs on which step.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::kinds::{Kind, Schedule};
use super::policy::{Nothing, Policy as _};
use super::schedule::{GateSchedule, GuidanceSchedule};
use super::weights::Weights;
use super::written::Written;
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
    /// The same, half as far: values between two refreshes turn back from their slope on most models, and a forecast
    /// that is too short is never far worse than none.
    Damped,
    /// The same with a weight from the plan's table in place of `steps_since`: a fraction of it is a
    /// damped forecast, 0 holds.
    Fitted,
}

impl Reuse {
    /// Whether a slope is kept beside the value.
    #[must_use]
    pub fn forecasts(self) -> bool {
        self != Self::Hold
    }

    /// How far along the slope a value is read after so many evaluations; none where the plan's table tells.
    #[must_use]
    pub fn way(self, since: f32) -> Option<f32> {
        match self {
            Self::Hold | Self::Linear => Some(since),
            Self::Damped => Some(Self::DAMPING * since),
            Self::Fitted => None,
        }
    }

    /// What a damped forecast goes of a whole one.
    pub const DAMPING: f32 = 0.5;
}

impl fmt::Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Linear => "linear",
            Self::Damped => "damped",
            Self::Fitted => "fitted",
        })
    }
}

impl FromStr for Reuse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hold" => Ok(Self::Hold),
            "linear" => Ok(Self::Linear),
            "damped" => Ok(Self::Damped),
            "fitted" => Err("only `hgc tune` can fit; choose hold, damped or linear".to_owned()),
            _ => Err(format!("{text:?} is neither hold, damped nor linear")),
        }
    }
}

/// In what a cache keeps values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheType {
    /// As they are.
    #[default]
    Same,
    /// Single precision in half: half of the bytes, a relative error of 2^-11, and no value beyond 65504.
    F16,
    /// Single and half precision in 8 bits, scaled by row of the batch and channel: an error of at most 1 % of
    /// the largest value of the channel.
    Int8,
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
pub(crate) fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Several sites that refresh on the same steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Name, unique in a model.
    pub name: String,
    /// What it does on each evaluation of the first schedule.
    pub schedule: GateSchedule,
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
    /// In what they are kept.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub cache: CacheType,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPlan {
    /// `unet`, `controlnet`, `controlnet_1`, `merged`.
    pub name: String,
    /// What the file is.
    pub role: Role,
    /// [`graph_hash`](crate::onnx::graph_hash) of the graph the plan was made for.
    pub hash: String,
    /// Whether the file runs half the batch on held and fused steps.
    pub halves: bool,
    /// Gates, in the order in which sites name them.
    pub gates: Vec<Gate>,
    /// Sites.
    pub sites: Vec<Site>,
    /// Candidates that were refused.
    pub refusals: Vec<Refusal>,
}

impl ModelPlan {
    /// The gate of that name.
    #[must_use]
    pub fn gate(&self, name: &str) -> Option<&Gate> {
        self.gates.iter().find(|g| g.name == name)
    }
}

/// Guidance, and how the held difference is reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guidance {
    /// What it does on each evaluation of the first schedule.
    pub schedule: GuidanceSchedule,
    /// How the guidance difference is reused on held steps.
    pub reuse: Reuse,
    /// Which half of the batch carries the prompt.
    pub prompted: Prompted,
}

/// Everything that decides a rewrite.
///
/// Kinds and schedules are what a plan is written as. Beside them stand the columns of the first
/// schedule, by gate and for guidance: [`settle`](Self::settle) and [`expand`](Self::expand) derive
/// one from the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Plan {
    /// Version of this format.
    pub format: u32,
    /// Name of the policy that made it.
    pub policy: String,
    /// Evaluations of the first schedule.
    pub steps: usize,
    /// Parameters of the policy, for the reader.
    pub parameters: BTreeMap<String, String>,
    /// What the plan was fitted on by `hgc tune`: `sampler`, `guidance`, ...; empty for a formula.
    pub fitted: BTreeMap<String, String>,
    /// Guidance.
    pub guidance: Guidance,
    /// Kinds of evaluations, the start first.
    pub kinds: Vec<Kind>,
    /// When each kind runs; a compiled model can follow any of them, and the first where its caller
    /// does no more than count.
    pub schedules: Vec<Schedule>,
    /// What fitted reuse multiplies slopes with.
    pub weights: Weights,
    /// Plans by file.
    pub models: Vec<ModelPlan>,
}

/// Version of the plan format that this code writes; version 1 is read as well.
pub const FORMAT: u32 = 2;

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
        self.has_half() && self.models.iter().any(|m| m.halves)
    }

    /// The plan of the file with that graph hash.
    #[must_use]
    pub fn for_hash(&self, hash: &str) -> Option<&ModelPlan> {
        self.models.iter().find(|m| m.hash == hash)
    }
}
