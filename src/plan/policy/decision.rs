//! What each policy decides before it looks at the graphs.

use super::options::{Options, Policy};
use super::shares;
use crate::plan::data::Reuse;
use crate::plan::schedule::{GuidanceSchedule, GuidanceStep, Schedule};

/// Guidance, and when and how each kind of cache is reused.
pub struct Decision {
    /// Which halves run.
    pub guidance: GuidanceSchedule,
    /// How the guidance difference is reused.
    pub guidance_reuse: Reuse,
    /// Coarse cache of the UNet, and how it is reused.
    pub coarse: Option<(Coarse, Schedule, Reuse)>,
    /// ControlNet residuals.
    pub control: Option<(Schedule, Reuse)>,
    /// Cross-attention.
    pub fine: Option<Fine>,
    /// Whether what is the same on every step is kept.
    pub invariant: bool,
}

/// What the coarse cache skips.
#[derive(Clone, Copy)]
pub enum Coarse {
    /// Everything deeper than the outermost `run` skips.
    Deep { run: usize },
    /// Encoder and mid block.
    Encoder,
}

/// When cross-attention refreshes.
pub enum Fine {
    /// On a share of the steps on which the block around it refreshes.
    Share { lambda: f64, reuse: Reuse },
    /// On every step before the gate; after it on a share.
    AfterGate { gate: usize, lambda: f64 },
}

/// Decides for a policy; `halves` says whether half-batch steps can run.
#[must_use]
pub fn decide(policy: Policy, options: &Options, halves: bool, cut: usize) -> Decision {
    let steps = options.steps;
    let full = GuidanceSchedule::full(steps);
    let nothing = || Decision {
        guidance: GuidanceSchedule::full(steps),
        guidance_reuse: Reuse::Hold,
        coarse: None,
        control: None,
        fine: None,
        invariant: false,
    };
    let fused_from = |gate: usize| {
        let mode = |s| {
            if s >= gate {
                GuidanceStep::Fused
            } else {
                GuidanceStep::Full
            }
        };
        if halves {
            GuidanceSchedule::new(steps, mode)
        } else {
            full.clone()
        }
    };
    let switches = options.switches();
    let refresh = |at: &[usize]| Schedule::at(steps, at).restarting(&switches);
    let control = |at: &[usize]| refresh(&shares::every(at, options.control_interval));
    match policy {
        Policy::None => nothing(),
        Policy::Lossless => Decision {
            invariant: true,
            ..nothing()
        },
        Policy::DeepCache => {
            let at: Vec<usize> = (0..steps).step_by(options.interval).collect();
            let deep = Coarse::Deep { run: cut };
            Decision {
                coarse: Some((deep, refresh(&at), Reuse::Hold)),
                control: Some((control(&at), Reuse::Hold)),
                ..nothing()
            }
        }
        Policy::FasterDiffusion => {
            let at = options.key_steps();
            Decision {
                coarse: Some((Coarse::Encoder, refresh(&at), Reuse::Hold)),
                control: Some((control(&at), Reuse::Hold)),
                ..nothing()
            }
        }
        Policy::TGate => {
            let gate = options.gate_or_middle();
            let fine = Some(Fine::AfterGate { gate, lambda: 0.0 });
            Decision {
                guidance: fused_from(gate),
                fine,
                ..nothing()
            }
        }
        Policy::HgcPaper => {
            let gate = options.gate_or_middle();
            let count = shares::inter(steps, options.lambda_inter).len();
            let at: Vec<usize> = (0..count).map(|k| k * steps / count).collect();
            let deep = Coarse::Deep { run: cut };
            Decision {
                guidance: fused_from(gate),
                coarse: Some((deep, refresh(&at), Reuse::Hold)),
                control: Some((control(&at), Reuse::Hold)),
                fine: Some(Fine::AfterGate {
                    gate,
                    lambda: options.lambda_intra,
                }),
                invariant: true,
                ..nothing()
            }
        }
        Policy::Hgc => {
            let at = shares::inter(steps, options.lambda_inter);
            let deep = refresh(&at);
            let gate = options.gate_or_late();
            let mut before = deep.refresh_steps();
            before.retain(|s| *s < gate);
            let full_at = shares::guided(&before, steps, options.lambda_guidance);
            let mode = |s: usize| match (full_at.contains(&s), s >= gate) {
                (_, true) => GuidanceStep::Fused,
                _ if switches.contains(&s) => GuidanceStep::Restart,
                (true, _) => GuidanceStep::Full,
                (false, _) => GuidanceStep::Held,
            };
            Decision {
                guidance: if halves {
                    GuidanceSchedule::new(steps, mode)
                } else {
                    full.clone()
                },
                // Guidance multiplies what a forecast of the difference is wrong by.
                guidance_reuse: Reuse::Hold,
                coarse: Some((Coarse::Deep { run: cut }, deep.clone(), options.reuse)),
                control: Some((control(&at), options.reuse)),
                fine: Some(Fine::Share {
                    lambda: options.lambda_intra,
                    reuse: options.reuse,
                }),
                invariant: true,
            }
        }
    }
}
