//! Schedules of other plans over the kinds that a plan has; so one file serves both kinds of samplers.

use std::collections::BTreeSet;

use super::{CompileError, Planned, Project};
use crate::plan::kinds::gate_name;
use crate::plan::parameter::{Parameters, SOLVER, Value};
use crate::plan::policy::Policy;
use crate::plan::schedule::Gating;
use crate::plan::{Kind, Plan, Schedule};

impl Project<'_> {
    /// The plan of a policy that tells kinds of samplers apart, with a schedule for the other kind beside its
    /// own: callers change the sampler, and the wrong refreshes cost up to 13 dB. Nothing is added where it
    /// would be the same, or where the plan has more schedules already.
    ///
    /// # Errors
    /// As for [`Project::plan`].
    pub fn for_both_solvers(
        &self,
        mut planned: Planned,
        policy: &dyn Policy,
        parameters: &Parameters,
    ) -> Result<Planned, CompileError> {
        let tells = policy
            .uses()
            .iter()
            .any(|u| u.parameter.name == SOLVER.name);
        if !tells || planned.plan.schedules.len() != 1 {
            return Ok(planned);
        }
        let other = parameters.solver().other();
        let parameters = parameters.clone().with(&SOLVER, Value::Solver(other));
        let theirs = self.plan(policy, &parameters)?;
        let wanted = wanted(&planned, &theirs.plan);
        let work = self.work(&planned, |macs| macs.all)?;
        let flows = self.flows(&planned, work)?;
        let schedule = Schedule {
            sampler: Some(other.name().to_owned()),
            ..flows.fit(&wanted.iter().collect::<Vec<_>>())
        };
        if planned.plan.schedules[0].kinds != schedule.kinds {
            planned.plan.schedules.push(schedule);
        }
        Ok(planned)
    }
}

/// What `other` does on each evaluation, as kinds over the gates of `own`.
pub(super) fn wanted(own: &Planned, other: &Plan) -> Vec<Kind> {
    let steps = 0..other.steps;
    steps.map(|step| wanted_on(own, other, step)).collect()
}

fn wanted_on(own: &Planned, other: &Plan, step: usize) -> Kind {
    let (mut refresh, mut restart) = (BTreeSet::new(), BTreeSet::new());
    for ((model, layout), theirs) in own.plan.models.iter().zip(&own.layouts).zip(&other.models) {
        // Outer sites stand before inner ones.
        let mut runs = vec![false; layout.sites.len()];
        for (index, placed) in layout.sites.iter().enumerate() {
            let reached = placed.parent.is_none_or(|outer| runs[outer]);
            let site = theirs.sites.iter().find(|s| s.name == placed.site.name);
            let gate = site.and_then(|s| theirs.gate(&s.gate));
            let gating = match gate.map(|g| &g.schedule) {
                Some(schedule) if !schedule.refreshes(step) => Gating::Reuse,
                Some(schedule) if schedule.gap(step).is_none() => Gating::Restart,
                Some(_) => Gating::Refresh,
                // What it does not cache runs wherever it is reached.
                None if reached => Gating::Refresh,
                None => Gating::Reuse,
            };
            runs[index] = gating != Gating::Reuse;
            let name = gate_name(&model.name, &placed.site.gate);
            let forecasts = own.plan.kinds.iter().any(|k| k.restart.contains(&name));
            match gating {
                Gating::Restart if forecasts => restart.insert(name),
                Gating::Restart | Gating::Refresh => refresh.insert(name),
                Gating::Reuse => false,
            };
        }
    }
    Kind {
        name: String::new(),
        guidance: other.guidance.schedule.at(step),
        refresh,
        restart,
    }
}
