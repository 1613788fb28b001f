//! The plan as a file. Format 2 has kinds, and schedules over them; format 1 had one schedule, as a
//! row of characters a gate.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::data::{
    FORMAT, Gate, Guidance, ModelPlan, Plan, Prompted, Refusal, Reuse, Site, is_usual,
};
use super::kinds::{Kind, Schedule};
use super::schedule::{GateSchedule, GuidanceSchedule};
use super::weights::Weights;
use crate::analysis::Role;

/// Version 1 of the format.
const COLUMNS: u32 = 1;

/// A plan of either format.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    format: u32,
    policy: String,
    /// Evaluations; format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fitted: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_usual")]
    guidance: WrittenGuidance,
    #[serde(default, rename = "schedule", skip_serializing_if = "Vec::is_empty")]
    schedules: Vec<Schedule>,
    #[serde(default, rename = "kind", skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<Kind>,
    #[serde(default, skip_serializing_if = "Weights::is_empty")]
    weights: Weights,
    #[serde(rename = "model")]
    models: Vec<WrittenModel>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGuidance {
    /// One character an evaluation: `F` full, `H` held, `U` fused, `N` full from nothing; format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<GuidanceSchedule>,
    #[serde(default, skip_serializing_if = "is_usual")]
    reuse: Reuse,
    #[serde(default, skip_serializing_if = "is_usual")]
    prompted: Prompted,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    name: String,
    role: Role,
    hash: String,
    #[serde(default, skip_serializing_if = "is_usual")]
    halves: bool,
    /// Format 1.
    #[serde(default, rename = "gate", skip_serializing_if = "Vec::is_empty")]
    gates: Vec<WrittenGate>,
    #[serde(default, rename = "site", skip_serializing_if = "Vec::is_empty")]
    sites: Vec<Site>,
    #[serde(default, rename = "refused", skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<Refusal>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGate {
    name: String,
    /// One character an evaluation: `R` refresh, `.` reuse, `N` refresh from nothing.
    schedule: GateSchedule,
}

impl From<Plan> for Written {
    fn from(plan: Plan) -> Self {
        let model = |m: ModelPlan| WrittenModel {
            name: m.name,
            role: m.role,
            hash: m.hash,
            halves: m.halves,
            gates: Vec::new(),
            sites: m.sites,
            refusals: m.refusals,
        };
        Self {
            format: FORMAT,
            policy: plan.policy,
            steps: None,
            parameters: plan.parameters,
            fitted: plan.fitted,
            guidance: WrittenGuidance {
                schedule: None,
                reuse: plan.guidance.reuse,
                prompted: plan.guidance.prompted,
            },
            schedules: plan.schedules,
            kinds: plan.kinds,
            weights: plan.weights,
            models: plan.models.into_iter().map(model).collect(),
        }
    }
}

impl TryFrom<Written> for Plan {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { format, steps, .. } = written;
        if ![COLUMNS, FORMAT].contains(&format) {
            return Err(format!(
                "its format is {format}, and this hgc reads {COLUMNS} and {FORMAT}"
            ));
        }
        let columns = written.guidance.schedule;
        let old = format == COLUMNS;
        let mut plan = Self {
            format: FORMAT,
            policy: written.policy,
            steps: steps.unwrap_or_default(),
            parameters: written.parameters,
            fitted: written.fitted,
            guidance: Guidance {
                schedule: columns.clone().unwrap_or_default(),
                reuse: written.guidance.reuse,
                prompted: written.guidance.prompted,
            },
            kinds: written.kinds,
            weights: written.weights,
            schedules: written.schedules,
            models: written.models.into_iter().map(|m| m.read(old)).collect(),
        };
        let stray = match old {
            true if steps.is_none() => Some("it has no `steps`"),
            true if columns.is_none() => Some("it has no `guidance.schedule`"),
            true if !plan.kinds.is_empty() || !plan.schedules.is_empty() => {
                Some("kinds and schedules are of format 2")
            }
            false if steps.is_some() || columns.is_some() => {
                Some("`steps` and `guidance.schedule` are of format 1; schedules name kinds here")
            }
            _ => None,
        };
        if let Some(stray) = stray {
            return Err(format!("its format is {format}: {stray}"));
        }
        match old {
            true => plan.settle(),
            false => plan.expand().map_err(|e| e.to_string())?,
        }
        Ok(plan)
    }
}

impl WrittenModel {
    fn read(self, old: bool) -> ModelPlan {
        let gates: Vec<Gate> = if old {
            let gate = |g: WrittenGate| Gate {
                name: g.name,
                schedule: g.schedule,
            };
            self.gates.into_iter().map(gate).collect()
        } else {
            let mut names: Vec<&String> = Vec::new();
            for site in &self.sites {
                if !names.contains(&&site.gate) {
                    names.push(&site.gate);
                }
            }
            let gate = |name: &String| Gate {
                name: name.clone(),
                schedule: GateSchedule::default(),
            };
            names.into_iter().map(gate).collect()
        };
        ModelPlan {
            name: self.name,
            role: self.role,
            hash: self.hash,
            halves: self.halves,
            gates,
            sites: self.sites,
            refusals: self.refusals,
        }
    }
}
