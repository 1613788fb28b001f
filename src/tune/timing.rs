//! What kinds of evaluations cost where they run, in seconds.

use std::collections::BTreeMap;

use super::{Lab, TuneError};
use crate::pipeline::{Batch, Drawing, Loop};
use crate::plan::Schedule;

/// What a budget is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// MACs of weight operators.
    #[default]
    Macs,
    /// Seconds, measured on the provider.
    Time,
}

/// Each kind is timed so often, after one that warms up; the fastest counts: others were disturbed.
const REPEATS: usize = 3;

/// Nanoseconds of an evaluation of the networks as they are.
pub(super) fn of_original(
    original: &mut Loop,
    run: &Drawing,
    batch: &Batch,
) -> Result<u64, TuneError> {
    let run = Drawing {
        steps: REPEATS + 1,
        ..run.clone()
    };
    let done = original.run(batch, &run, &mut |_, _| {})?;
    Ok(fastest(&done.seconds[1..]))
}

/// Nanoseconds of each kind of a lab.
pub(super) fn of_kinds(
    lab: &Lab,
    networks: &mut Loop,
    run: &Drawing,
    batch: &Batch,
) -> Result<BTreeMap<String, u64>, TuneError> {
    let kinds: Vec<String> = lab
        .planned
        .plan
        .kinds
        .iter()
        .map(|k| k.name.clone())
        .collect();
    let Some(start) = kinds.first() else {
        return Ok(BTreeMap::new());
    };
    let mut found = BTreeMap::new();
    for kind in &kinds {
        // After the start all is there that a kind may read; the first of its kind warms up.
        let repeated = std::iter::repeat_n(kind.clone(), REPEATS + 1);
        let kinds: Vec<String> = std::iter::once(start.clone()).chain(repeated).collect();
        let run = Drawing {
            steps: kinds.len(),
            ..run.clone()
        };
        networks.set_schedule(Some(Schedule {
            sampler: None,
            kinds,
            rows: Vec::new(),
            adaptive: None,
        }));
        let done = networks.run(batch, &run, &mut |_, _| {})?;
        found.insert(kind.clone(), fastest(&done.seconds[2..]));
    }
    Ok(found)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fastest(seconds: &[f64]) -> u64 {
    let least = seconds.iter().copied().fold(f64::MAX, f64::min);
    (least * 1e9) as u64
}
