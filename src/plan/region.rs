//! Regions: the nodes needed only to compute a site.

use crate::graph::{BitSet, Family, Graph, NodeId, ValueId};

/// A site's region and what had to be added to its tensors.
#[derive(Clone, Debug)]
pub struct Region {
    /// The nodes.
    pub nodes: BitSet,
    /// Sizes of what is computed inside that are read outside, by the region too or not:
    /// returned beside the site's tensors.
    pub escapes: Vec<ValueId>,
}

/// `TensorProto.DataType.INT64`.
const INT64: i64 = 7;

fn measures(graph: &Graph<'_>, node: NodeId) -> bool {
    graph.family(node).measures()
}

/// Derives the region of `tensors`: what reaches them, less what is still needed
/// once they are given. A value that is needed only for its shape does not stay.
#[must_use]
pub fn derive(graph: &Graph<'_>, tensors: &[ValueId]) -> Region {
    let mut given: BitSet = tensors.iter().map(|v| v.index()).collect();
    let mut escapes: Vec<ValueId> = Vec::new();
    loop {
        let live = live_nodes(graph, &given);
        let mut targets = tensors.to_vec();
        targets.extend(&escapes);
        let mut nodes = graph.ancestors(&targets, &BitSet::default());
        nodes.subtract(&live);
        follow(graph, &mut nodes, &live);
        let mut escaping: Vec<ValueId> = live
            .iter()
            .map(NodeId::new)
            .filter(|n| measures(graph, *n))
            .filter(|n| {
                let source = graph.input_at(*n, 0).filter(|v| !given.contains(v.index()));
                source
                    .and_then(|v| graph.producer(v))
                    .is_some_and(|p| nodes.contains(p.index()))
            })
            .filter_map(|n| graph.output_of(n))
            .collect();
        if escaping.is_empty() {
            escaping = returning(graph, &nodes, &live);
        }
        if escaping.is_empty() {
            return Region { nodes, escapes };
        }
        given.extend_from(&escaping);
        escapes.extend(escaping);
    }
}

/// Sizes of the region's values that are computed outside and that the region reads again:
/// exporters compute the sizes of all reshapes once. The region has to compute them itself.
fn returning(graph: &Graph<'_>, nodes: &BitSet, live: &BitSet) -> Vec<ValueId> {
    let from = |n: NodeId, of: &BitSet| {
        let mut sources = graph.inputs_of(n).iter().map(|v| graph.producer(*v));
        sources.any(|p| p.is_some_and(|p| of.contains(p.index())))
    };
    let sizes = size_nodes(graph);
    let mut after = BitSet::new(graph.node_count());
    let mut found = Vec::new();
    for node in graph.nodes().filter(|n| sizes.contains(n.index())) {
        let is_after = from(node, nodes) || from(node, &after);
        if !is_after || nodes.contains(node.index()) || !live.contains(node.index()) {
            continue;
        }
        after.insert(node.index());
        let inside = |v: &ValueId| {
            let mut readers = graph.consumers(*v).iter();
            readers.any(|n| nodes.contains(n.index()))
        };
        found.extend(graph.output_of(node).filter(inside));
    }
    found
}

/// Nodes that compute integers from shapes and constants alone.
fn size_nodes(graph: &Graph<'_>) -> BitSet {
    let mut sizes = BitSet::new(graph.node_count());
    for node in graph.nodes() {
        let arithmetic = match graph.family(node) {
            Family::Part | Family::Concat | Family::Reshape | Family::Same => true,
            Family::Cast => graph.node(node).attr_i("to") == Some(INT64),
            family => family.is_arithmetic(),
        };
        let inputs = graph.inputs_of(node);
        let of_sizes = |v: &ValueId| {
            let producer = graph.producer(*v);
            producer.is_some_and(|p| sizes.contains(p.index()))
        };
        let computed = arithmetic
            && inputs.iter().any(of_sizes)
            && inputs.iter().all(|v| of_sizes(v) || graph.is_constant(*v));
        if measures(graph, node) || computed {
            sizes.insert(node.index());
        }
    }
    sizes
}

