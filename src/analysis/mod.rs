//! What a diffusion graph is made of, found from its structure alone.
//!
//! [`Analysis::of`] runs everything in order: kinds of the inputs, shapes, what
//! depends on what, attention, skip connections, the trunk, blocks, the role.

pub mod attention;
pub mod blocks;
mod contrib;
pub mod depends;
pub mod dims;
pub mod inputs;
pub mod invariant;
pub mod macs;
pub mod shapes;
mod sizes;
pub mod trunk;

use crate::graph::{BitSet, Graph, NodeId, ValueId};
use crate::onnx::proto::{GraphProto, ModelProto};

use attention::{Attention, AttentionKind};
use blocks::{Block, BlockKind, Bounds, Stage};
use depends::Kinds;
use inputs::InputKind;
use macs::{Counter, Macs};
use shapes::{Shapes, Sizes};
use trunk::{Skip, Trunk};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A denoising UNet.
    Unet,
    /// A ControlNet: the residuals of a UNet from a control image.
    Controlnet,
    /// A UNet with its ControlNets in one graph.
    Merged,
    /// None of these.
    Other,
}

impl Role {
    /// The role in lower case, as files are named after it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Controlnet => "controlnet",
            Self::Merged => "merged",
            Self::Other => "other",
        }
    }
}

/// Why a graph could not be analysed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The model has no graph.
    #[error("the model has no graph")]
    NoGraph,
    /// Shapes could not be inferred.
    #[error(transparent)]
    Shapes(#[from] shapes::ShapeError),
}

/// Everything known of one graph.
pub struct Analysis<'m> {
    /// The graph.
    pub graph: Graph<'m>,
    /// The sizes that were assumed.
    pub sizes: Sizes,
    /// Kinds of the graph inputs, parallel to [`Graph::inputs`].
    pub kinds: Vec<InputKind>,
    /// Shapes of the values.
    pub shapes: Shapes,
    /// What the content of each value depends on.
    pub depends: Vec<Kinds>,
    /// Attention, in topological order.
    pub attention: Vec<Attention>,
    /// Skip connections, deepest first.
    pub skips: Vec<Skip>,
    /// What merged ControlNets add to the value of the mid block.
    pub mid_residuals: Vec<ValueId>,
    /// Blocks: conditioning first, then in data-flow order.
    pub blocks: Vec<Block>,
    /// What the file is.
    pub role: Role,
    /// Main path of the UNet or ControlNet.
    pub trunk: Option<Trunk>,
    /// Nodes of merged ControlNets.
    pub control: BitSet,
    block_of: Vec<Option<usize>>,
}

impl<'m> Analysis<'m> {
    /// Analyses the main graph of `model`.
    ///
    /// # Errors
    /// [`AnalysisError`] if there is no graph or shape inference refuses it whole.
    pub fn of(model: &'m ModelProto, sizes: Sizes) -> Result<Self, AnalysisError> {
        let proto: &'m GraphProto = model.graph.as_ref().ok_or(AnalysisError::NoGraph)?;
        let graph = Graph::new(proto);
        let mut kinds = inputs::classify(&graph);
        let shapes = shapes::infer(model, &graph, &kinds, sizes)?;
        let mut depends = depends::depends(&graph, &kinds);
        let mut attention = attention::find(&graph, &depends);
        if refute_text(&graph, &mut kinds, &depends, &attention) {
            depends = depends::depends(&graph, &kinds);
            attention = attention::find(&graph, &depends);
        }
        let skips = trunk::find_skips(&graph, &shapes, &depends);
        let mid_residuals = trunk::mid_residuals(&graph, &skips, &depends);
        let control = trunk::control_nodes(&graph, &skips, &mid_residuals);
        let mut analysis = Self {
            block_of: vec![None; graph.node_count()],
            graph,
            sizes,
            kinds,
            shapes,
            depends,
            attention,
            skips,
            mid_residuals,
            blocks: Vec::new(),
            role: Role::Other,
            trunk: None,
            control,
        };
        analysis.role = analysis.find_role();
        analysis.find_blocks();
        Ok(analysis)
    }

