//! What each graph input is, told by rank, type and data flow, never by name.

use crate::graph::{BitSet, Family, Graph, NodeId, ValueId};
use crate::onnx::proto::{TensorShapeProto, ValueInfoProto, tensor_shape_proto, type_proto};

/// What a graph input carries. Variants after [`InputKind::Text`] up to
/// [`InputKind::ControlImage`] stay the same over one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InputKind {
    /// The noisy latent, `[B, C, H, W]`.
    Latent,
    /// The timestep, scalar, `[1]`, `[B]` or `[B, 1]`; a noise level is one as well.
    Timestep,
    /// Encoded prompt, `[B, tokens, width]`.
    Text,
    /// Pooled prompt embedding, `[B, width]` (SDXL).
    PooledText,
    /// Size and crop conditioning, `[B, 6]` (SDXL).
    TimeIds,
    /// Embedding of the guidance scale, `[B, width]` (LCM `timestep_cond`).
    GuidanceEmbedding,
    /// The control image, `[B, C, 8H, 8W]`.
    ControlImage,
    /// Conditioning scale, scalar or `[n]`.
    ControlScale,
    /// A ControlNet residual, shaped like the encoder value that it is added to.
    Residual,
    /// Joined to the channels of the latent inside the graph, `[B, C, H, W]`: the mask and the
    /// masked latent of inpainting, the picture to edit (`c_concat` of latent diffusion).
    Concatenated,
    /// Anything else; taken to change on every step.
    Other,
}

impl InputKind {
    /// Whether the input stays the same over one generation.
    #[must_use]
    pub fn is_invariant(self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::PooledText
                | Self::TimeIds
                | Self::GuidanceEmbedding
                | Self::ControlImage
        )
    }

    /// The kind in words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Latent => "latent",
            Self::Timestep => "timestep",
            Self::Text => "text",
            Self::PooledText => "pooled text",
            Self::TimeIds => "time ids",
            Self::GuidanceEmbedding => "guidance embedding",
            Self::ControlImage => "control image",
            Self::ControlScale => "conditioning scale",
            Self::Residual => "residual",
            Self::Concatenated => "concatenated condition",
            Self::Other => "other",
        }
    }
}

/// Rank of a declared value; none where the declaration has no shape.
#[must_use]
pub fn declared_shape(info: &ValueInfoProto) -> Option<&TensorShapeProto> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(t) => t.shape.as_ref(),
        _ => None,
    }
}

/// Element type of a declared tensor; 0 where unknown.
#[must_use]
pub fn declared_type(info: &ValueInfoProto) -> i32 {
    match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => t.elem_type(),
        _ => 0,
    }
}

/// A declared dimension as a number, if it is one.
#[must_use]
pub fn fixed_dim(shape: &TensorShapeProto, axis: usize) -> Option<i64> {
    match shape.dim.get(axis)?.value.as_ref()? {
        tensor_shape_proto::dimension::Value::DimValue(v) => Some(*v),
        tensor_shape_proto::dimension::Value::DimParam(_) => None,
    }
}

/// The name of a symbolic dimension.
#[must_use]
pub fn dim_param(shape: &TensorShapeProto, axis: usize) -> Option<&str> {
    match shape.dim.get(axis)?.value.as_ref()? {
        tensor_shape_proto::dimension::Value::DimParam(p) => Some(p.as_str()),
        tensor_shape_proto::dimension::Value::DimValue(_) => None,
    }
}

const FLOAT_TYPES: [i32; 4] = [1, 10, 11, 16];

