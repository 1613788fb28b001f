//! `faster-diffusion`: cache encoder skips and mid block, run the decoder (arXiv 2312.09608).

use super::{Coarse, Decision, Given, Policy, Use, by};
use crate::plan::data::Reuse;
use crate::plan::parameter::{
    CONTROL_END, CONTROL_INTERVAL, CONTROL_START, KEY_STEPS, Parameters, Value,
};

/// Cache encoder skips and mid block, run the decoder.
pub struct FasterDiffusion;

static USES: [Use; 4] = [
    Use::derived(&KEY_STEPS, published, "the published ones"),
    Use::neutral(&CONTROL_INTERVAL, "1"),
    Use::neutral(&CONTROL_START, "0"),
    Use::neutral(&CONTROL_END, "1"),
];

fn published(given: &Given<'_>) -> Value {
    Value::Steps(published_for(given.steps()))
}

/// The published key steps, which are for 50 steps, brought to another number.
fn published_for(steps: usize) -> Vec<usize> {
    const OF_FIFTY: [usize; 9] = [0, 1, 2, 3, 5, 10, 15, 25, 35];
    let mut scaled: Vec<usize> = OF_FIFTY.iter().map(|s| s * steps / 50).collect();
    scaled.dedup();
    scaled
}

impl Policy for FasterDiffusion {
    fn name(&self) -> &'static str {
        "faster-diffusion"
    }

    fn about(&self) -> &'static str {
        "cache encoder skips and mid block, run the decoder (Faster Diffusion)"
    }

    fn uses(&self) -> &'static [Use] {
        &USES
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        let at = given.list(&KEY_STEPS).unwrap_or_default();
        Decision {
            coarse: vec![(Coarse::Encoder, given.refresh(&at), Reuse::Hold)],
            control: Some((given.control(&at), Reuse::Hold)),
            ..given.nothing()
        }
    }

    fn grid(&self, parameters: &Parameters, _skips: usize) -> Vec<String> {
        let steps = parameters.steps;
        // Evenly spaced, and as published.
        let even = [2, 3, 5, 8]
            .into_iter()
            .filter(|gap| *gap < steps)
            .map(|gap| (0..steps).step_by(gap).collect::<Vec<_>>());
        let published = published_for(steps);
        let mut early = published.clone();
        early.retain(|s| *s <= steps / 4);
        let lists = even.chain([published, early]).map(|list| by("+", list));
        vec![format!("faster-diffusion:key-steps={}", by("|", lists))]
    }
}