/// Adds what reads the region and is needed by nobody, or for its shape only: outside it
/// would have nothing to read.
fn follow(graph: &Graph<'_>, nodes: &mut BitSet, live: &BitSet) {
    let reads = |nodes: &BitSet, node: NodeId| {
        let mut producers = graph.inputs_of(node).iter().map(|v| graph.producer(*v));
        producers.any(|p| p.is_some_and(|p| nodes.contains(p.index())))
    };
    for index in graph.nodes() {
        let idle = !live.contains(index.index()) && !nodes.contains(index.index());
        if idle && reads(nodes, index) {
            nodes.insert(index.index());
        }
    }
}

/// Nodes that some graph output needs when the `given` values need no computing.
fn live_nodes(graph: &Graph<'_>, given: &BitSet) -> BitSet {
    let mut live = BitSet::new(graph.node_count());
    let mut todo: Vec<ValueId> = graph.outputs().to_vec();
    while let Some(value) = todo.pop() {
        if given.contains(value.index()) {
            continue;
        }
        let Some(node) = graph.producer(value) else {
            continue;
        };
        if live.insert(node.index()) && !measures(graph, node) {
            todo.extend_from_slice(graph.inputs_of(node));
        }
    }
    // What a shape is taken of stays as well, unless the region computes it.
    keep_views(graph, given, &mut live);
    live
}

/// Keeps what only rearranges a value that is there anyway, and is read for its shape: no
/// region need compute it.
fn keep_views(graph: &Graph<'_>, given: &BitSet, live: &mut BitSet) {
    let view = |node: NodeId| graph.family(node).rearranges();
    let measured: Vec<NodeId> = live
        .iter()
        .map(NodeId::new)
        .filter(|n| measures(graph, *n))
        .collect();
    for node in measured {
        let mut chain = Vec::new();
        let mut source = graph.input_at(node, 0);
        let there = loop {
            let producer = source
                .filter(|v| !given.contains(v.index()))
                .and_then(|v| graph.producer(v));
            let Some(producer) = producer else {
                break true;
            };
            if live.contains(producer.index()) {
                break true;
            }
            if let Some(nodes) = preparation(graph, producer) {
                chain.extend(nodes);
                break true;
            }
            let rest = graph.inputs_of(producer).iter().skip(1);
            if !view(producer) || !rest.copied().all(|v| graph.is_constant(v)) {
                break false;
            }
            chain.push(producer);
            source = graph.input_at(producer, 0);
        };
        if there {
            for node in chain {
                live.insert(node.index());
                let constants = graph.inputs_of(node).iter().copied();
                let constants: Vec<_> = constants.filter(|v| graph.is_constant(*v)).collect();
                live.union_with(&graph.ancestors(&constants, &BitSet::default()));
            }
        }
    }
}

/// The nodes that make a value of graph inputs and constants alone by joining or scaling them, if
/// they are few: what stands before the first convolution of a model that is given its latent in parts.
fn preparation(graph: &Graph<'_>, last: NodeId) -> Option<Vec<NodeId>> {
    const FEW: usize = 16;
    let mut found = Vec::new();
    let mut todo = vec![last];
    while let Some(node) = todo.pop() {
        if found.contains(&node) {
            continue;
        }
        let family = graph.family(node);
        let cheap = family == Family::Concat || family.rearranges() || family.is_arithmetic();
        if !cheap || found.len() == FEW {
            return None;
        }
        found.push(node);
        let inputs = graph.inputs_of(node).iter();
        let computed = inputs.filter(|v| !graph.is_constant(**v));
        todo.extend(computed.filter_map(|v| graph.producer(*v)));
    }
    Some(found)
}

impl BitSet {
    fn extend_from(&mut self, values: &[ValueId]) {
        for value in values {
            self.insert(value.index());
        }
    }
}
