//! A schedule in terms of what a tuner chooses, and the policy that makes a plan of it.

use crate::plan::data::Reuse;
use crate::plan::parameter::{CONTROL_ROWS, CUT, PROMPTED, Parameters, WHOLE_BATCH};
use crate::plan::policy::{Coarse, Decision, Fine, Given, Policy, Use, cut_by_macs};
use crate::plan::schedule::{GateSchedule, GuidanceStep};

/// What happens on one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting {
    /// How deep the UNet's blocks run: 0 for those above the cut alone, [`DEEPEST`] for all of them; between
    /// them so many parts, which further cuts divide those below the cut into.
    pub depth: u8,
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
        depth: DEEPEST,
        control: true,
        cross: true,
        guidance: GuidanceStep::Full,
    };

    /// Whether any of the blocks below the cut run.
    #[must_use]
    pub fn deep(&self) -> bool {
        self.depth > 0
    }

    /// Every setting that makes sense, [`FULL`](Self::FULL) first: ControlNets run for blocks that
    /// read what they give. Half of the batch alone only where `halves`; `inner` cuts divide the blocks below
    /// the first one.
    #[must_use]
    pub fn all(halves: bool, inner: usize) -> Vec<Self> {
        let both = [true, false];
        let guidance: &[GuidanceStep] = match halves {
            true => &[GuidanceStep::Full, GuidanceStep::Held, GuidanceStep::Fused],
            false => &[GuidanceStep::Full],
        };
        let between = (0..=u8::try_from(inner).unwrap_or(DEEPEST - 1)).rev();
        let depths: Vec<u8> = std::iter::once(DEEPEST).chain(between).collect();
        let mut all = Vec::new();
        for &guidance in guidance {
            for &depth in &depths {
                for control in both.into_iter().filter(|c| depth > 0 || !c) {
                    for cross in both {
                        all.push(Self {
                            depth,
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

/// All blocks run.
pub const DEEPEST: u8 = u8::MAX;

/// What happens on every evaluation: a policy without a formula.
#[derive(Clone, Debug)]
pub struct Columns {
    /// One an evaluation.
    pub settings: Vec<Setting>,
    /// Further cuts, below that of the parameters, in numbers of outermost skips; each deeper than the one before.
    pub inner: Vec<usize>,
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
        let part =
            |part: usize| GateSchedule::new(given.steps(), |s| usize::from(at(s).depth) > part);
        let outermost = given.count(&CUT);
        let deeper = self.inner.iter().copied().filter(|run| *run > outermost);
        let cuts = std::iter::once(outermost).chain(deeper).enumerate();
        let coarse = cuts.map(|(nth, run)| (Coarse::Deep { run }, part(nth), self.reuse));
        Decision {
            guidance: given.guidance(|s| at(s).guidance),
            guidance_reuse: self.reuse,
            coarse: coarse.collect(),
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
