//! What a policy decides before it looks at the graphs.

use std::collections::BTreeMap;

use super::{Otherwise, Policy, shares};
use crate::plan::data::Reuse;
use crate::plan::parameter::{CONTROL_INTERVAL, CUT, GATE_STEP, Parameter, Parameters, Value};
use crate::plan::schedule::{GateSchedule, GuidanceSchedule, GuidanceStep};

/// Guidance, and when and how each kind of cache is reused.
pub struct Decision {
    /// Which halves run.
    pub guidance: GuidanceSchedule,
    /// How the guidance difference is reused.
    pub guidance_reuse: Reuse,
    /// Coarse caches of the UNet, and how they are reused; each lies within the one before.
    pub coarse: Vec<(Coarse, GateSchedule, Reuse)>,
    /// ControlNet residuals.
    pub control: Option<(GateSchedule, Reuse)>,
    /// Cross-attention.
    pub fine: Option<Fine>,
    /// Whether what is the same on every step is kept.
    pub invariant: bool,
}

/// What the coarse cache skips.
#[derive(Clone, Copy)]
pub enum Coarse {
    /// Everything deeper than the outermost `run` skips.
    Deep {
        /// Skip connections that run on every step.
        run: usize,
    },
    /// Encoder and mid block.
    Encoder,
}

/// When cross-attention refreshes.
pub enum Fine {
    /// On a share of the steps on which the block around it refreshes.
    Share {
        /// The share.
        lambda: f64,
        /// How it is reused.
        reuse: Reuse,
    },
    /// On every step before the gate; after it on a share.
    AfterGate {
        /// The first step after the gate.
        gate: usize,
        /// The share.
        lambda: f64,
    },
    /// On these steps, where it is reached.
    At {
        /// The steps.
        schedule: GateSchedule,
        /// How it is reused.
        reuse: Reuse,
    },
}

/// What a decision follows from.
pub struct Given<'a> {
    policy: &'a dyn Policy,
    /// What the policy was told.
    pub parameters: &'a Parameters,
    /// Steps on which control switches on or off.
    pub switches: Vec<usize>,
    /// Whether half-batch steps can run.
    pub halves: bool,
    /// The cut at which a twentieth of the MACs runs on a reuse step.
    usual_cut: usize,
}

impl<'a> Given<'a> {
    /// What `policy` was told, and what follows from the graphs.
    #[must_use]
    pub fn new(
        policy: &'a dyn Policy,
        parameters: &'a Parameters,
        halves: bool,
        usual_cut: usize,
    ) -> Self {
        Self {
            policy,
            parameters,
            switches: parameters.switches(),
            halves,
            usual_cut,
        }
    }

