//! What stays the same over one generation.

use crate::graph::{BitSet, NodeId, ValueId};

use super::Analysis;

/// The step-invariant part of a graph.
#[derive(Clone, Debug, Default)]
pub struct Invariant {
    /// Values that depend on constant inputs alone and are read by something that
    /// changes from step to step; they cost MACs to make.
    pub frontier: Vec<ValueId>,
    /// Nodes needed for these values alone.
    pub nodes: BitSet,
}

/// Finds the step-invariant part.
///
/// Text, pooled text, time ids, guidance embedding and control image are constant
/// over a generation; latent, timestep, residuals, conditioning scale and everything
/// unrecognised are not.
#[must_use]
pub fn find(analysis: &Analysis<'_>) -> Invariant {
    let graph = &analysis.graph;
    let constant = |v: &ValueId| {
        let set = analysis.depends[v.index()];
        !set.is_empty() && set.is_invariant()
    };
    let nodes: BitSet = graph
        .nodes()
        .filter(|n| !graph.outputs_of(*n).is_empty() && graph.outputs_of(*n).iter().all(|v| constant(v)))
        .map(NodeId::index)
        .collect();
    let read_outside = |v: &ValueId| {
        graph.is_output(*v)
            || graph
                .consumers(*v)
                .iter()
                .any(|n| !nodes.contains(n.index()) && graph.op(*n) != "Shape")
    };
    let none = BitSet::default();
    let costs = |v: &ValueId| {
        let above = graph.ancestors(&[*v], &none);
        analysis.macs_of(above.iter().map(NodeId::new), analysis.sizes.batch).all > 0
    };
    let frontier: Vec<ValueId> = nodes
        .iter()
        .flat_map(|n| graph.outputs_of(NodeId::new(n)))
        .copied()
        .filter(|v| read_outside(v) && costs(v))
        .collect();
    let above = graph.ancestors(&frontier, &none);
    let nodes = above.iter().filter(|n| nodes.contains(*n)).collect();
    Invariant { frontier, nodes }
}
