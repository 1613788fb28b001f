//! Decides kinds while a generation runs, as the gated graph does by itself: for variants, and for
//! schedules that the graph does not count.

use super::device::Feed;
use super::tensor::Tensor;
use crate::analysis::inputs::InputKind;
use crate::plan::{Adaptive, Given, Memory, Schedule};
use crate::sidecar::Sidecar;

/// What decides, and what it remembers of the generation.
#[derive(Debug)]
pub(super) struct Decider {
    adaptive: Adaptive,
    /// By kind.
    anchors: Vec<bool>,
    latent: String,
    time: String,
    memory: Memory,
    /// What this evaluation is given, and whether the gate fires on it.
    pending: Option<(Given, bool)>,
}

impl Decider {
    /// The decider of a schedule; none where it has nothing to decide, or the model is not given what
    /// it looks at.
    pub fn of(schedule: &Schedule, sidecar: &Sidecar) -> Option<Self> {
        let adaptive = schedule.adaptive.clone()?;
        let input = |kind: InputKind| {
            let mut named = sidecar.inputs.iter();
            Some(named.find(|(_, label)| *label == kind.label())?.0.clone())
        };
        Some(Self {
            anchors: adaptive.anchors(&sidecar.kinds),
            latent: input(InputKind::Latent)?,
            time: input(InputKind::Timestep)?,
            adaptive,
            memory: Memory::default(),
            pending: None,
        })
    }

    /// Begins a generation.
    pub fn begin(&mut self) {
        (self.memory, self.pending) = (Memory::default(), None);
    }

    /// The kind to run in place of the schedule's, where the gate fires.
    pub fn instead(&mut self, evaluation: usize, inputs: &[(&str, Feed<'_>)]) -> Option<&str> {
        let given = self.look(inputs)?;
        let fires = self.adaptive.fires(evaluation, &given, &self.memory);
        self.pending = Some((given, fires));
        fires.then_some(self.adaptive.instead.as_str())
    }

    /// After an evaluation as `kind`.
    pub fn advance(&mut self, kind: usize, inputs: &[(&str, Feed<'_>)]) {
        let seen = self.pending.take();
        let seen = seen.or_else(|| self.look(inputs).map(|given| (given, false)));
        if let Some((given, fired)) = seen {
            let anchors = self.anchors.get(kind).copied().unwrap_or_default();
            self.memory.advance(given, anchors, fired);
        }
    }

    fn look(&self, inputs: &[(&str, Feed<'_>)]) -> Option<Given> {
        let find = |name: &str| {
            let (_, feed) = inputs.iter().find(|(n, _)| *n == name)?;
            feed.to_tensor().ok()
        };
        Some(given(&find(&self.latent)?, &find(&self.time)?))
    }
}

/// What an evaluation is given, of its latent and its timestep.
pub(crate) fn given(latent: &Tensor, time: &Tensor) -> Given {
    Given {
        latent: latent.to_f32(),
        rows: latent.shape().first().copied().unwrap_or(1),
        time: time.to_f32().into_iter().fold(f32::MIN, f32::max),
    }
}
