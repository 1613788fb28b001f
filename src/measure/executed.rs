//! What ran on each step, from the runtime's profile, against the plan.

use std::path::PathBuf;

use super::MeasureError;
use super::profile::{self, Ledger};
use super::verdict::Check;
use super::verify::Proof;
use crate::analysis::Role;
use crate::analysis::macs::Macs;
use crate::graph::NodeId;

impl Proof<'_, '_> {
    /// The nodes and MACs of each step from the profile against the plan.
    pub(super) fn executed(&self, profiles: &[PathBuf]) -> Result<Check, MeasureError> {
        let ledger = Ledger::new(self.analysis);
        let mut runs = profile::runs(profiles, self.plan)?;
        // What follows are runs of other proofs.
        runs.truncate(self.plan.steps);
        let batch = self.analysis.sizes.batch;
        let mut problems = Vec::new();
        for (step, run) in runs.iter().enumerate() {
            let nodes = self.analysis.graph.nodes();
            let planned: Vec<_> = nodes
                .filter(|n| self.layout.runs(*n, step) && ledger.is_visible(*n))
                .collect();
            let seen = ledger.nodes(run);
            if let Some(extra) = seen.iter().find(|n| planned.binary_search(n).is_err()) {
                let name = self.analysis.graph.node_label(*extra);
                problems.push(format!(
                    "step {step}: node {name:?} ran, but is planned to be reused"
                ));
            }
            // Even with optimisation off the runtime drops casts that change nothing, and
            // replaces operators without a kernel by their definition: only what
            // multiplies is sure to show.
            let dropped =
                |n: &&NodeId| seen.binary_search(n).is_err() && self.analysis.macs(**n, 1).all > 0;
            if let Some(missing) = planned.iter().find(dropped) {
                let name = self.analysis.graph.node_label(*missing);
                problems.push(format!("step {step}: node {name:?} did not run"));
            }
            let half = self.model_plan.halves && self.plan.guidance.schedule.is_half(step);
            let rows = if half { batch / 2 } else { batch };
            let expected: Macs = self.analysis.macs_of(planned.iter().copied(), rows);
            let measured = ledger.macs(run);
            if expected != measured {
                problems.push(format!(
                    "step {step}: {} MACs ran, {} are planned",
                    measured.all, expected.all
                ));
            }
        }
        if runs.len() != self.plan.steps {
            problems.push(format!("the profile has {} runs", runs.len()));
        }
        let detail = match problems.first() {
            Some(first) => format!("{first} ({} deviations)", problems.len()),
            None => {
                let kind = if self.analysis.role == Role::Controlnet {
                    "residuals"
                } else {
                    "UNet"
                };
                let mut told = format!("{kind}: on every step just the planned nodes and MACs ran");
                if ledger.anonymous > 0 {
                    let n = ledger.anonymous;
                    told += &format!(" ({n} nodes that share their names are not told apart)");
                }
                if !ledger.uncounted.is_empty() {
                    let n = ledger.uncounted.len();
                    told += &format!(" ({n} nodes of unknown shape have no MACs to compare)");
                }
                told
            }
        };
        Ok(Check {
            name: "executed",
            pass: problems.is_empty(),
            detail,
        })
    }
}
