//! Policies: named ways to make a plan for a UNet and its ControlNets together.

mod builder;
mod candidates;
mod decision;
mod options;
pub mod shares;

use std::collections::BTreeMap;

pub use options::{Options, Policy, control_is_on};

use super::data::{FORMAT, Guidance, Plan, Reuse};
use super::schedule::{GuidanceSchedule, GuidanceStep, Schedule};
use crate::analysis::inputs::InputKind;
use crate::analysis::{Analysis, Role};
use builder::{Builder, Proposal};
use decision::{Coarse, Decision, Fine, decide};

/// One file to plan for.
pub struct Target<'a, 'm> {
    /// Its analysis.
    pub analysis: &'a Analysis<'m>,
    /// Its name in the plan: `unet`, `controlnet`, `controlnet_1`, `merged`.
    pub name: String,
    /// Hash of its graph.
    pub hash: String,
}

/// Makes a plan for `targets`: a UNet or merged graph first, then its ControlNets.
#[must_use]
pub fn make(policy: Policy, targets: &[Target<'_, '_>], options: &Options) -> Plan {
    let unet = targets
        .iter()
        .map(|t| t.analysis)
        .find(|a| a.role != Role::Controlnet);
    let unhalved = unet.and_then(|u| unhalved(u, options));
    let halves = unhalved.is_none();
    // Only where a policy asks: it takes a look at every cut.
    let cut = cuts(policy).then(|| options.cut.unwrap_or_else(|| default_cut(targets)));
    let decision = decide(policy, options, halves, cut.unwrap_or(1));
    let mut plan = Plan {
        format: FORMAT,
        policy: policy.name().to_owned(),
        steps: options.steps,
        parameters: parameters(policy, options, cut),
        guidance: Guidance {
            schedule: decision.guidance.clone(),
            reuse: decision.guidance_reuse,
            prompted: options.prompted.unwrap_or_default(),
        },
        models: Vec::new(),
    };
    for target in targets {
        let mut builder = Builder::new(
            target.analysis,
            &decision.guidance,
            &target.name,
            &target.hash,
        );
        if let Some(reason) = unhalved.filter(|_| wants_halves(policy)) {
            builder.refuse("held or fused guidance", reason);
        }
        if policy != Policy::None {
            propose(&mut builder, target.analysis, &decision, options);
        }
        let model = builder.finish(&plan);
        plan.models.push(model);
    }
    plan
}

