//! Residuals of ControlNets: inputs that are added to what comes from the latent, alone or after
//! others.

use std::collections::HashSet;

use super::inputs::{Flow, InputKind};
use crate::graph::{BitSet, Family, Graph, NodeId, ValueId};

/// Sums of residuals on their way to what comes from the latent, level by level and each value
/// once: a hostile graph has many ways through its sums.
struct Sums {
    seen: HashSet<ValueId>,
    level: Vec<ValueId>,
    depth: usize,
}

impl Sums {
    /// ControlNets whose residuals may be summed inside a graph.
    const SETS: usize = 8;
    /// Values of one level; a residual has one.
    const WIDTH: usize = 16;

    fn new(value: ValueId) -> Self {
        Self {
            seen: HashSet::from([value]),
            level: vec![value],
            depth: 0,
        }
    }

    /// The values to look at next; none at the end, or where there are too many.
    fn next_level(&mut self) -> Option<Vec<ValueId>> {
        self.depth += 1;
        let more = !self.level.is_empty() && self.level.len() <= Self::WIDTH;
        let go = more && self.depth <= Self::SETS + 1;
        go.then(|| std::mem::take(&mut self.level))
    }

    /// Adds values to the next level.
    fn add(&mut self, values: &[ValueId]) {
        let fresh = values.iter().filter(|v| self.seen.insert(**v));
        self.level.extend(fresh);
    }

    /// Whether nothing is left.
    fn ended(&self) -> bool {
        self.level.is_empty()
    }
}

impl Flow<'_, '_> {
    /// A residual is added to what comes from the latent and does nothing else.
    pub(super) fn confirm_residuals(&self, kinds: &mut [InputKind]) {
        let inputs = self.graph.inputs();
        let latents: Vec<ValueId> = (0..kinds.len())
            .filter(|&i| kinds[i] == InputKind::Latent)
            .map(|i| inputs[i])
            .collect();
        let from_latent = self.graph.descendants(&latents);
        for (&value, kind) in inputs.iter().zip(kinds.iter_mut()) {
            if *kind == InputKind::Residual && !self.joins(value, &from_latent) {
                *kind = InputKind::Other;
            }
        }
    }

    /// Whether a value is added to what comes from the latent and does nothing else, it may be
    /// after others that are no part of it either: residuals of several ControlNets.
    fn joins(&self, value: ValueId, from_latent: &BitSet) -> bool {
        let mut sums = Sums::new(value);
        while let Some(level) = sums.next_level() {
            for value in level {
                let first = self.first_ops(value);
                let adds = |n: &NodeId| {
                    let family = self.graph.family(*n);
                    matches!(family, Family::Sum | Family::SkipNorm)
                };
                if first.is_empty() || !first.iter().all(adds) {
                    return false;
                }
                let apart = first.iter().filter(|n| !from_latent.contains(n.index()));
                apart.for_each(|n| sums.add(self.graph.outputs_of(*n)));
            }
        }
        sums.ended()
    }
}

/// Stride of the place that a residual is added to, with others or alone.
pub(super) fn residual_stride(
    graph: &Graph<'_>,
    residual: ValueId,
    strides: &[i64],
) -> Option<i64> {
    let mut sums = Sums::new(residual);
    while let Some(level) = sums.next_level() {
        for value in level {
            for node in (Flow { graph }).first_ops(value) {
                let others = graph.inputs_of(node).iter();
                if let Some(stride) = others.map(|v| strides[v.index()]).find(|s| *s > 0) {
                    return Some(stride);
                }
                sums.add(graph.outputs_of(node));
            }
        }
    }
    None
}
