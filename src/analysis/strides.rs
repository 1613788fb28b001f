//! Products of convolution strides: how much smaller a place is than the input.

use super::Analysis;
use super::inputs::InputKind;
use super::shapes::Sizes;
use crate::graph::{BitSet, Family, Graph, NodeId, ValueId};

pub(super) fn is_conv(graph: &Graph<'_>, node: NodeId) -> bool {
    graph.family(node) == Family::Convolution
}

/// Smallest product of convolution strides from `input` to a node that also
/// depends on another image.
pub(super) fn join_stride(
    graph: &Graph<'_>,
    input: ValueId,
    reach: &BitSet,
    others: &BitSet,
) -> Option<i64> {
    let mut stride = vec![0i64; graph.value_count()];
    stride[input.index()] = 1;
    let mut best: Option<i64> = None;
    for node in reach.iter().map(NodeId::new) {
        if graph.family(node).measures() {
            continue;
        }
        let before = stride_before(graph, &stride, node);
        if before == 0 {
            continue;
        }
        if others.contains(node.index()) {
            best = Some(best.map_or(before, |b| b.min(before)));
            continue;
        }
        let own = if is_conv(graph, node) {
            conv_stride(graph, node)
        } else {
            1
        };
        for &out in graph.outputs_of(node) {
            stride[out.index()] = before.saturating_mul(own);
        }
    }
    best
}

/// The largest stride among the inputs of a node.
fn stride_before(graph: &Graph<'_>, stride: &[i64], node: NodeId) -> i64 {
    let inputs = graph.inputs_of(node).iter();
    inputs.map(|v| stride[v.index()]).max().unwrap_or(0)
}

/// Stride of a convolution along its first spatial axis.
pub(super) fn conv_stride(graph: &Graph<'_>, node: NodeId) -> i64 {
    let strides = graph.node(node).attr_ints("strides");
    strides.and_then(|s| s.first().copied()).unwrap_or(1).max(1)
}

/// By value the product of convolution strides on the way from `latent`, the largest
/// where ways join; 0 where none leads. Holds up to the first resize.
pub(super) fn strides(graph: &Graph<'_>, latent: ValueId) -> Vec<i64> {
    let mut stride = vec![0i64; graph.value_count()];
    stride[latent.index()] = 1;
    for node in graph.nodes().filter(|n| !graph.family(*n).measures()) {
        let before = stride_before(graph, &stride, node);
        let shrinks = is_conv(graph, node) || graph.family(node) == Family::Pool;
        let own = if shrinks { conv_stride(graph, node) } else { 1 };
        for &out in graph.outputs_of(node) {
            stride[out.index()] = before.saturating_mul(own);
        }
    }
    stride
}

impl Analysis<'_> {
    /// Refuses assumed sizes of the latent that leave shapes unknown: every level of the network
    /// halves them, and its skip connections want whole values.
    ///
    /// # Errors
    /// [`UnfitLatent`], to be told with the file.
    pub fn check_latent(&self) -> Result<(), UnfitLatent> {
        if self.shapes.unknown.is_empty() {
            return Ok(());
        }
        let latent = self.input(InputKind::Latent);
        let most = latent.and_then(|l| strides(&self.graph, l).into_iter().max());
        let most = most.and_then(|m| u64::try_from(m).ok());
        let Some(multiple) = most.filter(|m| (2..=1024).contains(m)) else {
            return Ok(());
        };
        let Sizes { height, width, .. } = self.sizes;
        let fits = |side: u64| side.is_multiple_of(multiple);
        if fits(height) && fits(width) {
            return Ok(());
        }
        Err(UnfitLatent {
            height,
            width,
            multiple,
        })
    }
}

/// A latent that some level of the network cannot halve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "takes latents whose sides are multiples of {multiple}, not {height}x{width}; give such a \
     height and width"
)]
pub struct UnfitLatent {
    height: u64,
    width: u64,
    multiple: u64,
}

/// Product of the strides from a control image to where it meets the latent.
pub(super) fn control_factor(graph: &Graph<'_>, control: ValueId, latent: ValueId) -> Option<i64> {
    let reach = graph.descendants(&[control]);
    join_stride(graph, control, &reach, &graph.descendants(&[latent]))
}