    /// The input of a kind, if there is exactly one.
    #[must_use]
    pub fn input(&self, kind: InputKind) -> Option<ValueId> {
        let mut found = self.inputs(kind);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// Whether half of the batch can run alone: it is symbolic through the whole graph
    /// and every input tells on which axis it is.
    #[must_use]
    pub fn can_halve(&self) -> bool {
        let known = |v: &ValueId| {
            self.shapes.get(*v).is_some_and(|s| {
                s.batch_axis().is_some() || s.dims.iter().all(|d| !d.follows_batch())
            })
        };
        self.shapes.symbolic_batch && self.graph.inputs().iter().all(known)
    }

    /// All inputs of a kind.
    pub fn inputs(&self, kind: InputKind) -> impl Iterator<Item = ValueId> + '_ {
        let pairs = self.graph.inputs().iter().zip(&self.kinds);
        pairs.filter(move |(_, k)| **k == kind).map(|(v, _)| *v)
    }

    /// Whether the content of a value depends on an input of this kind.
    #[must_use]
    pub fn has(&self, value: ValueId, kind: InputKind) -> bool {
        self.depends[value.index()].has(kind)
    }

    /// The block of a node.
    #[must_use]
    pub fn block_of(&self, node: NodeId) -> Option<&Block> {
        self.blocks.get((*self.block_of.get(node.index())?)?)
    }

    /// MACs of one node at `batch` rows; zero where a shape is unknown.
    #[must_use]
    pub fn macs(&self, node: NodeId, batch: u64) -> Macs {
        Counter::new(&self.graph, &self.shapes).node(node, batch).unwrap_or_default()
    }

    /// MACs of several nodes at `batch` rows.
    pub fn macs_of(&self, nodes: impl IntoIterator<Item = NodeId>, batch: u64) -> Macs {
        nodes.into_iter().map(|n| self.macs(n, batch)).sum()
    }

    /// Multiplying nodes whose MACs are not counted because a shape is unknown.
    #[must_use]
    pub fn uncounted(&self) -> Vec<NodeId> {
        let counter = Counter::new(&self.graph, &self.shapes);
        let missing = |n: &NodeId| counter.multiplies(*n) && counter.node(*n, 1).is_none();
        self.graph.nodes().filter(missing).collect()
    }

    /// MACs of an attention: scores and weighted sum, without projections.
    #[must_use]
    pub fn attention_macs(&self, attention: &Attention) -> Macs {
        self.macs_of(attention.core.iter().copied(), self.sizes.batch)
    }

    fn latent_outputs(&self) -> Vec<ValueId> {
        let outputs = self.graph.outputs().iter().copied();
        outputs.filter(|v| self.has(*v, InputKind::Latent)).collect()
    }

    fn find_role(&self) -> Role {
        let timed = self.input(InputKind::Timestep).is_some();
        let latent = self.input(InputKind::Latent);
        if !timed || latent.is_none() {
            return Role::Other;
        }
        let outputs = self.latent_outputs();
        if !self.skips.is_empty() {
            let merged = self.control.iter().any(|n| self.graph.op(NodeId::new(n)).contains("Conv"));
            let controlled = self.inputs(InputKind::ControlImage).next().is_some();
            return if merged && controlled { Role::Merged } else { Role::Unet };
        }
        let control = self.inputs(InputKind::ControlImage).next().is_some();
        if control && outputs.len() >= 2 { Role::Controlnet } else { Role::Other }
    }

    /// The output whose computation takes the most nodes: the prediction of a UNet,
    /// the mid residual of a ControlNet.
    #[must_use]
    pub fn deepest_output(&self) -> Option<ValueId> {
        let none = BitSet::default();
        self.latent_outputs()
            .into_iter()
            .max_by_key(|v| self.graph.ancestors(&[*v], &none).count())
    }

