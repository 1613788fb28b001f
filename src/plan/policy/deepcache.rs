//! `deepcache`: cut at one skip connection, refresh at a fixed interval (arXiv 2312.00858).

use super::cut_by_macs;
use super::{Decision, Given, Policy, Use, by};
use crate::plan::data::Reuse;
use crate::plan::parameter::{
    CONTROL_END, CONTROL_INTERVAL, CONTROL_START, CUT, INTERVAL, Parameters,
};

/// Cut at one skip connection, refresh at a fixed interval.
pub struct DeepCache;

static USES: [Use; 5] = [
    Use::derived(&CUT, cut_by_macs, "as many as make 5 % of the MACs"),
    Use::value(&INTERVAL, "3"),
    Use::neutral(&CONTROL_INTERVAL, "1"),
    Use::neutral(&CONTROL_START, "0"),
    Use::neutral(&CONTROL_END, "1"),
];

impl Policy for DeepCache {
    fn name(&self) -> &'static str {
        "deepcache"
    }

    fn about(&self) -> &'static str {
        "cut at one skip connection, refresh at a fixed interval (DeepCache)"
    }

    fn uses(&self) -> &'static [Use] {
        &USES
    }

    fn cuts(&self) -> bool {
        true
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        let at: Vec<usize> = (0..given.steps()).step_by(given.count(&INTERVAL)).collect();
        Decision {
            coarse: vec![(given.deep(), given.refresh(&at), Reuse::Hold)],
            control: Some((given.control(&at), Reuse::Hold)),
            ..given.nothing()
        }
    }

    fn grid(&self, parameters: &Parameters, skips: usize) -> Vec<String> {
        let mut cuts = vec![1, skips / 4, skips / 2, 3 * skips / 4];
        cuts.retain(|c| *c > 0);
        cuts.dedup();
        let intervals = [2, 3, 5, 8].into_iter().filter(|i| *i < parameters.steps);
        vec![format!(
            "deepcache:cut={},interval={}",
            by("|", cuts),
            by("|", intervals)
        )]
    }
}
