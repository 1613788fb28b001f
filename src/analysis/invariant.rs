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
    let nodes = pure_nodes(analysis);
    let read_outside = |v: &ValueId| {
        graph.is_output(*v)
            || graph
                .consumers(*v)
                .iter()
                .any(|n| !nodes.contains(n.index()) && !graph.family(*n).measures())
    };
    let read: Vec<ValueId> = nodes
        .iter()
        .flat_map(|n| graph.outputs_of(NodeId::new(n)))
        .copied()
        .filter(read_outside)
        .collect();
    let frontier = costly_sources(analysis, &nodes, read);
    let above = graph.ancestors(&frontier, &BitSet::default());
    let nodes = above.iter().filter(|n| nodes.contains(*n)).collect();
    Invariant { frontier, nodes }
}

/// Walks back over operators without MACs: reshapes and transposes after a projection
/// are as cheap as a cache, and sizes are often taken from the projection itself.
fn costly_sources(analysis: &Analysis<'_>, nodes: &BitSet, read: Vec<ValueId>) -> Vec<ValueId> {
    let graph = &analysis.graph;
    let mut found = Vec::new();
    let mut seen = BitSet::new(graph.value_count());
    let mut todo = read;
    while let Some(value) = todo.pop() {
        let Some(node) = graph.producer(value) else {
            continue;
        };
        if !nodes.contains(node.index()) || !seen.insert(value.index()) {
            continue;
        }
        if analysis.macs(node, 1).all > 0 {
            found.push(value);
        } else {
            todo.extend_from_slice(graph.inputs_of(node));
        }
    }
    found.sort_unstable();
    found
}

/// Nodes that read constant inputs, and sizes of graph inputs, alone. A size of an
/// inner value does not count: to know it, that value must be computed first.
fn pure_nodes(analysis: &Analysis<'_>) -> BitSet {
    let graph = &analysis.graph;
    let mut fixed = BitSet::new(graph.value_count());
    let mut nodes = BitSet::new(graph.node_count());
    for (value, kind) in graph.inputs().iter().zip(&analysis.kinds) {
        if kind.is_invariant() {
            fixed.insert(value.index());
        }
    }
    for node in graph.nodes() {
        let sized = graph.family(node).measures();
        let known = |v: &ValueId| {
            let size_of_input = sized && graph.input_info(*v).is_some();
            fixed.contains(v.index()) || graph.is_constant(*v) || size_of_input
        };
        let invariant = |v: &ValueId| analysis.depends[v.index()].is_invariant();
        let outputs = graph.outputs_of(node);
        if graph.inputs_of(node).iter().all(known) && outputs.iter().all(invariant) {
            for value in outputs {
                fixed.insert(value.index());
            }
            if outputs
                .iter()
                .any(|v| !analysis.depends[v.index()].is_empty())
            {
                nodes.insert(node.index());
            }
        }
    }
    nodes
}
