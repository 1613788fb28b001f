//! Which samplers look at earlier predictions.

use std::path::Path;

use serde::Deserialize;

use crate::limited;
use crate::plan::parameter::Solver;

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
    named.map_or(Solver::default(), |n| Solver::of(&n.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Method;

    #[test]
    fn samplers_agree_with_their_names() {
        for method in Method::ALL {
            assert_eq!(
                method.solver(),
                Solver::of(method.name()),
                "{}",
                method.name()
            );
        }
        assert_eq!(solver_in(Path::new("no folder")), Solver::FirstOrder);
    }
}
