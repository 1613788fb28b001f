//! Where a decision puts its sites in a graph.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Builder, Proposal};
use super::decision::{Coarse, Decision, Fine};
use super::{candidates, shares};
use crate::analysis::{Analysis, Role};
use crate::plan::data::Reuse;
use crate::plan::parameter::Parameters;
use crate::plan::schedule::{GateSchedule, GuidanceSchedule, GuidanceStep};

/// The site of the deep blocks; those of further cuts are called after it.
pub const DEEP: &str = "deep";

/// Proposes every site that the decision asks for.
pub fn propose(
    builder: &mut Builder<'_, '_>,
    analysis: &Analysis<'_>,
    decision: &Decision,
    parameters: &Parameters,
) {
    match analysis.role {
        Role::Unet | Role::Merged => propose_coarse(builder, analysis, decision),
        Role::Controlnet => propose_control(builder, analysis, decision),
        Role::Other => {}
    }
    if let Some(fine) = &decision.fine {
        propose_fine(builder, analysis, (fine, &decision.guidance), parameters);
    }
    if decision.invariant {
        propose_invariant(builder, analysis, parameters.steps);
    }
}

fn propose_coarse(builder: &mut Builder<'_, '_>, analysis: &Analysis<'_>, decision: &Decision) {
    let skips = analysis.skips.len();
    let mut outer = BTreeSet::new();
    for (nth, (coarse, schedule, reuse)) in decision.coarse.iter().enumerate() {
        let (name, tensors, why) = match coarse {
            Coarse::Deep { run } => {
                let name = match nth {
                    0 => DEEP.to_owned(),
                    _ => format!("{DEEP}.{run}"),
                };
                let why = format!("blocks deeper than the outermost {run} of {skips} skips");
                (name, candidates::deep(analysis, *run), why)
            }
            Coarse::Encoder => (
                "encoder".to_owned(),
                candidates::encoder(analysis),
                "encoder skips and mid block".to_owned(),
            ),
        };
        let Some(mut tensors) = tensors else {
            builder.refuse(name, format!("the graph has {skips} skip connections"));
            continue;
        };
        // Residuals of a merged ControlNet that are outside of a deeper cut belong to the wider one.
        tensors.retain(|tensor| outer.insert(*tensor));
        builder.add(Proposal {
            gate: name.clone(),
            name,
            schedule: schedule.clone(),
            reuse: *reuse,
            mean: false,
            tensors,
            why,
        });
    }
    let around = decision.coarse.first().map(|(_, schedule, _)| schedule);
    propose_merged_control(builder, analysis, decision, around);
}

/// The ControlNet inside a merged graph, where it does not follow the blocks around it.
fn propose_merged_control(
    builder: &mut Builder<'_, '_>,
    analysis: &Analysis<'_>,
    decision: &Decision,
    around: Option<&GateSchedule>,
) {
    let Some((control, reuse)) = &decision.control else {
        return;
    };
    let tensors = candidates::merged_control(analysis);
    if !tensors.is_empty() && Some(control) != around {
        builder.add(Proposal {
            name: "control".to_owned(),
            gate: "control".to_owned(),
            schedule: control.clone(),
            reuse: *reuse,
            mean: false,
            tensors,
            why: "the merged ControlNet".to_owned(),
        });
    }
}

fn propose_control(builder: &mut Builder<'_, '_>, analysis: &Analysis<'_>, decision: &Decision) {
    let Some((schedule, reuse)) = &decision.control else {
        return;
    };
    builder.add(Proposal {
        name: "residuals".to_owned(),
        gate: "control".to_owned(),
        schedule: schedule.clone(),
        reuse: *reuse,
        mean: false,
        tensors: candidates::residuals(analysis),
        why: "residuals run where the UNet's deeper blocks do; others read the cache".to_owned(),
    });
}

fn propose_fine(
    builder: &mut Builder<'_, '_>,
    analysis: &Analysis<'_>,
    (fine, guidance): (&Fine, &GuidanceSchedule),
    parameters: &Parameters,
) {
    // Control changes what the decoder's attentions see.
    let switches = match analysis.role {
        Role::Controlnet => Vec::new(),
        _ => parameters.switches(),
    };
    for (block, output) in candidates::cross_attention(analysis) {
        if analysis.graph.producer(output).is_none() {
            builder.refuse(
                format!("cross.{block}"),
                "its output is not computed by a node",
            );
            continue;
        }
        let (reached, around) = builder.enclosing(output);
        let nested = around.is_some();
        let gate = around.map_or_else(|| "cross".to_owned(), |a| format!("cross.{a}"));
        let (refresh, reuse, mean) = match fine {
            Fine::Share { lambda, reuse } => {
                let refresh = share_of_whole(&reached, nested, guidance, *lambda);
                (refresh, *reuse, false)
            }
            Fine::AfterGate { gate, lambda } => {
                let (mut before, after): (Vec<usize>, Vec<usize>) =
                    reached.iter().partition(|s| *s < gate);
                if *lambda > 0.0 && !after.is_empty() {
                    before.extend(shares::intra(&after, *lambda));
                }
                (before, Reuse::Hold, true)
            }
            Fine::At { schedule, reuse } => (schedule.refresh_steps(), *reuse, false),
        };
        builder.add(Proposal {
            name: format!("cross.{block}"),
            gate,
            schedule: GateSchedule::at(parameters.steps, &refresh).restarting(&switches),
            reuse,
            mean,
            tensors: vec![output],
            why: "cross-attention output".to_owned(),
        });
    }
}

/// A share of the steps on which a module is reached. Inside a site, a refresh that runs
/// half of the batch would serve no full step after it, so it does not count.
fn share_of_whole(
    reached: &[usize],
    nested: bool,
    guidance: &GuidanceSchedule,
    lambda: f64,
) -> Vec<usize> {
    let mut whole = reached.to_vec();
    whole.retain(|s| !nested || guidance.at(*s) != GuidanceStep::Held);
    let refresh = shares::intra(&whole, lambda);
    if refresh.len() == whole.len() {
        return reached.to_vec();
    }
    refresh
}

/// One site for the invariant values inside each site that refreshes more than once.
fn propose_invariant(builder: &mut Builder<'_, '_>, analysis: &Analysis<'_>, steps: usize) {
    let mut groups: BTreeMap<Option<String>, Vec<_>> = BTreeMap::new();
    for value in candidates::invariant_values(analysis) {
        let (reached, around) = builder.enclosing(value);
        if reached.len() > 1 {
            groups
                .entry(around.map(str::to_owned))
                .or_default()
                .push(value);
        }
    }
    for (around, tensors) in groups {
        let name = around.map_or_else(|| "constant".to_owned(), |a| format!("constant.{a}"));
        builder.add(Proposal {
            name,
            gate: "once".to_owned(),
            schedule: GateSchedule::at(steps, &[0]),
            reuse: Reuse::Hold,
            mean: false,
            tensors,
            why: "the same on every step".to_owned(),
        });
    }
}
