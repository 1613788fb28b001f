//! The blocks of a whole graph: those of the UNet or ControlNet, of merged
//! ControlNets, and what belongs to none of them.

use super::blocks::{self, Block, BlockKind, Bounds, Stage};
use super::inputs::InputKind;
use super::trunk::Trunk;
use super::{Analysis, Role};
use crate::graph::{BitSet, NodeId, ValueId};

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

    fn merged_control_blocks(&self) -> Vec<Block> {
        let Some(latent) = self.input(InputKind::Latent) else {
            return Vec::new();
        };
        let latent_nodes = self.latent_nodes();
        let keep: BitSet = self
            .control
            .iter()
            .filter(|n| latent_nodes.contains(*n))
            .collect();
        let residuals = self.merged_outputs();
        let none = BitSet::default();
        let Some(deepest) = residuals
            .iter()
            .copied()
            .max_by_key(|v| self.graph.ancestors(&[*v], &none).count())
        else {
            return Vec::new();
        };
        let Some(trunk) = self
            .graph
            .producer(deepest)
            .and_then(|target| Trunk::find(&self.graph, latent, target, &keep, &[]))
        else {
            return Vec::new();
        };
        let mut members = self.graph.ancestors(&[deepest], &none);
        members = members.iter().filter(|n| keep.contains(*n)).collect();
        let bounds = self.control_bounds(&trunk, &residuals);
        blocks::along(
            &self.graph,
            &trunk,
            &self.attention,
            bounds,
            &members,
            "control.",
        )
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