/// Why no step of this UNet can run half of a guided batch, if so.
#[must_use]
pub fn unhalved(unet: &Analysis<'_>, options: &Options) -> Option<&'static str> {
    if options.prompted.is_none() {
        Some("models run without classifier-free guidance (--prompted none)")
    } else if options.whole_batch {
        Some("both halves run on every step (--whole-batch)")
    } else if unet.inputs(InputKind::GuidanceEmbedding).next().is_some() {
        Some("this UNet takes the guidance scale as an input; it runs one half alone")
    } else if !unet.can_halve() {
        Some(
            "the batch is fixed in this UNet, or is lost on the way to its output; export it with a dynamic batch",
        )
    } else {
        None
    }
}

/// Whether the policy runs half of a guided batch on some steps.
#[must_use]
pub fn wants_halves(policy: Policy) -> bool {
    matches!(policy, Policy::TGate | Policy::HgcPaper | Policy::Hgc)
}

/// Whether the policy cuts the UNet at a skip connection.
fn cuts(policy: Policy) -> bool {
    matches!(policy, Policy::DeepCache | Policy::HgcPaper | Policy::Hgc)
}

/// The cut at which [`shares::SHALLOW`] of the MACs of all files runs on a reuse step.
fn default_cut(targets: &[Target<'_, '_>]) -> usize {
    let (mut unets, mut others) = (Vec::new(), Vec::new());
    for target in targets {
        match target.analysis.role {
            Role::Unet | Role::Merged => unets.push(target.analysis),
            Role::Controlnet | Role::Other => others.push(target.analysis),
        }
    }
    unets
        .first()
        .map_or(1, |unet| candidates::cut(unet, &others, shares::SHALLOW))
}

fn propose(
    builder: &mut Builder<'_, '_>,
    analysis: &Analysis<'_>,
    decision: &Decision,
    options: &Options,
) {
    match analysis.role {
        Role::Unet | Role::Merged => propose_coarse(builder, analysis, decision),
        Role::Controlnet => propose_control(builder, analysis, decision),
        Role::Other => {}
    }
    if let Some(fine) = &decision.fine {
        propose_fine(builder, analysis, (fine, &decision.guidance), options);
    }
    if decision.invariant {
        propose_invariant(builder, analysis, options.steps);
    }
}

fn propose_coarse(builder: &mut Builder<'_, '_>, analysis: &Analysis<'_>, decision: &Decision) {
    let Some((coarse, schedule, reuse)) = &decision.coarse else {
        return;
    };
    let skips = analysis.skips.len();
    let (name, tensors, why) = match coarse {
        Coarse::Deep { run } => {
            let why = format!("blocks deeper than the outermost {run} of {skips} skips");
            ("deep", candidates::deep(analysis, *run), why)
        }
        Coarse::Encoder => (
            "encoder",
            candidates::encoder(analysis),
            "encoder skips and mid block".to_owned(),
        ),
    };
    let Some(tensors) = tensors else {
        builder.refuse(name, format!("the graph has {skips} skip connections"));
        return;
    };
    builder.add(Proposal {
        name: name.to_owned(),
        gate: name.to_owned(),
        schedule: schedule.clone(),
        reuse: *reuse,
        mean: false,
        tensors,
        why,
    });
    if let Some((control, reuse)) = &decision.control {
        let tensors = candidates::merged_control(analysis);
        if !tensors.is_empty() && control != schedule {
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
    options: &Options,
) {
    // Control changes what the decoder's attentions see.
    let switches = match analysis.role {
        Role::Controlnet => Vec::new(),
        _ => options.switches(),
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
        };
        builder.add(Proposal {
            name: format!("cross.{block}"),
            gate,
            schedule: Schedule::at(options.steps, &refresh).restarting(&switches),
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
            schedule: Schedule::at(steps, &[0]),
            reuse: Reuse::Hold,
            mean: false,
            tensors,
            why: "the same on every step".to_owned(),
        });
    }
}

fn parameters(policy: Policy, options: &Options, cut: Option<usize>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |key: &str, value: String| found.insert(key.to_owned(), value);
    if let Some(cut) = cut {
        put("cut", cut.to_string());
    }
    if options.control_start > 0.0 {
        put("control-start", options.control_start.to_string());
    }
    if options.control_end < 1.0 {
        put("control-end", options.control_end.to_string());
    }
    if options.whole_batch && wants_halves(policy) {
        put("whole-batch", options.whole_batch.to_string());
    }
    match policy {
        Policy::None | Policy::Lossless => {}
        Policy::DeepCache => {
            put("interval", options.interval.to_string());
        }
        Policy::FasterDiffusion => {
            put("key-steps", listed(&options.key_steps()));
        }
        Policy::TGate => {
            put("gate-step", options.gate_or_middle().to_string());
        }
        Policy::HgcPaper | Policy::Hgc => {
            if policy == Policy::Hgc && options.key_steps.is_some() {
                put("key-steps", listed(&options.key_steps()));
            } else {
                put("lambda-inter", options.lambda_inter.to_string());
            }
            put("lambda-intra", options.lambda_intra.to_string());
            put("control-interval", options.control_interval.to_string());
            if policy == Policy::HgcPaper {
                put("gate-step", options.gate_or_middle().to_string());
            } else {
                put("gate-step", options.gate_or_late().to_string());
                put("lambda-guidance", options.lambda_guidance.to_string());
                put("reuse", options.reuse.to_string());
            }
        }
    }
    found
}

fn listed(steps: &[usize]) -> String {
    let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
    steps.join(",")
}
