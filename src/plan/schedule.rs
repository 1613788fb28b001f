//! Schedules: what a gate or the guidance does on each step.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A schedule that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A character that means nothing.
    #[error("schedule {text:?} has {found:?} at step {step}; use {allowed}")]
    Character {
        /// The whole schedule.
        text: String,
        /// The character.
        found: char,
        /// Its position.
        step: usize,
        /// What may stand there.
        allowed: &'static str,
    },
}

/// What a gate does on one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// The region runs.
    Refresh,
    /// The region runs and its past is forgotten: a forecast starts without a slope.
    /// For steps on which an input jumps, such as control switching on or off.
    Restart,
    /// The cache is read.
    Reuse,
}

/// Refresh (`R`), restart (`N`) or reuse (`.`) by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GateSchedule {
    gating: Vec<Gating>,
}

impl GateSchedule {
    /// The schedule of `steps` steps that refreshes where `refresh` says so. Step 0
    /// always refreshes: there is nothing to reuse yet.
    pub fn new(steps: usize, refresh: impl Fn(usize) -> bool) -> Self {
        let at = |s| {
            if s == 0 || refresh(s) {
                Gating::Refresh
            } else {
                Gating::Reuse
            }
        };
        Self {
            gating: (0..steps).map(at).collect(),
        }
    }

    /// The schedule that refreshes on the given steps.
    #[must_use]
    pub fn at(steps: usize, refresh: &[usize]) -> Self {
        Self::new(steps, |s| refresh.contains(&s))
    }

    /// The same with restarts on the given steps.
    #[must_use]
    pub fn restarting(mut self, steps: &[usize]) -> Self {
        for &step in steps {
            if let Some(gating) = self.gating.get_mut(step) {
                *gating = Gating::Restart;
            }
        }
        self
    }

    /// The same with refreshes on more steps.
    #[must_use]
    pub fn refreshing(mut self, steps: &[usize]) -> Self {
        for &step in steps {
            if let Some(gating @ Gating::Reuse) = self.gating.get_mut(step) {
                *gating = Gating::Refresh;
            }
        }
        self
    }

    /// Number of steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.gating.len()
    }

    /// Whether step `step` refreshes.
    #[must_use]
    pub fn refreshes(&self, step: usize) -> bool {
        self.gating.get(step) != Some(&Gating::Reuse)
    }

    /// The refresh steps.
    #[must_use]
    pub fn refresh_steps(&self) -> Vec<usize> {
        (0..self.steps()).filter(|s| self.refreshes(*s)).collect()
    }

    /// The steps that restart, without step 0.
    #[must_use]
    pub fn restarts(&self) -> Vec<usize> {
        (1..self.steps())
            .filter(|s| self.gating[*s] == Gating::Restart)
            .collect()
    }

    /// The last refresh before `step`.
    #[must_use]
    pub fn last_refresh(&self, step: usize) -> Option<usize> {
        (0..step.min(self.steps()))
            .rev()
            .find(|s| self.refreshes(*s))
    }

    /// On a refresh, the steps since the one before, from which a slope is taken; none
    /// on the first refresh and on a restart.
    #[must_use]
    pub fn gap(&self, step: usize) -> Option<usize> {
        if self.gating.get(step) == Some(&Gating::Restart) {
            return None;
        }
        self.last_refresh(step).map(|last| step - last)
    }

    /// Refreshes that would take a slope of a whole batch from a refresh that ran half.
    #[must_use]
    pub fn short_slopes(&self, half: impl Fn(usize) -> bool) -> Vec<usize> {
        let refreshes = (0..self.steps()).filter(|s| self.refreshes(*s));
        refreshes
            .filter(|s| !half(*s) && self.gap(*s).is_some_and(|gap| half(s - gap)))
            .collect()
    }
}

impl fmt::Display for GateSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gating.iter().try_for_each(|g| {
            f.write_str(match g {
                Gating::Refresh => "R",
                Gating::Restart => "N",
                Gating::Reuse => ".",
            })
        })
    }
}

impl FromIterator<Gating> for GateSchedule {
    fn from_iter<I: IntoIterator<Item = Gating>>(gating: I) -> Self {
        Self {
            gating: gating.into_iter().collect(),
        }
    }
}

impl From<GateSchedule> for String {
    fn from(schedule: GateSchedule) -> Self {
        schedule.to_string()
    }
}