    /// Evaluations in a generation.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.parameters.steps
    }

    /// The value of a parameter: as told, or the policy's default.
    #[must_use]
    pub fn value(&self, parameter: &'static Parameter) -> Option<Value> {
        if let Some(value) = self.parameters.get(parameter) {
            return Some(value.clone());
        }
        let mut uses = self.policy.uses().iter();
        let used = uses.find(|u| u.parameter.name == parameter.name)?;
        match used.otherwise {
            Otherwise::Value(text) | Otherwise::Neutral(text) => parameter.read(text).ok(),
            Otherwise::Derived(from, _) => Some(from(self)),
            Otherwise::Absent => None,
        }
    }

    /// A whole number or step; 1 where the policy has none.
    #[must_use]
    pub fn count(&self, parameter: &'static Parameter) -> usize {
        match self.value(parameter) {
            Some(Value::Count(n)) => n,
            _ => 1,
        }
    }

    /// A share; 0 where the policy has none.
    #[must_use]
    pub fn share(&self, parameter: &'static Parameter) -> f64 {
        match self.value(parameter) {
            Some(Value::Share(share)) => share,
            _ => 0.0,
        }
    }

    /// A list of steps.
    #[must_use]
    pub fn list(&self, parameter: &'static Parameter) -> Option<Vec<usize>> {
        match self.value(parameter) {
            Some(Value::Steps(steps)) => Some(steps),
            _ => None,
        }
    }

    /// A way to reuse; holding where the policy has none.
    #[must_use]
    pub fn reuse(&self, parameter: &'static Parameter) -> Reuse {
        match self.value(parameter) {
            Some(Value::Reuse(reuse)) => reuse,
            _ => Reuse::Hold,
        }
    }

    /// What a plan tells of its parameters: all that decide something.
    #[must_use]
    pub fn told(&self) -> BTreeMap<String, String> {
        let uses = self.policy.uses();
        let replaced = |parameter: &Parameter| {
            uses.iter().any(|u| {
                u.replaces.is_some_and(|r| r.name == parameter.name)
                    && self.parameters.get(u.parameter).is_some()
            })
        };
        let mut told = BTreeMap::new();
        for used in uses.iter().filter(|u| !replaced(u.parameter)) {
            let neutral = match used.otherwise {
                Otherwise::Neutral(text) => used.parameter.read(text).ok(),
                _ => None,
            };
            if let Some(value) = self
                .value(used.parameter)
                .filter(|v| Some(v) != neutral.as_ref())
            {
                told.insert(used.parameter.name.to_owned(), value.to_string());
            }
        }
        told
    }

    /// A decision to cache nothing, to start from.
    #[must_use]
    pub fn nothing(&self) -> Decision {
        Decision {
            guidance: GuidanceSchedule::full(self.steps()),
            guidance_reuse: Reuse::Hold,
            coarse: Vec::new(),
            control: None,
            fine: None,
            invariant: false,
        }
    }

    /// Everything deeper than the cut.
    #[must_use]
    pub fn deep(&self) -> Coarse {
        Coarse::Deep {
            run: self.count(&CUT),
        }
    }

    /// Refreshes on these steps, and where control switches.
    #[must_use]
    pub fn refresh(&self, at: &[usize]) -> GateSchedule {
        GateSchedule::at(self.steps(), at).restarting(&self.switches)
    }

    /// The ControlNet's refreshes beside those of the UNet.
    #[must_use]
    pub fn control(&self, at: &[usize]) -> GateSchedule {
        self.refresh(&shares::every(at, self.count(&CONTROL_INTERVAL)))
    }

    /// Guidance by step; full where half-batch steps cannot run.
    #[must_use]
    pub fn guidance(&self, mode: impl Fn(usize) -> GuidanceStep) -> GuidanceSchedule {
        match self.halves {
            true => GuidanceSchedule::new(self.steps(), mode),
            false => GuidanceSchedule::full(self.steps()),
        }
    }

    /// Full guidance before the gate step, fused from it on.
    #[must_use]
    pub fn fused_from_gate(&self) -> GuidanceSchedule {
        let gate = self.count(&GATE_STEP);
        self.guidance(|step| match step >= gate {
            true => GuidanceStep::Fused,
            false => GuidanceStep::Full,
        })
    }
}

/// The cut at which a twentieth of the MACs of all files runs on a reuse step.
pub fn cut_by_macs(given: &Given<'_>) -> Value {
    Value::Count(given.usual_cut)
}

/// The middle of the generation.
pub(super) fn middle(given: &Given<'_>) -> Value {
    Value::Count((given.steps() / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::super::{Hgc, TGate};
    use super::*;
    use crate::plan::parameter::{KEY_STEPS, LAMBDA_INTER};

    #[test]
    fn a_plan_tells_what_decides() {
        let parameters = Parameters::new(20);
        let told = Given::new(&TGate, &parameters, true, 3).told();
        let told: Vec<_> = told.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(told, ["gate-step=10"]);
        let parameters = parameters.with(&KEY_STEPS, Value::Steps(vec![0, 9]));
        let told = Given::new(&Hgc, &parameters, true, 3).told();
        assert_eq!(told.get(CUT.name).map(String::as_str), Some("3"));
        assert_eq!(told.get(KEY_STEPS.name).map(String::as_str), Some("0,9"));
        assert!(!told.contains_key(LAMBDA_INTER.name));
    }
}
