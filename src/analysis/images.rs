//! Which of several image inputs is the latent: by where they meet, and how much smaller they
//! are by then.

use super::inputs::{Flow, InputKind, declared_shape};
use super::strides::{is_conv, join_stride};
use crate::graph::{BitSet, Family, NodeId, ValueId};

impl Flow<'_, '_> {
    /// Whether a convolution reads the input, by itself or, before the first block, with others in
    /// its channels.
    pub(super) fn is_image(&self, input: ValueId) -> bool {
        let graph = self.graph;
        let convolves = |n: &NodeId| is_conv(graph, *n);
        let first = self.first_ops(input);
        // Every block has the embedding of the timestep.
        let before_blocks = |n: NodeId| {
            let above = graph.ancestors(graph.inputs_of(n), &BitSet::default());
            let mut above = above.iter().map(NodeId::new);
            !above.any(|n| graph.family(n) == Family::Wave)
        };
        let joins = |&n: &NodeId| {
            let stem = || -> Vec<NodeId> {
                let outputs = graph.outputs_of(n).iter();
                outputs.flat_map(|v| self.first_ops(*v)).collect()
            };
            let convolved = |stem: Vec<NodeId>| !stem.is_empty() && stem.iter().all(convolves);
            self.joins_channels(n) && before_blocks(n) && convolved(stem())
        };
        first.iter().any(convolves) || first.iter().any(joins)
    }

    fn joins_channels(&self, node: NodeId) -> bool {
        let axis = self.graph.node(node).attr_i("axis");
        self.graph.family(node) == Family::Concat && matches!(axis, Some(1 | -3))
    }

    /// Tells the latent from control images: a control image is brought down to
    /// latent size by strided convolutions before it meets the latent.
    pub(super) fn split_images(&self, kinds: &mut [InputKind]) {
        let images: Vec<usize> = (0..kinds.len())
            .filter(|&i| kinds[i] == InputKind::Latent)
            .collect();
        let stacked = |i: usize| {
            let info = self.graph.input_info(self.graph.inputs()[i]);
            info.and_then(declared_shape)
                .is_some_and(|s| s.dim.len() == 5)
        };
        if images.len() < 2 {
            for &i in images.iter().filter(|i| stacked(**i)) {
                kinds[i] = InputKind::Other;
            }
            return;
        }
        let reach: Vec<BitSet> = images
            .iter()
            .map(|&i| self.graph.descendants(&[self.graph.inputs()[i]]))
            .collect();
        let strides: Vec<Option<i64>> = (0..images.len())
            .map(|i| {
                let input = self.graph.inputs()[images[i]];
                let mut others = BitSet::new(self.graph.node_count());
                for (j, set) in reach.iter().enumerate() {
                    if j != i {
                        others.union_with(set);
                    }
                }
                join_stride(self.graph, input, &reach[i], &others)
            })
            .collect();
        for (&i, stride) in images.iter().zip(&strides) {
            kinds[i] = match stride {
                Some(1) if !stacked(i) => InputKind::Latent,
                Some(2..) => InputKind::ControlImage,
                _ => InputKind::Other,
            };
        }
        // Only one input is denoised: of those that are joined in one place the first, by
        // convention. Others cannot be told apart.
        let latents: Vec<usize> = images
            .into_iter()
            .filter(|&i| kinds[i] == InputKind::Latent)
            .collect();
        if latents.len() < 2 {
            return;
        }
        let denoised = self.first_joined(&latents);
        for &i in &latents {
            kinds[i] = match denoised {
                Some(first) if first == i => InputKind::Latent,
                Some(_) => InputKind::Concatenated,
                None => InputKind::Other,
            };
        }
    }

    /// The input that is the first operand where all of `inputs` are joined in their channels.
    fn first_joined(&self, inputs: &[usize]) -> Option<usize> {
        let value = |i: usize| self.graph.inputs().get(i).copied();
        let joins = self.first_ops(value(*inputs.first()?)?);
        let [join] = joins.as_slice() else {
            return None;
        };
        let alike = |i: &usize| value(*i).is_some_and(|v| self.first_ops(v) == joins);
        if !self.joins_channels(*join) || !inputs.iter().all(alike) {
            return None;
        }
        let operand = *self.graph.inputs_of(*join).first()?;
        let leads = |i: &usize| value(*i).is_some_and(|v| self.recast(v).0.contains(&operand));
        let mut leading = inputs.iter().copied().filter(leads);
        leading.next().filter(|_| leading.next().is_none())
    }
}
