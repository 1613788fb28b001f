//! Whether kinds and schedules of a plan make sense.

use std::collections::BTreeSet;

use super::data::Plan;
use super::kinds::gates;

/// Why kinds or schedules of a plan make no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum KindError {
    #[error("the plan has no schedule")]
    NoSchedule,
    #[error("schedule {schedule} has no evaluations")]
    Empty { schedule: usize },
    #[error("schedule {schedule} names the kind {name:?}, which the plan does not have{hint}")]
    Unknown {
        schedule: usize,
        name: String,
        hint: String,
    },
    #[error("two kinds are called {name:?}")]
    Twice { name: String },
    #[error("kind {kind:?} names the gate {gate:?}, which no model has{hint}")]
    Gate {
        kind: String,
        gate: String,
        hint: String,
    },
    #[error(
        "schedule {schedule} begins with {found:?}; the first evaluation is {expected:?}, the first of \
         the kinds, which reads nothing"
    )]
    First {
        schedule: usize,
        found: String,
        expected: String,
    },
    #[error(
        "the first kind, {kind:?}, reads {gate:?}; it must refresh everything with full guidance"
    )]
    Start { kind: String, gate: String },
    #[error("the weights do not fit: {0}")]
    Weights(String),
    #[error("schedule {schedule} cannot be decided while the model runs: {problem}")]
    Adaptive { schedule: usize, problem: String },
}

impl Plan {
    /// Names are unique and known, and every schedule begins with the start.
    pub(super) fn check_kinds(&self) -> Result<(), KindError> {
        let gates = gates(self);
        let mut seen = BTreeSet::new();
        for kind in &self.kinds {
            if !seen.insert(&kind.name) {
                let name = kind.name.clone();
                return Err(KindError::Twice { name });
            }
            let named = kind.refresh.iter().chain(&kind.restart);
            if let Some(gate) = named.into_iter().find(|g| !gates.contains_key(*g)) {
                return Err(KindError::Gate {
                    kind: kind.name.clone(),
                    gate: gate.clone(),
                    hint: crate::nearest::suggestion(gate, gates.keys().map(String::as_str)),
                });
            }
        }
        if let Some(start) = self.kinds.first() {
            let runs =
                |gate: &&String| start.refresh.contains(*gate) || start.restart.contains(*gate);
            let read = gates.keys().find(|g| !runs(g)).cloned();
            if let Some(gate) = read.or_else(|| start.is_half().then(|| "guidance".to_owned())) {
                let kind = start.name.clone();
                return Err(KindError::Start { kind, gate });
            }
        }
        for (schedule, planned) in self.schedules.iter().enumerate() {
            let Some(first) = planned.kinds.first() else {
                return Err(KindError::Empty { schedule });
            };
            for name in &planned.kinds {
                self.kind(schedule, name)?;
            }
            if let Some(adaptive) = &planned.adaptive {
                let forecasts = gates.values().any(|f| *f) || self.guidance.reuse.forecasts();
                let forecasts =
                    forecasts.then(|| "values are forecast, and slopes need a schedule".to_owned());
                let problem = forecasts.or_else(|| adaptive.problem(planned, &self.kinds));
                if let Some(problem) = problem {
                    return Err(KindError::Adaptive { schedule, problem });
                }
            }
            if self.kind(schedule, first)? != 0 {
                let expected = self.kinds.first().map(|k| k.name.clone());
                return Err(KindError::First {
                    schedule,
                    found: first.to_owned(),
                    expected: expected.unwrap_or_default(),
                });
            }
        }
        match self.problem_of_weights() {
            Some(problem) => Err(KindError::Weights(problem)),
            None => Ok(()),
        }
    }
}
