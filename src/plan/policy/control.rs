//! `control`: ControlNets alone run at a fixed interval, the UNet always. What the others gain over it
//! is what caching the UNet gains.

use super::{Decision, Given, Policy, Use, by};
use crate::plan::data::Reuse;
use crate::plan::parameter::{CONTROL_END, CONTROL_START, INTERVAL, Parameters};

/// ControlNets alone, at a fixed interval.
pub struct Control;

static USES: [Use; 3] = [
    Use::value(&INTERVAL, "3"),
    Use::neutral(&CONTROL_START, "0"),
    Use::neutral(&CONTROL_END, "1"),
];

impl Policy for Control {
    fn name(&self) -> &'static str {
        "control"
    }

    fn about(&self) -> &'static str {
        "cache ControlNets alone, at a fixed interval"
    }

    fn uses(&self) -> &'static [Use] {
        &USES
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        let at: Vec<usize> = (0..given.steps()).step_by(given.count(&INTERVAL)).collect();
        Decision {
            control: Some((given.refresh(&at), Reuse::Hold)),
            ..given.nothing()
        }
    }

    fn grid(&self, parameters: &Parameters, _: usize) -> Vec<String> {
        let intervals = [2, 3, 5, 8].into_iter().filter(|i| *i < parameters.steps);
        vec![format!("control:interval={}", by("|", intervals))]
    }
}
