//! Blocks of a diffusion network: stem, encoder, mid, decoder and head; resnets,
//! transformers, down- and upsamplers inside them.

use std::collections::HashMap;

use crate::graph::{BitSet, Family, Graph, NodeId, ValueId};

use super::attention::Attention;
use super::strides::{conv_stride, is_conv};
use super::trunk::Trunk;

/// Part of the network that a block lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Timestep and pooled embeddings, constants shared by several blocks.
    Conditioning,
    /// From the latent to the first encoder value; hint encoder of a ControlNet.
    Stem,
    /// Down-sampling half.
    Encoder,
    /// Between the last encoder value and the first decoder `Concat`.
    Mid,
    /// Up-sampling half.
    Decoder,
    /// Last norm and convolution, or the projections of ControlNet residuals.
    Head,
}

/// What a block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// Convolutions around a residual add, no attention.
    Resnet,
    /// Attention and feed-forward layers around a residual add.
    Transformer,
    /// Strided convolution.
    Downsample,
    /// Resize or transposed convolution, with the convolution after it.
    Upsample,
    /// First convolution.
    Stem,
    /// Encoder of the control image.
    Hint,
    /// Last layers.
    Head,
    /// Projections of ControlNet residuals ("zero convolutions") and their scale.
    Residuals,
    /// Embeddings and shared small computations.
    Embedding,
    /// None of these.
    Other,
}

/// One block.
#[derive(Clone, Debug)]
pub struct Block {
    /// `up.2.resnet.0` and the like; unique in a graph.
    pub id: String,
    /// Where it lies.
    pub stage: Stage,
    /// What it is.
    pub kind: BlockKind,
    /// Its nodes, in topological order.
    pub nodes: Vec<NodeId>,
    /// Values that the next block reads.
    pub outputs: Vec<ValueId>,
}

/// Where stages begin and end on a trunk, by position on its path.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Last position of the stem.
    pub stem: usize,
    /// Last position of the encoder.
    pub encoder: usize,
    /// First position of the decoder, past the end where there is none.
    pub decoder: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Resnet,
    Transformer,
    Down,
    Up,
    Conv,
    Small,
}

/// Cuts one trunk into blocks. `members` are the nodes that may belong to it.
#[must_use]
pub fn along(
    graph: &Graph<'_>,
    trunk: &Trunk,
    attention: &[Attention],
    bounds: Bounds,
    members: &BitSet,
    prefix: &str,
) -> Vec<Block> {
    let mut groups: Vec<Vec<NodeId>> = vec![Vec::new(); trunk.path.chain.len()];
    for node in members.iter().map(NodeId::new) {
        if let (Some(group), None) = (trunk.group(node), trunk.position(node)) {
            groups[group].push(node);
        }
    }
    // The node on the path comes last: its output is what the next block reads.
    for (group, node) in groups.iter_mut().zip(&trunk.path.chain) {
        group.push(*node);
    }
    let cores: BitSet = attention
        .iter()
        .flat_map(|a| &a.core)
        .map(|n| n.index())
        .collect();
    let steps: Vec<Step> = groups.iter().map(|g| classify(graph, g, &cores)).collect();
    let last_block = steps
        .iter()
        .rposition(|s| !matches!(s, Step::Conv | Step::Small));
    let mut builder = Builder {
        graph,
        prefix,
        blocks: Vec::new(),
        counts: HashMap::new(),
        level: 0,
    };
    let mut stage = Stage::Stem;
    let mut pending: Vec<NodeId> = Vec::new();
    for (i, group) in groups.into_iter().enumerate() {
        let now = stage_at(i, bounds, last_block);
        if now != stage {
            builder.close(stage, &mut pending);
            builder.level = if now == Stage::Decoder || now == Stage::Encoder {
                0
            } else {
                builder.level
            };
            stage = now;
        }
        builder.add(stage, steps[i], group, &mut pending);
    }
    builder.close(stage, &mut pending);
    builder.blocks
}

