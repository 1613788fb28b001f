//! What kinds compute and which may follow which; a plan for other numbers of evaluations than it was made
//! for.

use super::{CompileError, Planned, Project};
use crate::analysis::macs::Macs;
use crate::plan::cost::Regions;
use crate::plan::flow::{Flow, Flows};
use crate::plan::layout::Layout;
use crate::plan::{KindError, Plan};

impl Project<'_> {
    /// MACs of each kind over all models, counted by `of`.
    ///
    /// # Errors
    /// [`CompileError::Hash`] if the plan was made for other graphs.
    pub fn work(&self, planned: &Planned, of: fn(Macs) -> u64) -> Result<Vec<u64>, CompileError> {
        let mut work = vec![0u64; planned.plan.kinds.len()];
        for (index, analysis) in self.analyses().iter().enumerate() {
            let model = self.model_plan(&planned.plan, index)?;
            let layout = &planned.layouts[index];
            let regions = Regions::new(analysis, layout);
            for (sum, kind) in work.iter_mut().zip(&planned.plan.kinds) {
                *sum = sum.saturating_add(of(regions.of(kind, model, layout)));
            }
        }
        Ok(work)
    }

    /// What may follow what in a plan whose kinds compute so much.
    ///
    /// # Errors
    /// As for [`work`](Self::work).
    pub fn flows(&self, planned: &Planned, work: Vec<u64>) -> Result<Flows, CompileError> {
        let flow = |(index, layout): (usize, &Layout)| {
            let model = self.model_plan(&planned.plan, index)?;
            Ok(Flow::new(&planned.plan, model, layout))
        };
        let flows = planned.layouts.iter().enumerate().map(flow);
        let flows = flows.collect::<Result<_, CompileError>>()?;
        Ok(Flows::new(planned.plan.kinds.clone(), flows, work))
    }

    /// The plan with one schedule of so many evaluations: its schedule number `schedule`, spread over them as
    /// [`Flows::spread`] does.
    ///
    /// # Errors
    /// As for [`Project::adopt`].
    pub fn spread(
        &self,
        plan: &Plan,
        schedule: usize,
        evaluations: usize,
    ) -> Result<Plan, CompileError> {
        let planned = self.adopt(plan.under(schedule)?)?;
        let work = self.work(&planned, |macs| macs.all)?;
        let flows = self.flows(&planned, work)?;
        let first = planned
            .plan
            .schedules
            .first()
            .ok_or(KindError::NoSchedule)?;
        let spread = flows.spread(first, evaluations);
        let mut plan = planned.plan;
        plan.schedules = vec![spread];
        plan.expand()?;
        Ok(plan)
    }
}