/// Finds the kind of each graph input, parallel to [`Graph::inputs`].
///
/// [`InputKind::Text`] is provisional here (any rank-3 float input) and confirmed
/// once attention is known.
#[must_use]
pub fn classify(graph: &Graph<'_>) -> Vec<InputKind> {
    let rank_of = |v: ValueId| {
        graph
            .input_info(v)
            .and_then(declared_shape)
            .map(|s| s.dim.len())
    };
    let float = |v: ValueId| {
        graph
            .input_info(v)
            .is_some_and(|i| FLOAT_TYPES.contains(&declared_type(i)))
    };
    let columns = |v: ValueId| fixed_dim(graph.input_info(v).and_then(declared_shape)?, 1);
    let flow = Flow { graph };
    let mut kinds: Vec<InputKind> = graph
        .inputs()
        .iter()
        .map(|&v| match (rank_of(v), float(v)) {
            (Some(0 | 1), _) if flow.reaches_sinusoid(v) => InputKind::Timestep,
            (Some(2), _) if columns(v) == Some(1) && flow.reaches_sinusoid(v) => {
                InputKind::Timestep
            }
            (Some(0 | 1), true) if flow.scales_data(v) => InputKind::ControlScale,
            // One column: a scale for each ControlNet.
            (Some(2), true) if columns(v) == Some(1) && flow.scales_data(v) => {
                InputKind::ControlScale
            }
            (Some(2), true) => flow.vector_kind(v),
            (Some(3), true) => InputKind::Text,
            // Control images may be stacked on a leading axis.
            (Some(4 | 5), true) if flow.is_image(v) => InputKind::Latent,
            (Some(4), true) => InputKind::Residual,
            _ => InputKind::Other,
        })
        .collect();
    flow.split_images(&mut kinds);
    flow.confirm_vectors(&mut kinds);
    flow.confirm_residuals(&mut kinds);
    kinds
}

/// Walks from an input through operators that only recast or regroup it.
pub(super) struct Flow<'a, 'm> {
    pub(super) graph: &'a Graph<'m>,
}

impl Flow<'_, '_> {
    fn passes(&self, node: NodeId) -> bool {
        let family = self.graph.family(node);
        family.rearranges() || matches!(family, Family::Expand | Family::Quantize)
    }

    /// Whether the node takes parts out of `value` at constant places.
    fn takes_apart(&self, node: NodeId, value: ValueId) -> bool {
        self.graph.family(node) == Family::Part
            && self.graph.input_at(node, 0) == Some(value)
            && self.other_operand_constant(node, value)
    }

    /// The first nodes that compute with the value.
    pub(super) fn first_ops(&self, input: ValueId) -> Vec<NodeId> {
        self.recast(input).1
    }

    /// What the value is only recast to, and the first nodes that compute with it.
    pub(super) fn recast(&self, input: ValueId) -> (Vec<ValueId>, Vec<NodeId>) {
        let (mut values, mut found) = (vec![input], Vec::new());
        let mut seen = BitSet::new(self.graph.node_count());
        let mut todo = vec![input];
        while let Some(value) = todo.pop() {
            for &node in self.graph.consumers(value) {
                if self.graph.family(node).measures() || !seen.insert(node.index()) {
                    continue;
                }
                let scaling = self.graph.family(node).is_arithmetic()
                    && (self.other_operand_constant(node, value)
                        || self.is_scaled_by_vectors(node, (input, value)));
                if self.passes(node) || self.takes_apart(node, value) || scaling {
                    todo.extend_from_slice(self.graph.outputs_of(node));
                    values.extend_from_slice(self.graph.outputs_of(node));
                } else {
                    found.push(node);
                }
            }
        }
        (values, found)
    }

    fn other_operand_constant(&self, node: NodeId, value: ValueId) -> bool {
        self.graph
            .inputs_of(node)
            .iter()
            .all(|&v| v == value || self.is_static(v))
    }

    /// Whether a value that an image is recast to is multiplied by, or divided by, what comes of
    /// scalars and vectors: the noise level, the strength of control.
    fn is_scaled_by_vectors(&self, node: NodeId, (input, value): (ValueId, ValueId)) -> bool {
        let vector = |v: ValueId| {
            let shape = self.graph.input_info(v).and_then(declared_shape);
            shape.is_some_and(|s| s.dim.len() < 2)
        };
        let image = |v: ValueId| {
            let shape = self.graph.input_info(v).and_then(declared_shape);
            shape.is_some_and(|s| s.dim.len() == 4)
        };
        let others = || self.graph.inputs_of(node).iter().filter(|v| **v != value);
        matches!(self.graph.family(node), Family::Product | Family::Quotient)
            && image(input)
            && others().all(|v| self.is_made_of(*v, &vector))
    }

    /// Whether a value is made of constants and shapes alone, by few nodes: ones for every
    /// row of a batch.
    fn is_static(&self, value: ValueId) -> bool {
        self.is_made_of(value, &|_| false)
    }