fn stage_at(position: usize, bounds: Bounds, last_block: Option<usize>) -> Stage {
    if position <= bounds.stem {
        Stage::Stem
    } else if position <= bounds.encoder {
        Stage::Encoder
    } else if last_block.is_some_and(|last| position > last) {
        Stage::Head
    } else if position < bounds.decoder {
        Stage::Mid
    } else {
        Stage::Decoder
    }
}

fn classify(graph: &Graph<'_>, group: &[NodeId], cores: &BitSet) -> Step {
    let convs: Vec<NodeId> = group
        .iter()
        .copied()
        .filter(|n| is_conv(graph, *n))
        .collect();
    let any = |family: Family| group.iter().any(|n| graph.family(*n) == family);
    if group.iter().any(|n| cores.contains(n.index())) {
        Step::Transformer
    } else if any(Family::Upsample) || any(Family::ConvolutionTranspose) {
        Step::Up
    } else if convs
        .iter()
        .any(|n| group.last() == Some(n) && conv_stride(graph, *n) > 1)
        || any(Family::Pool)
    {
        Step::Down
    } else if group.len() > 1 && !convs.is_empty() {
        Step::Resnet
    } else if convs.is_empty() {
        Step::Small
    } else {
        Step::Conv
    }
}

struct Builder<'a, 'm> {
    graph: &'a Graph<'m>,
    prefix: &'a str,
    blocks: Vec<Block>,
    counts: HashMap<(Stage, usize, BlockKind), usize>,
    level: usize,
}

impl Builder<'_, '_> {
    fn add(&mut self, stage: Stage, step: Step, group: Vec<NodeId>, pending: &mut Vec<NodeId>) {
        let kind = match step {
            Step::Resnet => BlockKind::Resnet,
            Step::Transformer => BlockKind::Transformer,
            Step::Down => BlockKind::Downsample,
            Step::Up => BlockKind::Upsample,
            Step::Conv if self.follows_upsample(stage, pending) => {
                self.extend_last(group, pending);
                return;
            }
            Step::Conv | Step::Small => {
                pending.extend(group);
                return;
            }
        };
        if stage == Stage::Stem || stage == Stage::Head {
            pending.extend(group);
            return;
        }
        let mut nodes = std::mem::take(pending);
        nodes.extend(group);
        self.push(stage, kind, nodes);
        if matches!(kind, BlockKind::Downsample | BlockKind::Upsample) {
            self.level += 1;
        }
    }

    /// A convolution right after a resize belongs to the upsampler.
    fn follows_upsample(&self, stage: Stage, pending: &[NodeId]) -> bool {
        pending
            .iter()
            .all(|n| self.graph.family(*n) != Family::Concat)
            && self
                .blocks
                .last()
                .is_some_and(|b| b.kind == BlockKind::Upsample && b.stage == stage)
    }

    fn extend_last(&mut self, group: Vec<NodeId>, pending: &mut Vec<NodeId>) {
        if let Some(block) = self.blocks.last_mut() {
            block.nodes.append(pending);
            block.outputs = last_outputs(self.graph, &group);
            block.nodes.extend(group);
        }
    }

    fn close(&mut self, stage: Stage, pending: &mut Vec<NodeId>) {
        if pending.is_empty() {
            return;
        }
        let nodes = std::mem::take(pending);
        match stage {
            Stage::Stem => self.push(stage, BlockKind::Stem, nodes),
            Stage::Head => self.push(stage, BlockKind::Head, nodes),
            _ => match self.blocks.last_mut() {
                Some(block) => {
                    block.outputs = last_outputs(self.graph, &nodes);
                    block.nodes.extend(nodes);
                }
                None => self.push(stage, BlockKind::Other, nodes),
            },
        }
    }

