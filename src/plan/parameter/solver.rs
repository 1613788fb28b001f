//! Two kinds of samplers: what one evaluation leaves stale weighs differently in them.

use std::fmt;
use std::str::FromStr;

/// How a sampler uses what the model predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Solver {
    /// Each prediction alone: its error fades as the noise does.
    #[default]
    FirstOrder,
    /// With the differences between predictions: what is stale on the last evaluation stays in the
    /// picture.
    Multistep,
}

/// Multistep samplers, by their name in diffusers or here.
const MULTISTEP: [&str; 12] = [
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "IPNDMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
    "dpm++2m",
    "lms",
    "pndm",
    "unipc",
];

impl Solver {
    /// How the sampler or scheduler of that name uses predictions. Schedules name samplers in lower case.
    #[must_use]
    pub fn of(sampler: &str) -> Self {
        match MULTISTEP.iter().any(|m| m.eq_ignore_ascii_case(sampler)) {
            true => Self::Multistep,
            false => Self::FirstOrder,
        }
    }

    /// The other kind.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::FirstOrder => Self::Multistep,
            Self::Multistep => Self::FirstOrder,
        }
    }

    /// Its name, as it is given and printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstOrder => "first-order",
            Self::Multistep => "multistep",
        }
    }

    /// Whether what is said to be for `own`, a sampler or a kind of samplers, is for `sampler`.
    #[must_use]
    pub fn serves(own: &str, sampler: &str) -> bool {
        own == sampler || own == Self::of(sampler).name()
    }
}

impl fmt::Display for Solver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Solver {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::FirstOrder, Self::Multistep];
        all.into_iter().find(|s| s.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_and_classes_are_told_apart() {
        for name in ["dpm++2m", "unipc", "PNDMScheduler", "pndmscheduler"] {
            assert_eq!(Solver::of(name), Solver::Multistep, "{name}");
        }
        for name in [
            "ddim",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
            "none",
        ] {
            assert_eq!(Solver::of(name), Solver::FirstOrder, "{name}");
        }
    }

    #[test]
    fn a_kind_serves_its_samplers() {
        assert!(Solver::serves("multistep", "unipc") && Solver::serves("first-order", "euler"));
        assert!(Solver::serves("euler", "euler"));
        assert!(!Solver::serves("multistep", "euler") && !Solver::serves("euler", "ddim"));
    }
}
