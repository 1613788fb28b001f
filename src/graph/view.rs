//! Views of a graph for petgraph's algorithms.

use petgraph::algo::dominators;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{BitSet, Graph, NodeId, ValueId};

/// A part of the graph as a petgraph digraph: the kept nodes, an edge from a
/// producer to each of its consumers, and a root that stands for one value.
pub struct View {
    graph: DiGraph<Option<NodeId>, ()>,
    root: NodeIndex,
    index: Vec<Option<NodeIndex>>,
}

impl View {
    /// The view of the nodes in `keep`, rooted at `root`, without the edges
    /// (value, consumer) for which `cut` is true.
    #[must_use]
    pub fn new(
        graph: &Graph<'_>,
        root: ValueId,
        keep: &BitSet,
        cut: impl Fn(ValueId, NodeId) -> bool,
    ) -> Self {
        let mut view = DiGraph::new();
        let origin = view.add_node(None);
        let mut index = vec![None; graph.node_count()];
        for node in keep.iter() {
            index[node] = Some(view.add_node(Some(NodeId::new(node))));
        }
        for node in keep.iter().map(NodeId::new) {
            let Some(to) = index[node.index()] else {
                continue;
            };
            for &value in graph.inputs_of(node) {
                if cut(value, node) {
                    continue;
                }
                if value == root {
                    view.add_edge(origin, to, ());
                } else if let Some(from) = graph.producer(value).and_then(|p| index[p.index()]) {
                    view.add_edge(from, to, ());
                }
            }
        }
        Self {
            graph: view,
            root: origin,
            index,
        }
    }
}

/// Dominators of a view.
pub struct Dominators {
    /// Nodes on every path from the root to the target, in order, target last.
    pub chain: Vec<NodeId>,
    /// For each reachable node that is not on the chain, the position in `chain`
    /// of its nearest dominator there; `None` where that is the root.
    pub nearest: Vec<Option<Option<usize>>>,
}

/// Finds the nodes through which every path from the root to `target` goes, and
/// to which of them every other node belongs. None if `target` is not reachable.
#[must_use]
pub fn dominator_chain(view: &View, target: NodeId) -> Option<Dominators> {
    let found = dominators::simple_fast(&view.graph, view.root);
    let target = view.index[target.index()]?;
    let mut chain: Vec<NodeId> = found
        .dominators(target)?
        .filter_map(|n| view.graph[n])
        .collect();
    chain.reverse();
    let mut position = vec![None; view.index.len()];
    for (i, node) in chain.iter().enumerate() {
        position[node.index()] = Some(i);
    }
    let mut nearest: Vec<Option<Option<usize>>> = vec![None; view.index.len()];
    for (node, slot) in view.index.iter().enumerate() {
        let Some(start) = slot else { continue };
        if position[node].is_some() {
            continue;
        }
        let Some(above) = found.immediate_dominator(*start) else {
            continue;
        };
        // Nodes are in topological order, so that of the one above is known already.
        nearest[node] = match view.graph[above] {
            None => Some(None),
            Some(id) => match position[id.index()] {
                Some(hit) => Some(Some(hit)),
                None => nearest[id.index()],
            },
        };
    }
    Some(Dominators { chain, nearest })
}
