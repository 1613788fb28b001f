//! The trunk of a diffusion network: the values that every path from the latent to
//! the output goes through once skip connections are set aside.
//!
//! Skip connections are the decoder `Concat`s whose one operand comes from an
//! encoder value that also reaches the other operand. ControlNet residuals are what
//! is added to a skip on its way, or to the value before the first `Concat`.

use std::collections::HashSet;

use crate::graph::{BitSet, Dominators, Family, Graph, NodeId, ValueId, View, dominator_chain};

use super::depends::Kinds;
use super::inputs::InputKind;
use super::shapes::Shapes;

/// One skip connection.
#[derive(Clone, Debug)]
pub struct Skip {
    /// The decoder `Concat`.
    pub concat: NodeId,
    /// Its operand that comes through the deeper blocks.
    pub main: ValueId,
    /// Its operand that comes from the encoder, residuals included.
    pub operand: ValueId,
    /// The encoder value before residuals.
    pub source: ValueId,
    /// What is added on the way: ControlNet residuals.
    pub residuals: Vec<ValueId>,
}

/// The main path of one network.
pub struct Trunk {
    /// Nodes on every path from the latent to the output, and whom the others belong to.
    pub path: Dominators,
    /// Position on the path by node.
    position: Vec<Option<usize>>,
}

impl Trunk {
    /// The path from `root` to the node `target` inside `keep`, skips set aside.
    #[must_use]
    pub fn find(
        graph: &Graph<'_>,
        root: ValueId,
        target: NodeId,
        keep: &BitSet,
        skips: &[Skip],
    ) -> Option<Self> {
        let view = View::new(graph, root, keep, |value, node| {
            skips
                .iter()
                .any(|s| s.concat == node && s.operand == value && s.main != value)
        });
        let path = dominator_chain(&view, target)?;
        let mut position = vec![None; graph.node_count()];
        for (i, node) in path.chain.iter().enumerate() {
            position[node.index()] = Some(i);
        }
        Some(Self { path, position })
    }

    /// Position of a node on the path.
    #[must_use]
    pub fn position(&self, node: NodeId) -> Option<usize> {
        self.position.get(node.index()).copied().flatten()
    }

    /// Position of the path node that a node comes after, or its own.
    #[must_use]
    pub fn nearest(&self, node: NodeId) -> Option<usize> {
        self.position(node)
            .or_else(|| self.path.nearest[node.index()].flatten())
    }

    /// The step of the path that a node works towards: the position of the next path
    /// node, or its own.
    #[must_use]
    pub fn group(&self, node: NodeId) -> Option<usize> {
        if let Some(own) = self.position(node) {
            return Some(own);
        }
        let after = self.path.nearest[node.index()]?;
        let next = after.map_or(0, |p| p + 1);
        (next < self.path.chain.len()).then_some(next)
    }
}

/// Finds all skip connections, deepest first.
#[must_use]
pub fn find_skips(graph: &Graph<'_>, shapes: &Shapes, depends: &[Kinds]) -> Vec<Skip> {
    let latent = |v: ValueId| depends[v.index()].has(InputKind::Latent);
    let rank = |v: ValueId| shapes.get(v).map(|s| s.dims.len());
    let is_map = |v: ValueId| rank(v).is_none_or(|r| r == 4);
    let mut skips = Vec::new();
    for concat in graph.nodes().filter(|n| graph.family(*n) == Family::Concat) {
        let &[left, right] = graph.inputs_of(concat) else {
            continue;
        };
        // The last axis holds the channels in the layout of some accelerators; short of
        // a known rank it is more likely a concatenation of embeddings.
        let channels = match graph.node(concat).attr_i("axis") {
            Some(1 | -3) => true,
            Some(3 | -1) => rank(left) == Some(4),
            _ => false,
        };
        if !channels || !latent(left) || !latent(right) || !is_map(left) || !is_map(right) {
            continue;
        }
        let found = skip_of(graph, depends, concat, left, right)
            .or_else(|| skip_of(graph, depends, concat, right, left));
        skips.extend(found);
    }
    skips
}

/// `operand` as a skip beside `main`: some value it is summed from reaches `main`.
fn skip_of(
    graph: &Graph<'_>,
    depends: &[Kinds],
    concat: NodeId,
    main: ValueId,
    operand: ValueId,
) -> Option<Skip> {
    let above = graph.ancestors(&[main], &BitSet::default());
    // The operand may be the encoder value in another layout or type.
    let reaches_main = |v: ValueId| {
        let mut value = v;
        loop {
            let Some(node) = graph.producer(value) else {
                return value == main;
            };
            if value == main || above.contains(node.index()) {
                return true;
            }
            match (graph.family(node), graph.inputs_of(node)) {
                (Family::Transpose | Family::Cast | Family::Same, &[before])
                | (Family::Quantize, &[before, ..]) => value = before,
                _ => return false,
            }
        }
    };
    let mut residuals = Vec::new();
    let mut value = operand;
    loop {
        if depends[value.index()].has(InputKind::Latent) && reaches_main(value) {
            return Some(Skip {
                concat,
                main,
                operand,
                source: value,
                residuals,
            });
        }
        let node = graph.producer(value)?;
        if !is_sum(graph, node) {
            return None;
        }
        let inputs = graph.inputs_of(node);
        let deeper = |v: &ValueId| sum_reaches(graph, *v, &reaches_main);
        let next = inputs.iter().copied().find(deeper)?;
        residuals.extend(others(graph, inputs, next));
        value = next;
    }
}

