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

/// Decides for a policy; `halves` says whether half-batch steps can run, `cut` how many of the
/// outermost skips run on a reuse step.
#[must_use]
pub fn decide(policy: Policy, options: &Options, halves: bool, cut: usize) -> Decision {
    let given = Given {
        options,
        switches: options.switches(),
        halves,
        cut,
    };
    match policy {
        Policy::None => given.nothing(),
        Policy::Lossless => Decision {
            invariant: true,
            ..given.nothing()
        },
        Policy::DeepCache => given.deep_cache(),
        Policy::FasterDiffusion => given.faster_diffusion(),
        Policy::TGate => given.t_gate(),
        Policy::HgcPaper => given.hgc_paper(),
        Policy::Hgc => given.hgc(),
    }
}

/// What a decision follows from.
struct Given<'a> {
    options: &'a Options,
    /// Steps on which control switches on or off.
    switches: Vec<usize>,
    halves: bool,
    cut: usize,
}

impl Given<'_> {
    fn nothing(&self) -> Decision {
        Decision {
            guidance: GuidanceSchedule::full(self.options.steps),
            guidance_reuse: Reuse::Hold,
            coarse: None,
            control: None,
            fine: None,
            invariant: false,
        }
    }

    fn deep_cache(&self) -> Decision {
        let at: Vec<usize> = (0..self.options.steps)
            .step_by(self.options.interval)
            .collect();
        Decision {
            coarse: Some((self.deep(), self.refresh(&at), Reuse::Hold)),
            control: Some((self.control(&at), Reuse::Hold)),
            ..self.nothing()
        }
    }

    fn faster_diffusion(&self) -> Decision {
        let at = self.options.key_steps();
        Decision {
            coarse: Some((Coarse::Encoder, self.refresh(&at), Reuse::Hold)),
            control: Some((self.control(&at), Reuse::Hold)),
            ..self.nothing()
        }
    }

    fn t_gate(&self) -> Decision {
        let gate = self.options.gate_or_middle();
        Decision {
            guidance: self.fused_from(gate),
            fine: Some(Fine::AfterGate { gate, lambda: 0.0 }),
            ..self.nothing()
        }
    }

    fn hgc_paper(&self) -> Decision {
        let steps = self.options.steps;
        let gate = self.options.gate_or_middle();
        let count = shares::inter(steps, self.options.lambda_inter).len();
        let at: Vec<usize> = (0..count).map(|k| k * steps / count).collect();
        Decision {
            guidance: self.fused_from(gate),
            coarse: Some((self.deep(), self.refresh(&at), Reuse::Hold)),
            control: Some((self.control(&at), Reuse::Hold)),
            fine: Some(Fine::AfterGate {
                gate,
                lambda: self.options.lambda_intra,
            }),
            invariant: true,
            ..self.nothing()
        }
    }

    fn hgc(&self) -> Decision {
        let options = self.options;
        let at = match options.key_steps {
            Some(_) => options.key_steps(),
            None => shares::inter(options.steps, options.lambda_inter),
        };
        let deep = self.refresh(&at);
        Decision {
            guidance: self.held_then_fused(&deep),
            // Guidance multiplies what a forecast of the difference is wrong by.
            guidance_reuse: Reuse::Hold,
            coarse: Some((self.deep(), deep, options.reuse)),
            control: Some((self.control(&at), options.reuse)),
            fine: Some(Fine::Share {
                lambda: options.lambda_intra,
                reuse: options.reuse,
            }),
            invariant: true,
        }
    }

    fn deep(&self) -> Coarse {
        Coarse::Deep { run: self.cut }
    }

    fn refresh(&self, at: &[usize]) -> Schedule {
        Schedule::at(self.options.steps, at).restarting(&self.switches)
    }

    fn control(&self, at: &[usize]) -> Schedule {
        self.refresh(&shares::every(at, self.options.control_interval))
    }

    fn guidance(&self, mode: impl Fn(usize) -> GuidanceStep) -> GuidanceSchedule {
        match self.halves {
            true => GuidanceSchedule::new(self.options.steps, mode),
            false => GuidanceSchedule::full(self.options.steps),
        }
    }

    fn fused_from(&self, gate: usize) -> GuidanceSchedule {
        self.guidance(|step| match step >= gate {
            true => GuidanceStep::Fused,
            false => GuidanceStep::Full,
        })
    }

    /// Full on a share of the refreshes of `deep`, held between them, fused from the gate on.
    fn held_then_fused(&self, deep: &Schedule) -> GuidanceSchedule {
        let options = self.options;
        let gate = options.gate_or_late();
        let mut before = deep.refresh_steps();
        before.retain(|s| *s < gate);
        let full_at = shares::guided(&before, options.steps, options.lambda_guidance);
        self.guidance(|step| match full_at.contains(&step) {
            _ if step >= gate => GuidanceStep::Fused,
            _ if self.switches.contains(&step) => GuidanceStep::Restart,
            true => GuidanceStep::Full,
            false => GuidanceStep::Held,
        })
    }
}