    fn find_blocks(&mut self) {
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
        let (mut first, rest): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|b| b.kind == BlockKind::Embedding);
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
            self.graph.consumers(*v).iter().any(|n| nodes.binary_search(n).is_err())
        };
        let made = nodes.iter().flat_map(|n| self.graph.outputs_of(*n)).copied();
        let outputs = made.filter(read_by_others).collect();
        let id = if self.role == Role::Merged { "control.hint" } else { "hint" }.to_owned();
        let (stage, kind) = (Stage::Stem, BlockKind::Hint);
        (!nodes.is_empty()).then_some(Block { id, stage, kind, nodes, outputs })
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
        let Some(target) = self.graph.producer(output) else { return Vec::new() };
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
        let Some(latent) = self.input(InputKind::Latent) else { return Vec::new() };
        let latent_nodes = self.latent_nodes();
        let keep: BitSet = self.control.iter().filter(|n| latent_nodes.contains(*n)).collect();
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
        blocks::along(&self.graph, &trunk, &self.attention, bounds, &members, "control.")
    }

    /// What merged ControlNets give the UNet.
    fn merged_outputs(&self) -> Vec<ValueId> {
        let skips = self.skips.iter().flat_map(|s| &s.residuals);
        let inside = |v: &&ValueId| {
            self.graph.producer(**v).is_some_and(|n| self.control.contains(n.index()))
        };
        skips.chain(&self.mid_residuals).filter(inside).copied().collect()
    }

    /// Projections and scales of merged residuals, that no other control block has.
    fn merged_residuals(&self, blocks: &[Block]) -> Option<Block> {
        let taken: BitSet = blocks.iter().flat_map(|b| &b.nodes).map(|n| n.index()).collect();
        let mut free = self.latent_nodes();
        free.subtract(&taken);
        let nodes: Vec<NodeId> =
            free.iter().filter(|n| self.control.contains(*n)).map(NodeId::new).collect();
        let made = |v: &ValueId| {
            self.graph.producer(*v).is_some_and(|n| nodes.binary_search(&n).is_ok())
        };
        let outputs = self.merged_outputs().into_iter().filter(made).collect();
        let (id, stage) = ("control.residuals".to_owned(), Stage::Head);
        let kind = BlockKind::Residuals;
        (!nodes.is_empty()).then_some(Block { id, stage, kind, nodes, outputs })
    }

    fn latent_nodes(&self) -> BitSet {
        let latent = |n: &NodeId| {
            self.graph.outputs_of(*n).iter().any(|v| self.has(*v, InputKind::Latent))
        };
        self.graph.nodes().filter(latent).map(NodeId::index).collect()
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
                above.iter().filter_map(|n| trunk.position(NodeId::new(n))).max()
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

/// An input is the text only if it gives key and value of a cross-attention and
/// nothing else reads it; others of rank 3 are unrecognised. True if one changed.
fn refute_text(
    graph: &Graph<'_>,
    kinds: &mut [InputKind],
    depends: &[Kinds],
    attention: &[Attention],
) -> bool {
    let crossed = attention.iter().any(|a| a.kind == AttentionKind::Cross);
    let mut changed = false;
    for (&value, kind) in graph.inputs().iter().zip(kinds.iter_mut()) {
        if *kind == InputKind::Text && !(crossed && feeds_only_keys(graph, depends, attention, value)) {
            *kind = InputKind::Other;
            changed = true;
        }
    }
    changed
}

/// Whether every path from `text` to a latent value goes through an attention core.
fn feeds_only_keys(
    graph: &Graph<'_>,
    depends: &[Kinds],
    attention: &[Attention],
    text: ValueId,
) -> bool {
    let cores: BitSet =
        attention.iter().flat_map(|a| &a.core).map(|n| n.index()).collect();
    let mut seen = BitSet::new(graph.node_count());
    let mut todo = vec![text];
    let mut used = false;
    while let Some(value) = todo.pop() {
        for &node in graph.consumers(value) {
            if graph.op(node) == "Shape" || !seen.insert(node.index()) {
                continue;
            }
            if cores.contains(node.index()) {
                used = true;
                continue;
            }
            let outputs = graph.outputs_of(node);
            if outputs.iter().any(|v| depends[v.index()].has(InputKind::Latent)) {
                return false;
            }
            todo.extend_from_slice(outputs);
        }
    }
    used
}