impl TryFrom<String> for GateSchedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        let parse = |(step, found)| match found {
            'R' => Ok(Gating::Refresh),
            'N' => Ok(Gating::Restart),
            '.' => Ok(Gating::Reuse),
            _ => {
                let allowed = "R (refresh), N (refresh from nothing) or . (reuse)";
                Err(ScheduleError::Character {
                    text: text.clone(),
                    found,
                    step,
                    allowed,
                })
            }
        };
        let gating = text
            .chars()
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { gating })
    }
}

/// What the guidance does on one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuidanceStep {
    /// Both halves of the batch run.
    Full,
    /// Both halves run and the held difference starts without a slope.
    Restart,
    /// The prompted half runs; the difference to the other is that of the last full step.
    Held,
    /// The prompted half runs and stands for both.
    Fused,
}

impl GuidanceStep {
    /// Whether this computes all that `other` does: both halves, or one and the difference.
    #[must_use]
    pub fn is_at_least(self, other: Self) -> bool {
        let rank = |step| match step {
            Self::Fused => 0,
            Self::Held => 1,
            Self::Full => 2,
            Self::Restart => 3,
        };
        rank(self) >= rank(other)
    }
}

/// Guidance by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuidanceSchedule {
    modes: Vec<GuidanceStep>,
}

impl GuidanceSchedule {
    /// The schedule of `steps` steps with the given modes; step 0 is full.
    pub fn new(steps: usize, mode: impl Fn(usize) -> GuidanceStep) -> Self {
        let at = |s| if s == 0 { GuidanceStep::Full } else { mode(s) };
        Self {
            modes: (0..steps).map(at).collect(),
        }
    }

    /// Both halves on every step.
    #[must_use]
    pub fn full(steps: usize) -> Self {
        Self::new(steps, |_| GuidanceStep::Full)
    }

    /// Number of steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.modes.len()
    }

    /// What step `step` does.
    #[must_use]
    pub fn at(&self, step: usize) -> GuidanceStep {
        self.modes.get(step).copied().unwrap_or(GuidanceStep::Full)
    }

    /// Whether step `step` runs the prompted half alone.
    #[must_use]
    pub fn is_half(&self, step: usize) -> bool {
        matches!(self.at(step), GuidanceStep::Held | GuidanceStep::Fused)
    }

    /// Whether any step runs the prompted half alone.
    #[must_use]
    pub fn has_half(&self) -> bool {
        (0..self.steps()).any(|s| self.is_half(s))
    }

    /// Whether any step does this.
    #[must_use]
    pub fn has(&self, mode: GuidanceStep) -> bool {
        self.modes.contains(&mode)
    }

    /// Full steps as a refresh schedule: when the held difference is renewed.
    #[must_use]
    pub fn full_steps(&self) -> GateSchedule {
        let restarts: Vec<usize> = (0..self.steps())
            .filter(|s| self.at(*s) == GuidanceStep::Restart)
            .collect();
        GateSchedule::new(self.steps(), |s| !self.is_half(s)).restarting(&restarts)
    }
}

impl FromIterator<GuidanceStep> for GuidanceSchedule {
    fn from_iter<I: IntoIterator<Item = GuidanceStep>>(modes: I) -> Self {
        Self {
            modes: modes.into_iter().collect(),
        }
    }
}

impl From<GuidanceSchedule> for String {
    fn from(schedule: GuidanceSchedule) -> Self {
        let letter = |mode: &GuidanceStep| match mode {
            GuidanceStep::Full => 'F',
            GuidanceStep::Restart => 'N',
            GuidanceStep::Held => 'H',
            GuidanceStep::Fused => 'U',
        };
        schedule.modes.iter().map(letter).collect()
    }
}

impl TryFrom<String> for GuidanceSchedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        let parse = |(step, found)| match found {
            'F' => Ok(GuidanceStep::Full),
            'N' => Ok(GuidanceStep::Restart),
            'H' => Ok(GuidanceStep::Held),
            'U' => Ok(GuidanceStep::Fused),
            _ => {
                let allowed = "F (full), N (full from nothing), H (held) or U (fused)";
                Err(ScheduleError::Character {
                    text: text.clone(),
                    found,
                    step,
                    allowed,
                })
            }
        };
        let modes = text
            .chars()
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { modes })
    }
}