    /// Whether a value is made of constants, shapes and such `inputs` alone, by few nodes.
    fn is_made_of(&self, value: ValueId, inputs: &impl Fn(ValueId) -> bool) -> bool {
        const FEW: usize = 64;
        let mut todo = vec![value];
        let mut seen = Vec::new();
        while let Some(value) = todo.pop() {
            if self.graph.is_constant(value) || inputs(value) || seen.contains(&value) {
                continue;
            }
            let Some(node) = self.graph.producer(value) else {
                return false;
            };
            seen.push(value);
            if seen.len() > FEW {
                return false;
            }
            if !self.graph.family(node).measures() {
                todo.extend_from_slice(self.graph.inputs_of(node));
            }
        }
        true
    }

    fn reaches_sinusoid(&self, input: ValueId) -> bool {
        self.first_ops(input)
            .iter()
            .any(|&n| self.graph.family(n) == Family::Wave)
    }

    /// Whether a scalar multiplies something else.
    fn scales_data(&self, input: ValueId) -> bool {
        let first = self.first_ops(input);
        !first.is_empty()
            && first
                .iter()
                .all(|&n| self.graph.family(n) == Family::Product)
    }

    fn vector_kind(&self, input: ValueId) -> InputKind {
        let first = self.first_ops(input);
        let any = |family: Family| first.iter().any(|&n| self.graph.family(n) == family);
        if any(Family::Wave) {
            InputKind::TimeIds
        } else if any(Family::Concat) {
            InputKind::PooledText
        } else if any(Family::MatrixProduct) {
            InputKind::GuidanceEmbedding
        } else {
            InputKind::Other
        }
    }

    /// Nodes that compute with what weights made of sinusoids.
    fn after_embedding(&self) -> BitSet {
        let graph = self.graph;
        let outputs = |nodes: &[NodeId]| -> Vec<ValueId> {
            nodes
                .iter()
                .flat_map(|n| graph.outputs_of(*n).to_vec())
                .collect()
        };
        let is = |n: &NodeId, family: Family| graph.family(*n) == family;
        let waves: Vec<NodeId> = graph.nodes().filter(|n| is(n, Family::Wave)).collect();
        let below = graph.descendants(&outputs(&waves));
        let below = below.iter().map(NodeId::new);
        let projections: Vec<NodeId> = below.filter(|n| is(n, Family::MatrixProduct)).collect();
        let mut after = graph.descendants(&outputs(&projections));
        projections.iter().for_each(|n| {
            after.insert(n.index());
        });
        after
    }

    /// A pooled text must be joined with sinusoids of the time ids, and the other way
    /// round; a guidance embedding must be projected and added to those of the timestep.
    fn confirm_vectors(&self, kinds: &mut [InputKind]) {
        let graph = self.graph;
        let of = |kind: InputKind, kinds: &[InputKind]| -> Vec<ValueId> {
            let inputs = graph.inputs().iter().zip(kinds);
            inputs
                .filter(|(_, k)| **k == kind)
                .map(|(v, _)| *v)
                .collect()
        };
        let from_ids = graph.descendants(&of(InputKind::TimeIds, kinds));
        let from_time = graph.descendants(&of(InputKind::Timestep, kinds));
        let has_ids = !of(InputKind::TimeIds, kinds).is_empty();
        // Class labels are added to the embedding of the timestep, a guidance embedding to its
        // sinusoids.
        let embedded = self.after_embedding();
        let inputs = graph.inputs().to_vec();
        for (&value, kind) in inputs.iter().zip(kinds.iter_mut()) {
            let first = self.first_ops(value);
            let confirmed = match kind {
                InputKind::PooledText => {
                    has_ids && first.iter().all(|n| from_ids.contains(n.index()))
                }
                InputKind::GuidanceEmbedding => first.iter().all(|&n| {
                    !from_time.contains(n.index())
                        && graph.outputs_of(n).iter().all(|&out| {
                            let (own, adds) = self.recast(out);
                            let after = |v: &ValueId| {
                                let producer = graph.producer(*v);
                                producer.is_some_and(|n| embedded.contains(n.index()))
                            };
                            let plain = |v: &ValueId| own.contains(v) || !after(v);
                            adds.iter().all(|&add| {
                                graph.family(add) == Family::Sum
                                    && from_time.contains(add.index())
                                    && graph.inputs_of(add).iter().all(plain)
                            })
                        })
                }),
                _ => true,
            };
            if !confirmed {
                *kind = InputKind::Other;
            }
        }
        // Sinusoids of several numbers may be of anything; with a pooled text they are sizes.
        if !kinds.contains(&InputKind::PooledText) {
            for kind in kinds.iter_mut().filter(|k| **k == InputKind::TimeIds) {
                *kind = InputKind::Other;
            }
        }
    }
}
