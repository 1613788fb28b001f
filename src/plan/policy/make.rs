//! From a policy's decision to a plan.

use std::collections::BTreeMap;

use super::builder::Builder;
use super::propose::propose;
use super::{Given, Policy, candidates, shares};
use crate::analysis::inputs::InputKind;
use crate::analysis::{Analysis, Role};
use crate::plan::Weights;
use crate::plan::data::{FORMAT, Guidance, Plan};
use crate::plan::parameter::{ControlRows, PROMPTED, Parameters};

/// One file to plan for.
pub struct Analysed<'a, 'm> {
    /// Its analysis.
    pub analysis: &'a Analysis<'m>,
    /// Its name in the plan: `unet`, `controlnet`, `controlnet_1`, `merged`.
    pub name: String,
    /// Hash of its graph.
    pub hash: String,
}

/// Makes a plan for `targets`: a UNet or merged graph first, then its ControlNets.
#[must_use]
pub fn make(policy: &dyn Policy, targets: &[Analysed<'_, '_>], parameters: &Parameters) -> Plan {
    let unet = targets
        .iter()
        .map(|t| t.analysis)
        .find(|a| a.role != Role::Controlnet);
    let unhalved = unet.and_then(|u| unhalved(u, parameters));
    // Only where it is needed: it takes a look at every cut.
    let by_macs = policy.cuts() && parameters.get(&crate::plan::parameter::CUT).is_none();
    let all: Vec<&Analysis<'_>> = targets.iter().map(|t| t.analysis).collect();
    let cut = if by_macs { default_cut(&all) } else { 1 };
    let given = Given::new(policy, parameters, unhalved.is_none(), cut);
    let decision = policy.decide(&given);
    let mut plan = Plan {
        format: FORMAT,
        policy: policy.name().to_owned(),
        steps: parameters.steps,
        parameters: given.told(),
        fitted: BTreeMap::new(),
        guidance: Guidance {
            schedule: decision.guidance.clone(),
            reuse: decision.guidance_reuse,
            prompted: parameters.prompted().unwrap_or_default(),
        },
        kinds: Vec::new(),
        schedules: Vec::new(),
        weights: Weights::default(),
        models: Vec::new(),
    };
    for target in targets {
        let given_half = target.analysis.role == Role::Controlnet
            && parameters.control_rows() == ControlRows::Prompted;
        let mut builder = Builder::new(target, &decision.guidance, given_half);
        if let Some(reason) = unhalved.filter(|_| policy.wants_halves()) {
            builder.refuse("held or fused guidance", reason);
        }
        propose(&mut builder, target.analysis, &decision, parameters);
        let model = builder.finish(&plan);
        plan.models.push(model);
    }
    plan.settle();
    plan
}

/// Why no step of this UNet can run half of a guided batch, if so.
#[must_use]
pub fn unhalved(unet: &Analysis<'_>, parameters: &Parameters) -> Option<&'static str> {
    if parameters.prompted().is_none() {
        Some("models run without classifier-free guidance (prompted none)")
    } else if parameters.whole_batch() {
        Some("both halves run on every step (whole-batch)")
    } else if parameters.get(&PROMPTED).is_none() && edits(unet) {
        Some(
            "a UNet that takes twice the channels that it predicts edits pictures, and its pipelines run three \
             conditions in a batch; tell prompted last or first where yours runs two",
        )
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

/// Whether a UNet takes a picture's latent beside its own: InstructPix2Pix (arXiv 2211.09800), whose
/// batch has thirds.
fn edits(unet: &Analysis<'_>) -> bool {
    let channels = |value| {
        let shape = unet.shapes.get(value)?;
        shape.dims.get(1).map(|d| d.at(1))
    };
    let taken = unet.input(InputKind::Latent).and_then(channels);
    let predicted = unet.deepest_output().and_then(channels);
    taken
        .zip(predicted)
        .is_some_and(|(taken, predicted)| taken == 2 * predicted)
}

/// The UNet, or merged graph, and what runs beside it.
fn apart<'t, 'm>(
    targets: &[&'t Analysis<'m>],
) -> (Option<&'t Analysis<'m>>, Vec<&'t Analysis<'m>>) {
    let is_unet = |a: &&Analysis<'_>| matches!(a.role, Role::Unet | Role::Merged);
    let (unets, others): (Vec<_>, Vec<_>) = targets.iter().copied().partition(is_unet);
    (unets.first().copied(), others)
}

/// The cut at which [`shares::SHALLOW`] of the MACs of all files runs on a reuse step.
fn default_cut(targets: &[&Analysis<'_>]) -> usize {
    let (unet, others) = apart(targets);
    unet.map_or(1, |unet| candidates::cut(unet, &others, shares::SHALLOW))
}

/// Further cuts below that of a plan, which divide what lies below it into parts of about as many MACs: at most
/// `count`. `cut` is the plan's, where it is told.
#[must_use]
pub fn inner_cuts(targets: &[&Analysis<'_>], cut: Option<usize>, count: usize) -> Vec<usize> {
    let (Some(unet), others) = apart(targets) else {
        return Vec::new();
    };
    let outermost = cut.unwrap_or_else(|| default_cut(targets));
    candidates::inner_cuts(unet, &others, (outermost, count))
}
