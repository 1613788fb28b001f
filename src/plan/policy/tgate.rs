//! `tgate`: cache cross-attention from a gate step, fuse guidance (arXiv 2404.02747).

use super::decision::middle;
use super::{Decision, Fine, Given, Policy, Use, by, gates};
use crate::plan::parameter::{
    CONTROL_END, CONTROL_ROWS, CONTROL_START, GATE_STEP, PROMPTED, Parameters, WHOLE_BATCH,
};

/// Cache cross-attention from a gate step, fuse guidance.
pub struct TGate;

static USES: [Use; 6] = [
    Use::derived(&GATE_STEP, middle, "half of the steps"),
    Use::neutral(&CONTROL_START, "0"),
    Use::neutral(&CONTROL_END, "1"),
    Use::neutral(&PROMPTED, "last"),
    Use::neutral(&CONTROL_ROWS, "all"),
    Use::neutral(&WHOLE_BATCH, "false"),
];

impl Policy for TGate {
    fn name(&self) -> &'static str {
        "tgate"
    }

    fn about(&self) -> &'static str {
        "cache cross-attention from a gate step, fuse guidance (T-GATE)"
    }

    fn uses(&self) -> &'static [Use] {
        &USES
    }

    fn wants_halves(&self) -> bool {
        true
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        let gate = given.count(&GATE_STEP);
        Decision {
            guidance: given.fused_from_gate(),
            fine: Some(Fine::AfterGate { gate, lambda: 0.0 }),
            ..given.nothing()
        }
    }

    fn grid(&self, parameters: &Parameters, _skips: usize) -> Vec<String> {
        let gates = gates(parameters.steps, &[2, 5, 10, 15]);
        vec![format!("tgate:gate-step={}", by("|", gates))]
    }
}
