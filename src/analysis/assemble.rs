//! The blocks of a whole graph: those of the UNet or ControlNet, of merged
//! ControlNets, and what belongs to none of them.

use super::blocks::{self, Block, BlockKind, Bounds, Stage};
use super::inputs::InputKind;
use super::trunk::Trunk;
use super::{Analysis, Role};
use crate::graph::{BitSet, Family, NodeId, ValueId};

impl Analysis<'_> {
    pub(super) fn find_blocks(&mut self) {
        let mut blocks = Vec::new();
        if self.role != Role::Other {
            blocks = self.unet_or_control_blocks();
            if self.role == Role::Merged {
                blocks.extend(self.merged_control_blocks());
                blocks.extend(self.merged_residuals(&blocks));
            }
            blocks.extend(self.hint_block());
        }
        blocks::assign_rest(&self.graph, &mut blocks, |n| self.rest(n));
        blocks.retain(|b| !b.nodes.is_empty());
        blocks.sort_by_key(|b| b.stage == Stage::Conditioning && b.kind == BlockKind::Embedding);
        let (mut first, rest): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .partition(|b| b.kind == BlockKind::Embedding);
        first.extend(rest);
        for (i, block) in first.iter().enumerate() {
            for node in &block.nodes {
                self.block_of[node.index()] = Some(i);
            }
        }
        self.blocks = first;
    }

    /// What depends on the control image and not on the latent.
    fn hint_block(&self) -> Option<Block> {
        let hint = |v: &ValueId| {
            let set = self.depends[v.index()];
            set.has(InputKind::ControlImage) && !set.has(InputKind::Latent)
        };
        let made = |n: &NodeId| self.graph.outputs_of(*n).iter().any(&hint);
        let nodes: Vec<NodeId> = self.graph.nodes().filter(made).collect();
        let read_by_others = |v: &ValueId| {
            self.graph
                .consumers(*v)
                .iter()
                .any(|n| nodes.binary_search(n).is_err())
        };
        let made = nodes
            .iter()
            .flat_map(|n| self.graph.outputs_of(*n))
            .copied();
        let outputs = made.filter(read_by_others).collect();
        let id = if self.role == Role::Merged {
            "control.hint"
        } else {
            "hint"
        }
        .to_owned();
        non_empty(id, Stage::Stem, BlockKind::Hint, nodes, outputs)
    }

    fn rest(&self, node: NodeId) -> (&'static str, Stage, BlockKind) {
        let set = self
            .graph
            .outputs_of(node)
            .first()
            .map(|v| self.depends[v.index()])
            .unwrap_or_default();
        if set.has(InputKind::Latent) {
            match self.role {
                Role::Controlnet => ("residuals", Stage::Head, BlockKind::Residuals),
                _ => ("other", Stage::Conditioning, BlockKind::Other),
            }
        } else {
            ("embedding", Stage::Conditioning, BlockKind::Embedding)
        }
    }

    fn unet_or_control_blocks(&mut self) -> Vec<Block> {
        let (Some(latent), Some(output)) = (self.input(InputKind::Latent), self.deepest_output())
        else {
            return Vec::new();
        };
        let mut keep = self.latent_nodes();
        keep.subtract(&self.control);
        let Some(target) = self.graph.producer(output) else {
            return Vec::new();
        };
        let Some(trunk) = Trunk::find(&self.graph, latent, target, &keep, &self.skips) else {
            return Vec::new();
        };
        let mut members = self.graph.ancestors(&[output], &BitSet::default());
        members = members.iter().filter(|n| keep.contains(*n)).collect();
        let bounds = if self.skips.is_empty() {
            self.control_bounds(&trunk, &self.latent_outputs())
        } else {
            self.unet_bounds(&trunk)
        };
        let blocks = blocks::along(&self.graph, &trunk, &self.attention, bounds, &members, "");
        self.trunk = Some(trunk);
        blocks
    }

    /// The blocks of each merged ControlNet; the ids of the first begin with `control.`, those
    /// of further ones with `control_1.` and so on.
    fn merged_control_blocks(&self) -> Vec<Block> {
        let Some(latent) = self.input(InputKind::Latent) else {
            return Vec::new();
        };
        let mut blocks = Vec::new();
        for (number, network) in self.merged_networks().iter().enumerate() {
            let deepest = network.outputs[0];
            let target = self.graph.producer(deepest);
            let keep = &network.nodes;
            let trunk = target.and_then(|t| Trunk::find(&self.graph, latent, t, keep, &[]));
            let Some(trunk) = trunk else { continue };
            let members = self.graph.ancestors(&[deepest], &BitSet::default());
            let members = members.iter().filter(|n| keep.contains(*n)).collect();
            let bounds = self.control_bounds(&trunk, &network.outputs);
            let prefix = match number {
                0 => "control.".to_owned(),
                n => format!("control_{n}."),
            };
            let (graph, attention) = (&self.graph, &self.attention);
            let found = blocks::along(graph, &trunk, attention, bounds, &members, &prefix);
            blocks.extend(found);
        }
        blocks
    }

    /// Merged ControlNets, told apart by what they compute from the latent: they share none
    /// of it. In the order of their nodes.
    fn merged_networks(&self) -> Vec<MergedNetwork> {
        let latent_nodes = self.latent_nodes();
        let own = |n: &usize| self.control.contains(*n) && latent_nodes.contains(*n);
        let above = |v: ValueId| -> BitSet {
            let all = self.graph.ancestors(&[v], &BitSet::default());
            all.iter().filter(own).collect()
        };
        let outputs = self.merged_outputs();
        let summands = outputs.iter().flat_map(|v| self.summands(*v));
        let mut found: Vec<(ValueId, BitSet)> = summands.map(|v| (v, above(v))).collect();
        // The deepest of a network first: its nodes tell the others of the same network.
        found.sort_by_key(|(v, nodes)| (std::cmp::Reverse(nodes.count()), *v));
        let mut networks: Vec<MergedNetwork> = Vec::new();
        for (output, nodes) in found {
            let shared =
                |network: &&mut MergedNetwork| nodes.iter().any(|n| network.nodes.contains(n));
            match networks.iter_mut().find(shared) {
                Some(network) => {
                    network.nodes.union_with(&nodes);
                    network.outputs.push(output);
                }
                None => networks.push(MergedNetwork {
                    outputs: vec![output],
                    nodes,
                }),
            }
        }
        networks.sort_by_key(|network| network.nodes.iter().next());
        networks
    }

    /// What a residual is the sum of: one value of each ControlNet.
    fn summands(&self, residual: ValueId) -> Vec<ValueId> {
        let (mut found, mut todo) = (Vec::new(), vec![residual]);
        let mut seen = BitSet::new(self.graph.value_count());
        while let Some(value) = todo.pop() {
            if !seen.insert(value.index()) {
                continue;
            }
            let sum = self.graph.producer(value).filter(|n| {
                let sums = matches!(
                    self.graph.family(*n),
                    Family::Sum | Family::Cast | Family::Same
                );
                let from_latent = |v: &ValueId| self.has(*v, InputKind::Latent);
                let inputs = self.graph.inputs_of(*n);
                // A bias is no summand.
                self.control.contains(n.index()) && sums && inputs.iter().all(from_latent)
            });
            match sum {
                Some(node) => todo.extend_from_slice(self.graph.inputs_of(node)),
                None => found.push(value),
            }
        }
        found
    }

    /// What merged ControlNets give the UNet.
    fn merged_outputs(&self) -> Vec<ValueId> {
        let skips = self.skips.iter().flat_map(|s| &s.residuals);
        let inside = |v: &&ValueId| {
            self.graph
                .producer(**v)
                .is_some_and(|n| self.control.contains(n.index()))
        };
        skips
            .chain(&self.mid_residuals)
            .filter(inside)
            .copied()
            .collect()
    }

    /// Projections and scales of merged residuals, that no other control block has.
    fn merged_residuals(&self, blocks: &[Block]) -> Option<Block> {
        let taken: BitSet = blocks
            .iter()
            .flat_map(|b| &b.nodes)
            .map(|n| n.index())
            .collect();
        let mut free = self.latent_nodes();
        free.subtract(&taken);
        let nodes: Vec<NodeId> = free
            .iter()
            .filter(|n| self.control.contains(*n))
            .map(NodeId::new)
            .collect();
        let made = |v: &ValueId| {
            self.graph
                .producer(*v)
                .is_some_and(|n| nodes.binary_search(&n).is_ok())
        };
        let outputs = self.merged_outputs().into_iter().filter(made).collect();
        let id = "control.residuals".to_owned();
        non_empty(id, Stage::Head, BlockKind::Residuals, nodes, outputs)
    }

    fn latent_nodes(&self) -> BitSet {
        let latent = |n: &NodeId| {
            self.graph
                .outputs_of(*n)
                .iter()
                .any(|v| self.has(*v, InputKind::Latent))
        };
        self.graph
            .nodes()
            .filter(latent)
            .map(NodeId::index)
            .collect()
    }

    fn unet_bounds(&self, trunk: &Trunk) -> Bounds {
        let at = |v: ValueId| self.graph.producer(v).and_then(|n| trunk.nearest(n));
        let sources: Vec<usize> = self.skips.iter().filter_map(|s| at(s.source)).collect();
        let concats = self.skips.iter().filter_map(|s| trunk.nearest(s.concat));
        Bounds {
            stem: sources.iter().copied().min().unwrap_or(0),
            encoder: sources.iter().copied().max().unwrap_or(0),
            decoder: concats.min().unwrap_or(usize::MAX),
        }
    }

    /// A ControlNet's outputs leave the trunk one by one; all but the last come from
    /// its encoder.
    fn control_bounds(&self, trunk: &Trunk, outputs: &[ValueId]) -> Bounds {
        let none = BitSet::default();
        let mut leaves: Vec<usize> = outputs
            .iter()
            .filter_map(|o| {
                let above = self.graph.ancestors(&[*o], &none);
                above
                    .iter()
                    .filter_map(|n| trunk.position(NodeId::new(n)))
                    .max()
            })
            .collect();
        leaves.sort_unstable();
        let deepest = leaves.pop().unwrap_or(0);
        Bounds {
            stem: leaves.first().copied().unwrap_or(0),
            encoder: leaves.last().copied().unwrap_or(deepest),
            decoder: usize::MAX,
        }
    }
}

/// One of the ControlNets in a merged graph.
struct MergedNetwork {
    /// What it gives, the deepest first.
    outputs: Vec<ValueId>,
    /// Its nodes that depend on the latent.
    nodes: BitSet,
}

/// A block, unless there is nothing in it.
fn non_empty(
    id: String,
    stage: Stage,
    kind: BlockKind,
    nodes: Vec<NodeId>,
    outputs: Vec<ValueId>,
) -> Option<Block> {
    (!nodes.is_empty()).then_some(Block {
        id,
        stage,
        kind,
        nodes,
        outputs,
    })
}
