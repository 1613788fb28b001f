//! Kinds of evaluations, what can run, and schedules over them, when each runs.
//!
//! A kind is one setting of all gates of all models and of guidance. Kind 0 is the start: everything
//! refreshes and nothing of the past is read; it is the first evaluation of every schedule, and what
//! a forced refresh runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::adaptive::Adaptive;
use super::data::Plan;
use super::parameter::Solver;
use super::schedule::{GateSchedule, Gating, GuidanceSchedule, GuidanceStep};
use super::sound::KindError;
use crate::analysis::Role;

/// One setting of all gates and of guidance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Name, unique in a plan.
    pub name: String,
    /// What guidance does.
    pub guidance: GuidanceStep,
    /// Gates that refresh, as `model/gate`. Those in neither list are read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refresh: BTreeSet<String>,
    /// Gates that refresh and forget their past: a forecast starts without a slope.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub restart: BTreeSet<String>,
}

/// The kind of every evaluation of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The sampler it was made for, or the kind of samplers ([`Solver::name`]); any where none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Names of kinds, one an evaluation.
    pub kinds: Vec<String>,
    /// Row of the weights, one an evaluation; none where everything is held or forecast.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<usize>,
    /// What decides while the model runs; nothing where none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<Adaptive>,
}

impl Schedule {
    /// Evaluations of a generation.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        self.kinds.len()
    }

    /// Whether it was made for so many evaluations of this sampler.
    #[must_use]
    pub fn is_for(&self, evaluations: usize, sampler: &str) -> bool {
        self.evaluations() == evaluations
            && (self.sampler.is_none() || self.is_made_for(Some(sampler)))
    }

    /// Whether it was made for this sampler or its kind, rather than for any.
    #[must_use]
    pub fn is_made_for(&self, sampler: Option<&str>) -> bool {
        let own = self.sampler.as_deref().zip(sampler);
        own.is_some_and(|(own, sampler)| Solver::serves(own, sampler))
    }

    /// The row of the weights on an evaluation; 0, which holds, where there is none.
    #[must_use]
    pub fn row(&self, evaluation: usize) -> usize {
        self.rows.get(evaluation).copied().unwrap_or_default()
    }
}

/// A gate of a model as kinds name it.
#[must_use]
pub fn gate_name(model: &str, gate: &str) -> String {
    format!("{model}/{gate}")
}

impl Kind {
    /// What it does with a gate.
    #[must_use]
    pub fn gating(&self, model: &str, gate: &str) -> Gating {
        let name = gate_name(model, gate);
        if self.restart.contains(&name) {
            Gating::Restart
        } else if self.refresh.contains(&name) {
            Gating::Refresh
        } else {
            Gating::Reuse
        }
    }

    /// Gates that it refreshes, with a past or without.
    pub fn runs(&self) -> impl Iterator<Item = &String> {
        self.refresh.iter().chain(&self.restart)
    }

    /// Whether it runs the prompted half alone.
    #[must_use]
    pub fn is_half(&self) -> bool {
        matches!(self.guidance, GuidanceStep::Held | GuidanceStep::Fused)
    }

    /// Whether it refreshes all that `other` does, and computes as much of the guidance.
    #[must_use]
    pub fn does_all_of(&self, other: &Self) -> bool {
        let runs = |gate: &String| self.refresh.contains(gate) || self.restart.contains(gate);
        let restarts = |gate: &String| self.restart.contains(gate);
        other.refresh.iter().all(runs)
            && other.restart.iter().all(restarts)
            && self.guidance.is_at_least(other.guidance)
    }

    /// Whether both do the same.
    #[must_use]
    pub fn does_as(&self, other: &Self) -> bool {
        (self.guidance, &self.refresh, &self.restart)
            == (other.guidance, &other.refresh, &other.restart)
    }
}

