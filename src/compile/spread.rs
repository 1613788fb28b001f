//! A plan for other numbers of evaluations than it was made for.

use super::{CompileError, Project};
use crate::plan::cost::Regions;
use crate::plan::flow::{Flow, Flows};
use crate::plan::{KindError, Plan};

impl Project<'_> {
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
        let (mut flows, mut work) = (Vec::new(), vec![0u64; planned.plan.kinds.len()]);
        for (index, analysis) in self.analyses().iter().enumerate() {
            let model = self.model_plan(&planned.plan, index)?;
            let layout = &planned.layouts[index];
            flows.push(Flow::new(&planned.plan, model, layout));
            let regions = Regions::new(analysis, layout);
            for (sum, kind) in work.iter_mut().zip(&planned.plan.kinds) {
                *sum = sum.saturating_add(regions.of(kind, model, layout).all);
            }
        }
        let flows = Flows::new(planned.plan.kinds.clone(), flows, work);
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
