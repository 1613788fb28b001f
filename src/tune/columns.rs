//! A schedule in terms of what a tuner chooses, and the policy that makes a plan of it.

use crate::plan::data::Reuse;
use crate::plan::parameter::{CONTROL_ROWS, CUT, PROMPTED, Parameters, WHOLE_BATCH};
use crate::plan::policy::{Coarse, Decision, Fine, Given, Policy, Use, cut_by_macs};
use crate::plan::schedule::{GateSchedule, GuidanceStep};

/// What happens on one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting {
    /// The UNet's blocks below the cut run.
    pub deep: bool,
    /// The ControlNets run.
    pub control: bool,
    /// Cross-attention runs where it is reached.
    pub cross: bool,
    /// What guidance does.
    pub guidance: GuidanceStep,
}

impl Setting {
    /// Everything runs.
    pub const FULL: Self = Self {
        deep: true,
        control: true,
        cross: true,
        guidance: GuidanceStep::Full,
    };

    /// Every setting that makes sense, [`FULL`](Self::FULL) first: ControlNets run for blocks that
    /// read what they give. Half of the batch alone only where `halves`.
    #[must_use]
    pub fn all(halves: bool) -> Vec<Self> {
        let both = [true, false];
        let guidance: &[GuidanceStep] = match halves {
            true => &[GuidanceStep::Full, GuidanceStep::Held, GuidanceStep::Fused],
            false => &[GuidanceStep::Full],
        };
        let mut all = Vec::new();
        for &guidance in guidance {
            for deep in both {
                for control in both.into_iter().filter(|c| deep || !c) {
                    for cross in both {
                        all.push(Self {
                            deep,
                            control,
                            cross,
                            guidance,
                        });
                    }
                }
            }
        }
        all
    }
}

/// What happens on every evaluation: a policy without a formula.
#[derive(Clone, Debug)]
pub struct Columns {
    /// One an evaluation.
    pub settings: Vec<Setting>,
    /// How blocks, ControlNets and the difference of guidance are reused.
    pub reuse: Reuse,
}

static USES: [Use; 4] = [
    Use::derived(&CUT, cut_by_macs, "as many as make 5 % of the MACs"),
    Use::neutral(&PROMPTED, "last"),
    Use::neutral(&CONTROL_ROWS, "all"),
    Use::neutral(&WHOLE_BATCH, "false"),
];

impl Policy for Columns {
    fn name(&self) -> &'static str {
        "tuned"
    }

    fn about(&self) -> &'static str {
        "fitted on the pipeline itself (hgc tune)"
    }

    fn uses(&self) -> &'static [Use] {
        &USES
    }

    fn wants_halves(&self) -> bool {
        let half = |s: &Setting| s.guidance != GuidanceStep::Full;
        self.settings.iter().any(half)
    }

    fn cuts(&self) -> bool {
        true
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        let at = |step: usize| self.settings.get(step).copied().unwrap_or(Setting::FULL);
        let on = |what: fn(&Setting) -> bool| GateSchedule::new(given.steps(), |s| what(&at(s)));
        Decision {
            guidance: given.guidance(|s| at(s).guidance),
            guidance_reuse: self.reuse,
            coarse: Some((
                Coarse::Deep {
                    run: given.count(&CUT),
                },
                on(|s| s.deep),
                self.reuse,
            )),
            control: Some((on(|s| s.control), self.reuse)),
            fine: Some(Fine::At {
                schedule: on(|s| s.cross),
                reuse: Reuse::Hold,
            }),
            invariant: true,
        }
    }
}

impl Columns {
    /// Parameters of a plan with these columns: as `base`, for so many evaluations.
    #[must_use]
    pub fn parameters(&self, base: &Parameters) -> Parameters {
        let mut parameters = base.clone();
        parameters.steps = self.settings.len();
        parameters
    }
}
