//! `hgc`: coarse and fine caches as they measure best: refreshes dense at the start and the
//! end, held guidance difference, fused guidance at the very end.

use super::cut_by_macs;
use super::{Decision, Fine, Given, Policy, Use, by, gates, scaled, shares};
use crate::plan::data::Reuse;
use crate::plan::parameter::{
    CONTROL_END, CONTROL_INTERVAL, CONTROL_START, CUT, GATE_STEP, KEY_STEPS, LAMBDA_GUIDANCE,
    LAMBDA_INTER, LAMBDA_INTRA, PROMPTED, Parameters, REUSE, Value, WHOLE_BATCH,
};
use crate::plan::schedule::{GateSchedule, GuidanceSchedule, GuidanceStep};

/// The default policy.
pub struct Hgc;

/// Steps below which the defaults cost more than they should (docs/EVAL.md).
const FEW_STEPS: usize = 16;

static USES: [Use; 12] = [
    Use::derived(&CUT, cut_by_macs, "as many as make 5 % of the MACs"),
    Use::instead_of(&KEY_STEPS, &LAMBDA_INTER),
    Use::derived(&GATE_STEP, late, "nine tenths of the steps"),
    Use::value(&LAMBDA_INTER, "0.4"),
    Use::value(&LAMBDA_INTRA, "0.5"),
    Use::value(&LAMBDA_GUIDANCE, "0.9"),
    Use::neutral(&REUSE, "hold"),
    Use::neutral(&CONTROL_INTERVAL, "1"),
    Use::neutral(&CONTROL_START, "0"),
    Use::neutral(&CONTROL_END, "1"),
    Use::neutral(&PROMPTED, "last"),
    Use::neutral(&WHOLE_BATCH, "false"),
];

/// Where nine tenths of the generation are over: guidance adds little at low noise
/// (arXiv 2404.07724).
fn late(given: &Given<'_>) -> Value {
    Value::Count(((9 * given.steps() + 5) / 10).max(1))
}

impl Policy for Hgc {
    fn name(&self) -> &'static str {
        "hgc"
    }

    fn about(&self) -> &'static str {
        "coarse and fine caches, refreshed most at both ends; guidance held, fused at the very end"
    }

    fn uses(&self) -> &'static [Use] {
        &USES
    }

    fn wants_halves(&self) -> bool {
        true
    }

    fn cuts(&self) -> bool {
        true
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        let at = given.list(&KEY_STEPS);
        let at = at.unwrap_or_else(|| shares::inter(given.steps(), given.share(&LAMBDA_INTER)));
        let deep = given.refresh(&at);
        let reuse = given.reuse(&REUSE);
        Decision {
            guidance: held_then_fused(given, &deep),
            // Guidance multiplies what a forecast of the difference is wrong by.
            guidance_reuse: Reuse::Hold,
            coarse: Some((given.deep(), deep, reuse)),
            control: Some((given.control(&at), reuse)),
            fine: Some(Fine::Share {
                lambda: given.share(&LAMBDA_INTRA),
                reuse,
            }),
            invariant: true,
        }
    }

    fn grid(&self, parameters: &Parameters, _skips: usize) -> Vec<String> {
        let steps = parameters.steps;
        let gates = |of_twenty: &[usize]| by("|", gates(steps, of_twenty));
        vec![
            format!(
                "hgc:gate-step={},lambda-inter=0.1|0.15|0.2|0.25|0.3|0.35|0.4|0.45|0.5|0.6",
                gates(&[2, 5, 10, 15, 16, 18, 20])
            ),
            // Closer to the original for little more compute.
            format!(
                "hgc:gate-step={},lambda-inter=0.3|0.5,lambda-intra=1",
                gates(&[10, 15, 20])
            ),
            // Few refreshes and a gate step well before the end: less dense at the end.
            format!(
                "hgc:gate-step={},key-steps={},lambda-intra=1",
                gates(&[15]),
                by("+", scaled(steps, &[0, 1, 4, 8, 12, 15]))
            ),
        ]
    }

    fn caution(&self, parameters: &Parameters) -> Option<String> {
        let told = |p| parameters.get(p).is_some();
        let daring = parameters.steps < FEW_STEPS && !told(&KEY_STEPS) && !told(&LAMBDA_INTER);
        daring.then(|| {
            format!(
                "of few steps ({}) much changes from one to the next; pictures stay closer with \
                 lambda-inter 0.6, lambda-intra 1 and lambda-guidance 1, for less saved \
                 (docs/EVAL.md)",
                parameters.steps
            )
        })
    }
}

/// Full on a share of the refreshes of `deep`, held between them, fused from the gate on.
fn held_then_fused(given: &Given<'_>, deep: &GateSchedule) -> GuidanceSchedule {
    let gate = given.count(&GATE_STEP);
    let mut before = deep.refresh_steps();
    before.retain(|s| *s < gate);
    let full_at = shares::guided(&before, given.steps(), given.share(&LAMBDA_GUIDANCE));
    given.guidance(|step| match full_at.contains(&step) {
        _ if step >= gate => GuidanceStep::Fused,
        _ if given.switches.contains(&step) => GuidanceStep::Restart,
        true => GuidanceStep::Full,
        false => GuidanceStep::Held,
    })
}