    fn push(&mut self, stage: Stage, kind: BlockKind, nodes: Vec<NodeId>) {
        let count = self.counts.entry((stage, self.level, kind)).or_default();
        let (place, name) = (self.level, kind_name(kind));
        let id = match (stage, kind) {
            (Stage::Stem, _) => "stem".to_owned(),
            (Stage::Head, _) => "head".to_owned(),
            (Stage::Encoder, BlockKind::Downsample) => format!("down.{place}.{name}"),
            (Stage::Encoder, _) => format!("down.{place}.{name}.{count}"),
            (Stage::Decoder, BlockKind::Upsample) => format!("up.{place}.{name}"),
            (Stage::Decoder, _) => format!("up.{place}.{name}.{count}"),
            (Stage::Mid | Stage::Conditioning, _) => format!("mid.{name}.{count}"),
        };
        *count += 1;
        let outputs = last_outputs(self.graph, &nodes);
        self.blocks.push(Block {
            id: format!("{}{id}", self.prefix),
            stage,
            kind,
            nodes,
            outputs,
        });
    }
}

fn last_outputs(graph: &Graph<'_>, nodes: &[NodeId]) -> Vec<ValueId> {
    nodes
        .last()
        .map(|n| graph.outputs_of(*n).to_vec())
        .unwrap_or_default()
}

fn kind_name(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Resnet => "resnet",
        BlockKind::Transformer => "transformer",
        BlockKind::Downsample => "downsample",
        BlockKind::Upsample => "upsample",
        BlockKind::Stem => "stem",
        BlockKind::Hint => "hint",
        BlockKind::Head => "head",
        BlockKind::Residuals => "residuals",
        BlockKind::Embedding => "embedding",
        BlockKind::Other => "other",
    }
}

/// Gives every node that is in no block yet to the block that alone reads it; what
/// is left goes to blocks of its own made by `fallback`.
pub fn assign_rest(
    graph: &Graph<'_>,
    blocks: &mut Vec<Block>,
    fallback: impl Fn(NodeId) -> (&'static str, Stage, BlockKind),
) {
    let mut owner: Vec<Option<usize>> = vec![None; graph.node_count()];
    for (i, block) in blocks.iter().enumerate() {
        for node in &block.nodes {
            owner[node.index()] = Some(i);
        }
    }
    let mut named: HashMap<&'static str, usize> = HashMap::new();
    for node in graph.nodes().rev() {
        if owner[node.index()].is_some() {
            continue;
        }
        let mut users = graph
            .outputs_of(node)
            .iter()
            .flat_map(|v| graph.consumers(*v))
            .map(|n| owner[n.index()]);
        let first = users.next().flatten();
        let shared = first.is_none() || users.any(|u| u != first);
        let block = if shared {
            let (id, stage, kind) = fallback(node);
            *named.entry(id).or_insert_with(|| {
                let block = Block {
                    id: id.to_owned(),
                    stage,
                    kind,
                    nodes: Vec::new(),
                    outputs: Vec::new(),
                };
                blocks.push(block);
                blocks.len() - 1
            })
        } else {
            first.unwrap_or_default()
        };
        owner[node.index()] = Some(block);
        blocks[block].nodes.push(node);
    }
    for block in blocks.iter_mut() {
        block.nodes.sort_unstable();
    }
    for &index in named.values() {
        blocks[index].outputs = escaping(graph, &owner, index, &blocks[index].nodes);
    }
}

fn escaping(
    graph: &Graph<'_>,
    owner: &[Option<usize>],
    block: usize,
    nodes: &[NodeId],
) -> Vec<ValueId> {
    let outside = |v: &ValueId| {
        graph.is_output(*v)
            || graph
                .consumers(*v)
                .iter()
                .any(|n| owner[n.index()] != Some(block))
    };
    nodes
        .iter()
        .flat_map(|n| graph.outputs_of(*n))
        .copied()
        .filter(outside)
        .collect()
}