/// All gates of a plan as kinds name them, with whether they forecast.
pub(crate) fn gates(plan: &Plan) -> BTreeMap<String, bool> {
    let all = plan.models.iter().flat_map(|model| {
        model.gates.iter().map(move |gate| {
            let mut sites = model.sites.iter().filter(|s| s.gate == gate.name);
            let forecasts = sites.any(|s| s.reuse.forecasts());
            (gate_name(&model.name, &gate.name), forecasts)
        })
    });
    all.collect()
}

impl Plan {
    /// Derives kinds and the first schedule from the columns: what each gate and guidance do on
    /// each evaluation. Kinds that are there keep their names; other schedules stay.
    pub fn settle(&mut self) {
        // Columns of other lengths than the plan's are refused when it is placed.
        let mut lengths = self
            .models
            .iter()
            .flat_map(|m| &m.gates)
            .map(|g| g.schedule.steps());
        let fits = self.guidance.schedule.steps() == self.steps;
        if !fits || lengths.any(|n| n != self.steps) {
            return;
        }
        let gates = gates(self);
        let before = self.schedules.first();
        let sampler = before.and_then(|s| s.sampler.clone());
        let adaptive = before.and_then(|s| s.adaptive.clone());
        let rows = before.filter(|s| s.rows.len() == self.steps);
        let rows = rows.map(|s| s.rows.clone()).unwrap_or_default();
        let mut names = Vec::new();
        for step in 0..self.steps {
            let column = self.column(step, &gates);
            let known = self.kinds.iter().find(|k| k.does_as(&column));
            let name = match known {
                Some(kind) => kind.name.clone(),
                None => {
                    let name = self.name_for(&column, &gates);
                    let kind = Kind {
                        name: name.clone(),
                        ..column
                    };
                    // The start comes first, whatever a plan had before.
                    let place = if step == 0 { 0 } else { self.kinds.len() };
                    self.kinds.insert(place, kind);
                    name
                }
            };
            names.push(name);
        }
        let schedule = Schedule {
            sampler,
            kinds: names,
            rows,
            adaptive,
        };
        match self.schedules.first_mut() {
            Some(first) => *first = schedule,
            None => self.schedules.push(schedule),
        }
        // Now columns say no more than kinds do; what is wrong in them is told by the layout.
        let _ = self.expand();
    }

    /// What happens on evaluation `step`, by the columns, as a kind without a name.
    fn column(&self, step: usize, gates: &BTreeMap<String, bool>) -> Kind {
        let slopes = self.guidance.reuse.forecasts();
        let guidance = match self.guidance.schedule.at(step) {
            // There is no difference yet to take a slope from.
            GuidanceStep::Full if step == 0 && slopes && self.holds_guidance() => {
                GuidanceStep::Restart
            }
            GuidanceStep::Restart if !slopes => GuidanceStep::Full,
            other => other,
        };
        let mut kind = Kind {
            name: String::new(),
            guidance,
            refresh: BTreeSet::new(),
            restart: BTreeSet::new(),
        };
        for model in &self.models {
            for gate in &model.gates {
                let name = gate_name(&model.name, &gate.name);
                let forecasts = gates.get(&name).copied().unwrap_or_default();
                let restarts = step == 0 || gate.schedule.gap(step).is_none();
                match gate.schedule.refreshes(step) {
                    true if forecasts && restarts => kind.restart.insert(name),
                    true => kind.refresh.insert(name),
                    false => false,
                };
            }
        }
        kind
    }

    /// Whether some evaluation holds the guidance difference.
    #[must_use]
    pub fn holds_guidance(&self) -> bool {
        self.guidance.schedule.has(GuidanceStep::Held)
            || self.kinds.iter().any(|k| k.guidance == GuidanceStep::Held)
    }

    /// Whether a model of that role keeps the guidance difference where it runs halves: it is for a
    /// prediction, not for residuals.
    #[must_use]
    pub fn keeps_difference(&self, role: Role) -> bool {
        role != Role::Controlnet && self.holds_guidance()
    }

    /// Whether some evaluation runs half of the batch.
    #[must_use]
    pub fn has_half(&self) -> bool {
        self.guidance.schedule.has_half() || self.kinds.iter().any(Kind::is_half)
    }