/// What is added to `next`; not the scales of a quantisation.
fn others<'a>(
    graph: &'a Graph<'_>,
    inputs: &'a [ValueId],
    next: ValueId,
) -> impl Iterator<Item = ValueId> + 'a {
    let added = move |v: &ValueId| *v != next && !graph.is_constant(*v);
    inputs.iter().copied().filter(added)
}

/// A residual that reaches the encoder value of a skip is no ControlNet's, which are added on
/// the way to the decoder: adapters add to the encoder itself. True if one changed.
pub(super) fn refute_residuals(graph: &Graph<'_>, kinds: &mut [InputKind], skips: &[Skip]) -> bool {
    let sources: BitSet = skips.iter().map(|s| s.source.index()).collect();
    let mut changed = false;
    for (&value, kind) in graph.inputs().iter().zip(kinds.iter_mut()) {
        if *kind != InputKind::Residual {
            continue;
        }
        if flows_into(graph, value, &sources) {
            *kind = InputKind::Other;
            changed = true;
        }
    }
    changed
}

/// Whether what is in `value`, not its size alone, goes into one of `targets`: exports take
/// sizes from any input.
fn flows_into(graph: &Graph<'_>, value: ValueId, targets: &BitSet) -> bool {
    let mut seen = BitSet::new(graph.node_count());
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        if targets.contains(value.index()) {
            return true;
        }
        for &node in graph.consumers(value) {
            if !graph.family(node).measures() && seen.insert(node.index()) {
                todo.extend_from_slice(graph.outputs_of(node));
            }
        }
    }
    false
}

/// Whether `value`, or something it is summed from, reaches the main operand.
fn sum_reaches(graph: &Graph<'_>, value: ValueId, reaches_main: &impl Fn(ValueId) -> bool) -> bool {
    const MAX_CONTROLNETS: usize = 16;
    // Level by level, each value once: a hostile graph has many ways through its sums.
    let (mut seen, mut level) = (HashSet::from([value]), vec![value]);
    for _ in 0..=MAX_CONTROLNETS {
        if level.iter().any(|v| reaches_main(*v)) {
            return true;
        }
        let sums = level.iter().filter_map(|v| graph.producer(*v));
        let summed: Vec<ValueId> = sums
            .filter(|n| is_sum(graph, *n))
            .flat_map(|n| graph.inputs_of(n).to_vec())
            .collect();
        level = summed.into_iter().filter(|v| seen.insert(*v)).collect();
    }
    false
}

/// What merged ControlNets give the mid block: what is added to its value, which no
/// control image reaches, on the way to the first decoder `Concat`.
#[must_use]
pub fn mid_residuals(graph: &Graph<'_>, skips: &[Skip], depends: &[Kinds]) -> Vec<ValueId> {
    let own = |v: ValueId| {
        let set = depends[v.index()];
        set.has(InputKind::Latent) && !set.has(InputKind::ControlImage)
    };
    let mut found = Vec::new();
    let Some(mut value) = skips.first().map(|s| s.main) else {
        return found;
    };
    while !own(value) {
        let Some(node) = graph.producer(value) else {
            return Vec::new();
        };
        let inputs = graph.inputs_of(node);
        let towards = |v: &ValueId| sum_reaches(graph, *v, &own);
        match inputs.iter().copied().find(towards) {
            Some(next) if is_sum(graph, node) => {
                found.extend(others(graph, inputs, next));
                value = next;
            }
            _ => return Vec::new(),
        }
    }
    found
}

fn is_sum(graph: &Graph<'_>, node: NodeId) -> bool {
    matches!(
        graph.family(node),
        Family::Sum | Family::Cast | Family::Same | Family::Transpose | Family::Quantize
    )
}

/// Nodes of ControlNets that are merged into the graph: those that make residuals
/// and are not part of the UNet's own encoder or mid block.
#[must_use]
pub fn control_nodes(graph: &Graph<'_>, skips: &[Skip], mid: &[ValueId]) -> BitSet {
    let mut residuals: Vec<ValueId> = skips.iter().flat_map(|s| s.residuals.clone()).collect();
    residuals.extend_from_slice(mid);
    let sources: Vec<ValueId> = skips.iter().map(|s| s.source).collect();
    let mut nodes = graph.ancestors(&residuals, &BitSet::default());
    nodes.subtract(&graph.ancestors(&sources, &BitSet::default()));
    nodes
}
