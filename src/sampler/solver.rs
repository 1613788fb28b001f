//! Which samplers look at earlier predictions.

use std::path::Path;

use serde::Deserialize;

use super::Method;
use crate::limited;
use crate::plan::parameter::Solver;

/// How a scheduler's class, by its name in diffusers or as a sampler's name here, uses predictions.
#[must_use]
pub fn solver_of(name: &str) -> Solver {
    const MULTISTEP: [&str; 8] = [
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "IPNDMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "SASolverScheduler",
        "UniPCMultistepScheduler",
    ];
    let method = name.parse::<Method>().is_ok_and(Method::is_multistep);
    // Schedules name samplers in lower case.
    match method || MULTISTEP.iter().any(|m| m.eq_ignore_ascii_case(name)) {
        true => Solver::Multistep,
        false => Solver::FirstOrder,
    }
}

/// The solver of a pipeline folder, by its `scheduler/scheduler_config.json`; first order where there is
/// none that can be read.
#[must_use]
pub fn solver_in(pipeline: &Path) -> Solver {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "_class_name")]
        name: String,
    }
    let file = pipeline.join("scheduler").join("scheduler_config.json");
    let text = limited::read_text(&file).unwrap_or_default();
    let named = serde_json::from_str::<Named>(&text.replace("-Infinity", "null"));
    named.map_or(Solver::default(), |n| solver_of(&n.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_and_classes_are_told_apart() {
        for name in [
            "dpm++2m",
            "unipc",
            "PNDMScheduler",
            "DPMSolverMultistepScheduler",
            "pndmscheduler",
        ] {
            assert_eq!(solver_of(name), Solver::Multistep, "{name}");
        }
        for name in [
            "ddim",
            "euler",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
            "none",
        ] {
            assert_eq!(solver_of(name), Solver::FirstOrder, "{name}");
        }
        assert_eq!(solver_in(Path::new("no folder")), Solver::FirstOrder);
    }
}