    /// A name for a kind: `full` refreshes every gate, `refresh` some, `cross` cross-attention alone,
    /// `reuse` none; `half-` runs the prompted half, `fused-` takes it for both.
    fn name_for(&self, kind: &Kind, gates: &BTreeMap<String, bool>) -> String {
        let runs = |gate: &&String| kind.refresh.contains(*gate) || kind.restart.contains(*gate);
        let fine = |gate: &&String| {
            let name = gate
                .rsplit_once('/')
                .map_or(gate.as_str(), |(_, name)| name);
            name.starts_with("cross")
        };
        let running: Vec<&String> = gates.keys().filter(runs).collect();
        let what = match running.len() {
            n if n == gates.len() && kind.restart.is_empty() => "full",
            n if n == gates.len() => "start",
            0 => "reuse",
            _ if running.iter().all(fine) => "cross",
            _ => "refresh",
        };
        let base = match kind.guidance {
            GuidanceStep::Held => format!("half-{what}"),
            GuidanceStep::Fused => format!("fused-{what}"),
            GuidanceStep::Full | GuidanceStep::Restart => what.to_owned(),
        };
        let taken = |name: &str| self.kinds.iter().any(|k| k.name == name);
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or(base)
    }

    /// The same plan with the columns of another of its schedules, which comes first.
    ///
    /// # Errors
    /// [`KindError`] where kinds or schedules do not fit.
    pub fn under(&self, schedule: usize) -> Result<Self, KindError> {
        let mut plan = self.clone();
        if schedule < plan.schedules.len() {
            plan.schedules.swap(0, schedule);
        }
        plan.expand()?;
        Ok(plan)
    }

    /// Position of each kind that the first schedule runs.
    ///
    /// # Errors
    /// [`KindError`] where kinds or schedules do not fit.
    pub fn evaluations(&self) -> Result<Vec<usize>, KindError> {
        let schedule = self.schedules.first().ok_or(KindError::NoSchedule)?;
        schedule.kinds.iter().map(|n| self.kind(0, n)).collect()
    }

    /// Position of the kind that schedule `schedule` calls `name`.
    pub(super) fn kind(&self, schedule: usize, name: &str) -> Result<usize, KindError> {
        let found = self.kinds.iter().position(|k| k.name == name);
        found.ok_or_else(|| {
            let known = self.kinds.iter().map(|k| k.name.as_str());
            KindError::Unknown {
                schedule,
                name: name.to_owned(),
                hint: crate::nearest::suggestion(name, known),
            }
        })
    }

    /// Derives the columns from kinds and the first schedule.
    ///
    /// # Errors
    /// [`KindError`] where they do not fit each other.
    pub fn expand(&mut self) -> Result<(), KindError> {
        self.check_kinds()?;
        let kinds: Vec<&Kind> = self
            .evaluations()?
            .iter()
            .map(|k| &self.kinds[*k])
            .collect();
        // The first evaluation begins from nothing in any case.
        let first = |step: usize, gating| match gating {
            Gating::Restart if step == 0 => Gating::Refresh,
            other => other,
        };
        let guidance: GuidanceSchedule = kinds
            .iter()
            .enumerate()
            .map(|(step, kind)| match kind.guidance {
                GuidanceStep::Restart if step == 0 => GuidanceStep::Full,
                other => other,
            })
            .collect();
        let columns: Vec<Vec<GateSchedule>> = self
            .models
            .iter()
            .map(|model| {
                let gates = model.gates.iter().map(|gate| {
                    let gating = kinds.iter().enumerate();
                    let gating =
                        gating.map(|(step, k)| first(step, k.gating(&model.name, &gate.name)));
                    gating.collect::<GateSchedule>()
                });
                gates.collect()
            })
            .collect();
        self.steps = guidance.steps();
        self.guidance.schedule = guidance;
        for (model, columns) in self.models.iter_mut().zip(columns) {
            for (gate, schedule) in model.gates.iter_mut().zip(columns) {
                gate.schedule = schedule;
            }
        }
        Ok(())
    }
}
