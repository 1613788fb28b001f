//! `hgc`: coarse and fine caches as they measure best on models that nobody tuned: refreshes dense at
//! the start and the end, which compute everything, and the prompted half alone between them.

use super::cut_by_macs;
use super::{Decision, Fine, Given, Policy, Use, by, gates, scaled, shares};
use crate::plan::data::Reuse;
use crate::plan::parameter::{
    CONTROL_END, CONTROL_INTERVAL, CONTROL_ROWS, CONTROL_START, CUT, GATE_STEP, KEY_STEPS,
    LAMBDA_GUIDANCE, LAMBDA_INTER, LAMBDA_INTRA, NOISE, PRESET, PROMPTED, Parameters, Preset,
    REUSE, SOLVER, Solver, Value, WHOLE_BATCH,
};
use crate::plan::schedule::{GateSchedule, GuidanceSchedule, GuidanceStep};

/// The default policy.
pub struct Hgc;

/// Fewer refreshes than this lose too much, however few the steps.
const LEAST: usize = 7;

fn preset(parameters: &Parameters) -> Preset {
    match parameters.get(&PRESET) {
        Some(Value::Preset(preset)) => *preset,
        _ => Preset::default(),
    }
}

/// Share of steps on which the deeper blocks refresh, and the least of them.
fn refreshes(preset: Preset) -> (f64, usize) {
    match preset {
        Preset::Quality => (0.5, LEAST + 2),
        Preset::Balanced => (0.35, LEAST),
        Preset::Fast => (0.25, LEAST - 2),
    }
}

static USES: [Use; 16] = [
    Use::derived(&CUT, cut_by_macs, "as many as make 5 % of the MACs"),
    Use::neutral(&PRESET, "balanced"),
    Use::instead_of(&KEY_STEPS, &LAMBDA_INTER),
    Use::derived(&GATE_STEP, never, "the number of steps (never)"),
    Use::derived(
        &LAMBDA_INTER,
        enough,
        "0.35, quality 0.5, fast 0.25; so much that of few steps 7, 9 or 5 refresh, or all but one",
    ),
    Use::value(&LAMBDA_INTRA, "1"),
    Use::value(&LAMBDA_GUIDANCE, "1"),
    Use::derived(
        &REUSE,
        reuse,
        "damped; hold where every step runs the whole batch",
    ),
    Use::neutral(&SOLVER, "first-order"),
    Use::neutral(&NOISE, "0"),
    Use::neutral(&CONTROL_INTERVAL, "1"),
    Use::neutral(&CONTROL_START, "0"),
    Use::neutral(&CONTROL_END, "1"),
    Use::neutral(&PROMPTED, "last"),
    Use::neutral(&CONTROL_ROWS, "all"),
    Use::neutral(&WHOLE_BATCH, "false"),
];

/// Guidance multiplies what forecasts of the two halves are wrong by; where the prompted half runs alone, it does
/// not.
fn reuse(given: &Given<'_>) -> Value {
    Value::Reuse(match given.halves {
        true => Reuse::Damped,
        false => Reuse::Hold,
    })
}

fn never(given: &Given<'_>) -> Value {
    Value::Count(given.steps())
}

/// The share of the preset; one that gives its least refreshes where there are enough steps, and all but one where not.
#[allow(clippy::cast_precision_loss)]
fn enough(given: &Given<'_>) -> Value {
    let steps = given.steps().max(1);
    let (share, least) = refreshes(preset(given.parameters));
    let least = least.min(steps - 1) as f64 / steps as f64;
    // Two digits tell the same number of refreshes, and read better.
    Value::Share(share.max((100.0 * least).round() / 100.0))
}

/// With so few steps or fewer, what multistep samplers make of cached values may lose control
/// (docs/EVAL.md, few steps).
const FEW_MULTISTEP: usize = 12;

/// Share of the generation after which multistep samplers are forecast for: they look back, and what the early
/// evaluations see changes in another way than later.
const LATE: f64 = 0.4;

/// Refreshes that leave no slope.
#[allow(clippy::cast_precision_loss)]
fn early(steps: usize, refreshes: &[usize]) -> Vec<usize> {
    let late = LATE * steps.saturating_sub(1) as f64;
    // What is read before the next refresh is read by the slope of this one.
    let next = |i: usize| refreshes.get(i + 1).copied().unwrap_or(steps) as f64;
    let kept = refreshes.iter().enumerate();
    let kept = kept.filter(|(i, _)| next(*i) <= late);
    kept.map(|(_, step)| *step).collect()
}

impl Policy for Hgc {
    fn name(&self) -> &'static str {
        "hgc"
    }

    fn about(&self) -> &'static str {
        "coarse caches, refreshed most at both ends; guidance held between refreshes"
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
        let at = at.unwrap_or_else(|| {
            shares::inter(
                given.steps(),
                given.share(&LAMBDA_INTER),
                given.parameters.solver(),
                given.parameters.noise(),
            )
        });
        let reuse = given.reuse(&REUSE);
        let deep = given.refresh(&at);
        let deep = match (reuse, given.parameters.solver()) {
            (Reuse::Damped, Solver::Multistep) => deep.restarting(&early(given.steps(), &at)),
            _ => deep,
        };
        // What is damped is the blocks: how far the others follow their slopes differs from model to model.
        let others = match reuse {
            Reuse::Damped => Reuse::Hold,
            other => other,
        };
        // In a merged graph the ControlNet runs with the blocks around it.
        let control = given.control(&at).restarting(&deep.restarts());
        Decision {
            guidance: held_then_fused(given, &deep),
            // Guidance multiplies what a forecast of the difference is wrong by.
            guidance_reuse: Reuse::Hold,
            coarse: vec![(given.deep(), deep, reuse)],
            control: Some((control, others)),
            // With a share of all, cross-attention runs wherever the block around it does.
            fine: Some(given.share(&LAMBDA_INTRA))
                .filter(|lambda| *lambda < 1.0)
                .map(|lambda| Fine::Share {
                    lambda,
                    reuse: others,
                }),
            invariant: true,
        }
    }

    fn grid(&self, parameters: &Parameters, _skips: usize) -> Vec<String> {
        let steps = parameters.steps;
        let gates = |of_twenty: &[usize]| by("|", gates(steps, of_twenty));
        vec![
            format!(
                "hgc:gate-step={},lambda-inter=0.2|0.25|0.3|0.35|0.4|0.45|0.5|0.6|0.7",
                gates(&[15, 18, 20])
            ),
            // Less compute: cross-attention on a share, guidance fused early.
            format!(
                "hgc:gate-step={},lambda-inter=0.1|0.15|0.2|0.3|0.4,lambda-intra=0.5,lambda-guidance=0.9",
                gates(&[5, 10, 15, 18])
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
        if told(&KEY_STEPS) || told(&LAMBDA_INTER) {
            return None;
        }
        let (_, least) = refreshes(preset(parameters));
        let steps = parameters.steps;
        let multistep = parameters.solver() == Solver::Multistep;
        match steps {
            ..2 => None,
            _ if steps <= least + 1 => Some(format!(
                "of {steps} steps, much changes from each to the next: all but one compute everything, and \
                 little is saved; `hgc tune` finds what this model allows"
            )),
            ..=FEW_MULTISTEP if multistep => Some(format!(
                "{steps} steps of a multistep sampler (DPM++, UniPC) bear little caching on some models: look \
                 at the pictures (`hgc run --compare`), or let `hgc tune` find what this model allows"
            )),
            _ => None,
        }
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
