//! What a diffusion graph is made of, found from its structure alone.
//!
//! [`Analysis::of`] runs everything in order: kinds of the inputs, shapes, what
//! depends on what, attention, skip connections, the trunk, blocks, the role.

mod assemble;
pub mod attention;
pub mod blocks;
pub(crate) mod bounds;
mod contrib;
pub mod depends;
pub mod dims;
mod guarded;
mod images;
pub mod inputs;
pub mod invariant;
pub mod macs;
mod residuals;
pub mod shapes;
pub mod sizes;
mod stand_in;
mod strides;
pub mod trunk;

use crate::graph::{BitSet, Graph, NodeId, ValueId};
use crate::onnx::proto::{GraphProto, ModelProto};

pub use strides::UnfitLatent;

use attention::Attention;
use blocks::Block;
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
#[non_exhaustive]
pub enum AnalysisError {
    /// The model has no graph.
    #[error("the model has no graph")]
    NoGraph,
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
    /// Shapes with every open size changed, where asked for: what differs is dynamic.
    pub elsewhere: Option<Shapes>,
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
    /// Analyses the main graph of `model` and tells its dynamic dimensions, by inferring
    /// shapes at a second size beside it.
    ///
    /// # Errors
    /// As [`Analysis::of`].
    pub fn with_dynamics(model: &'m ModelProto, sizes: Sizes) -> Result<Self, AnalysisError> {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| shapes::at_other_sizes(model, sizes));
            let mut analysis = Self::of(model, sizes)?;
            // A second inference that fails tells nothing more than the first.
            analysis.elsewhere = other.join().ok().flatten();
            Ok(analysis)
        })
    }

    /// Analyses the main graph of `model`.
    ///
    /// # Errors
    /// [`AnalysisError`] if there is no graph.
    pub fn of(model: &'m ModelProto, sizes: Sizes) -> Result<Self, AnalysisError> {
        let proto: &'m GraphProto = model.graph.as_ref().ok_or(AnalysisError::NoGraph)?;
        let graph = Graph::new(proto);
        let mut kinds = inputs::classify(&graph);
        let shapes = shapes::infer(model, &graph, &kinds, sizes);
        let mut depends = depends::depends(&graph, &kinds);
        let mut attention = attention::find(&graph, &depends);
        if attention::refute_text(&graph, &mut kinds, &depends, &attention) {
            depends = depends::depends(&graph, &kinds);
            attention = attention::find(&graph, &depends);
        }
        let skips = trunk::find_skips(&graph, &shapes, &depends);
        if trunk::refute_residuals(&graph, &mut kinds, &skips) {
            depends = depends::depends(&graph, &kinds);
        }
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
            elsewhere: None,
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
    /// and every input and output tells on which axis it is.
    #[must_use]
    pub fn can_halve(&self) -> bool {
        let known = |v: &ValueId| {
            self.shapes.get(*v).is_some_and(|s| {
                s.batch_axis().is_some() || s.dims.iter().all(|d| !d.follows_batch())
            })
        };
        let told = |v: &ValueId| {
            let shape = self.shapes.get(*v);
            shape.is_some_and(|s| s.batch_axis().is_some())
        };
        self.shapes.symbolic_batch
            && self.graph.inputs().iter().all(known)
            && self.graph.outputs().iter().all(told)
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
        Counter::new(&self.graph, &self.shapes)
            .node(node, batch)
            .unwrap_or_default()
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
        outputs
            .filter(|v| self.has(*v, InputKind::Latent))
            .collect()
    }

    fn find_role(&self) -> Role {
        // A noise level beside the timestep is another one.
        let timed = self.inputs(InputKind::Timestep).next().is_some();
        let latent = self.input(InputKind::Latent);
        if !timed || latent.is_none() {
            return Role::Other;
        }
        let outputs = self.latent_outputs();
        if !self.skips.is_empty() {
            let merged = self
                .control
                .iter()
                .any(|n| self.graph.family(NodeId::new(n)).convolves());
            let controlled = self.inputs(InputKind::ControlImage).next().is_some();
            return if merged && controlled {
                Role::Merged
            } else {
                Role::Unet
            };
        }
        let control = self.inputs(InputKind::ControlImage).next().is_some();
        if control && outputs.len() >= 2 {
            Role::Controlnet
        } else {
            Role::Other
        }
    }

    /// What a graph of the role [`Role::Other`] lacks to have another one.
    #[must_use]
    pub fn unrecognised(&self) -> Option<&'static str> {
        if self.role != Role::Other {
            None
        } else if self.inputs(InputKind::Latent).next().is_none() {
            Some("no one input is a latent, four-dimensional and read by a convolution")
        } else if self.inputs(InputKind::Timestep).next().is_none() {
            Some("no input is a timestep, whose sines and cosines are taken")
        } else if self.inputs(InputKind::ControlImage).next().is_none() {
            Some(
                "it has neither skip connections from an encoder to a decoder nor a control image \
                 beside the latent",
            )
        } else {
            Some("it has no skip connections, and a ControlNet would have several outputs")
        }
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
}
