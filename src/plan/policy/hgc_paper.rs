//! `hgc-paper`: coarse and fine caches with held values and fused guidance (arXiv 2511.11031).

use super::cut_by_macs;
use super::decision::middle;
use super::{Decision, Fine, Given, Policy, Use, by, gates, shares};
use crate::plan::data::Reuse;
use crate::plan::parameter::{
    CONTROL_END, CONTROL_INTERVAL, CONTROL_ROWS, CONTROL_START, CUT, GATE_STEP, LAMBDA_INTER,
    LAMBDA_INTRA, PROMPTED, Parameters, WHOLE_BATCH,
};

/// Coarse and fine caches as the paper describes them.
pub struct HgcPaper;

static USES: [Use; 10] = [
    Use::derived(&CUT, cut_by_macs, "as many as make 5 % of the MACs"),
    Use::derived(&GATE_STEP, middle, "half of the steps"),
    Use::value(&LAMBDA_INTER, "0.4"),
    Use::value(&LAMBDA_INTRA, "0.5"),
    Use::neutral(&CONTROL_INTERVAL, "1"),
    Use::neutral(&CONTROL_START, "0"),
    Use::neutral(&CONTROL_END, "1"),
    Use::neutral(&PROMPTED, "last"),
    Use::neutral(&CONTROL_ROWS, "all"),
    Use::neutral(&WHOLE_BATCH, "false"),
];

impl Policy for HgcPaper {
    fn name(&self) -> &'static str {
        "hgc-paper"
    }

    fn about(&self) -> &'static str {
        "coarse and fine caches, held values, fused guidance (Hybrid-Grained Cache)"
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
        let steps = given.steps();
        let count = shares::share_of(given.share(&LAMBDA_INTER), steps);
        let at: Vec<usize> = (0..count).map(|k| k * steps / count).collect();
        Decision {
            guidance: given.fused_from_gate(),
            coarse: vec![(given.deep(), given.refresh(&at), Reuse::Hold)],
            control: Some((given.control(&at), Reuse::Hold)),
            fine: Some(Fine::AfterGate {
                gate: given.count(&GATE_STEP),
                lambda: given.share(&LAMBDA_INTRA),
            }),
            invariant: true,
            ..given.nothing()
        }
    }

    fn grid(&self, parameters: &Parameters, _skips: usize) -> Vec<String> {
        let gates = gates(parameters.steps, &[5, 10, 15]);
        vec![format!(
            "hgc-paper:gate-step={},lambda-inter=0.1|0.2|0.3|0.5,lambda-intra=0|0.5",
            by("|", gates)
        )]
    }
}
