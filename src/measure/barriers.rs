//! The original behind always-true branches: what an fp16 rewrite is compared with.

use super::MeasureError;
use super::loadable::loadable;
use super::verify::{Inputs, Outputs, Proof, borrowed};
use crate::emit::{Form, Gated, Placement};
use crate::engine::CachedSession;
use crate::plan::layout::Layout;
use crate::plan::schedule::GateSchedule;
use crate::plan::{Plan, Reuse, Rows};

impl Proof<'_, '_> {
    /// The original with always-true `If`s at the borders of the regions: what fp16 on
    /// the CPU must equal, where a branch boundary rounds.
    pub(super) fn with_barriers(&self, inputs: &[Inputs; 2]) -> Result<[Outputs; 2], MeasureError> {
        let mut model = self.model_plan.clone();
        let always = GateSchedule::new(self.plan.steps, |_| true);
        model.halves = false;
        for gate in &mut model.gates {
            gate.schedule = always.clone();
        }
        for site in &mut model.sites {
            (site.reuse, site.rows) = (Reuse::Hold, Rows::All);
        }
        let mut plan = Plan {
            models: vec![model.clone()],
            kinds: Vec::new(),
            schedules: Vec::new(),
            ..self.plan.clone()
        };
        plan.settle();
        let file = || self.source.path.display().to_string();
        let layout =
            Layout::new(self.analysis, &plan, &model).map_err(|source| MeasureError::Layout {
                file: file(),
                source,
            })?;
        let proto = &self.source.proto;
        let barriers = Gated
            .emit(&Placement {
                model: proto,
                analysis: self.analysis,
                plan: &plan,
                model_plan: &model,
                layout: &layout,
            })
            .map_err(|source| MeasureError::Barriers {
                file: file(),
                source,
            })?;
        let mut scratch = None;
        let source = loadable(self.engine, barriers, &self.source.path, &mut scratch)?;
        let mut cached = CachedSession::open(self.engine, source, &self.options())?;
        let first = cached.run(&borrowed(&inputs[0]))?;
        cached.reset()?;
        Ok([first, cached.run(&borrowed(&inputs[1]))?])
    }
}
