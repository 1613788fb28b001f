//! Multiply-accumulate counts.
//!
//! `Conv`, `Gemm`, every `MatMul` and their fused or quantised forms count; norms,
//! softmax and elementwise operators count zero. A *weight operator* has one operand
//! that derives from initializers alone: the count that papers on diffusion caching
//! state (arXiv 2511.11031).

use crate::graph::operators::Macs as Rule;
use crate::graph::{Graph, NodeId};

use super::dims::{Dim, Shape};
use super::shapes::Shapes;

/// Multiply-accumulates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Macs {
    /// All of them.
    pub all: u64,
    /// Those of operators with a weight operand.
    pub weights: u64,
}

impl Macs {
    /// A share of them.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn part(self, share: f64) -> Self {
        let of = |macs: u64| (macs as f64 * share).round() as u64;
        match share {
            1.0 => self,
            _ => Self {
                all: of(self.all),
                weights: of(self.weights),
            },
        }
    }
}

impl std::ops::Add for Macs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            all: self.all.saturating_add(other.all),
            weights: self.weights.saturating_add(other.weights),
        }
    }
}

impl std::iter::Sum for Macs {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| a + b)
    }
}

/// Counts nodes of one graph.
pub struct Counter<'a, 'm> {
    graph: &'a Graph<'m>,
    shapes: &'a Shapes,
}

impl<'a, 'm> Counter<'a, 'm> {
    /// A counter over inferred shapes.
    #[must_use]
    pub fn new(graph: &'a Graph<'m>, shapes: &'a Shapes) -> Self {
        Self { graph, shapes }
    }

    /// Whether the operator multiplies at all; such a node with an unknown shape
    /// makes a count incomplete.
    #[must_use]
    pub fn multiplies(&self, node: NodeId) -> bool {
        self.rule(node).is_some()
    }

    /// MACs of one node at `batch` rows; `None` where a shape is unknown.
    #[must_use]
    pub fn node(&self, node: NodeId, batch: u64) -> Option<Macs> {
        let Some(rule) = self.rule(node) else {
            return Some(Macs::default());
        };
        let shape = |position: usize| {
            let value = self.graph.input_at(node, position)?;
            Some(At {
                shape: self.shapes.get(value)?,
                batch,
            })
        };
        let output = self.graph.output_of(node).and_then(|v| self.shapes.get(v));
        let output = At {
            shape: output?,
            batch,
        };
        let all = match rule {
            Rule::Convolution { weight } => conv(output, shape(weight)?)?,
            Rule::ConvolutionTranspose => conv(shape(0)?, shape(1)?)?,
            Rule::Product { .. } => matmul(shape(0)?, output, self.transposed(node))?,
            Rule::Attention => self.attention(node, &shape)?,
            Rule::PackedAttention => return packed_attention(shape(0)?, shape(1)?, output),
        };
        let weighted = self.is_weight_operator(node, rule);
        Some(Macs {
            all,
            weights: if weighted { all } else { 0 },
        })
    }

    fn rule(&self, node: NodeId) -> Option<Rule> {
        self.graph.operator(node)?.macs
    }

    fn is_weight_operator(&self, node: NodeId, rule: Rule) -> bool {
        let operands: &[usize] = match rule {
            Rule::Convolution { weight } => &[0, weight],
            Rule::ConvolutionTranspose => &[0, 1],
            Rule::Product { factors } => factors,
            Rule::Attention | Rule::PackedAttention => &[],
        };
        operands
            .iter()
            .filter_map(|&p| self.graph.input_at(node, p))
            .any(|v| self.graph.is_constant(v))
    }

    fn transposed(&self, node: NodeId) -> bool {
        let attributes = &self.graph.node(node).attribute;
        attributes
            .iter()
            .any(|a| a.name() == "transA" && a.i() != 0)
    }

    /// `q k^T` and `p v` of `com.microsoft.MultiHeadAttention` and `ai.onnx`
    /// `Attention`, from the shapes of query, key and value.
    fn attention<'s>(&self, node: NodeId, shape: &impl Fn(usize) -> Option<At<'s>>) -> Option<u64> {
        let query = shape(0)?;
        // With five, query, key and value are packed as [B, L, heads, 3, d].
        if query.rank() == 5 {
            let (rows, length) = (query.dim(0)?, query.dim(1)?);
            let width = query.dim(2)?.checked_mul(query.dim(4)?)?;
            let pairs = rows.checked_mul(length)?.checked_mul(length)?;
            return pairs.checked_mul(width.checked_mul(2)?);
        }
        let key = shape(1)?;
        let value = shape(2).unwrap_or(key);
        let sequence = |s: At<'_>| if s.rank() == 4 { s.dim(2) } else { s.dim(1) };
        // With four dimensions heads are an axis of their own: [B, heads, L, d].
        let width = |s: At<'_>| {
            if s.rank() == 4 {
                Some(s.dim(1)? * s.dim(3)?)
            } else {
                s.dim(2)
            }
        };
        let (rows, lq, lk) = (query.dim(0)?, sequence(query)?, sequence(key)?);
        let out = self
            .graph
            .output_of(node)
            .and_then(|v| self.shapes.get(v))?;
        let out = At {
            shape: out,
            batch: query.batch,
        };
        let per_pair = width(query)?.checked_add(width(out).or_else(|| width(value))?)?;
        rows.checked_mul(lq)?.checked_mul(lk)?.checked_mul(per_pair)
    }
}

#[derive(Clone, Copy)]
struct At<'s> {
    shape: &'s Shape,
    batch: u64,
}

impl At<'_> {
    fn rank(self) -> usize {
        self.shape.dims.len()
    }

    fn dim(self, axis: usize) -> Option<u64> {
        self.shape.dims.get(axis).map(|d: &Dim| d.at(self.batch))
    }

    fn elements(self) -> u64 {
        self.shape.elements(self.batch)
    }
}

/// `spatial` is the side on which each element meets the whole kernel once: the
/// output of a convolution, the input of a transposed one.
fn conv(spatial: At<'_>, weight: At<'_>) -> Option<u64> {
    let filters = weight.dim(0)?.max(1);
    spatial.elements().checked_mul(weight.elements() / filters)
}

fn matmul(left: At<'_>, output: At<'_>, transposed: bool) -> Option<u64> {
    let rank = left.rank();
    let axis = if transposed && rank >= 2 {
        rank - 2
    } else {
        rank.checked_sub(1)?
    };
    output.elements().checked_mul(left.dim(axis)?)
}

/// `com.microsoft.Attention` with the projection inside: input `[B, L, C]`, weight
/// `[C, q + k + v]`. Only the projection has weights.
fn packed_attention(input: At<'_>, weight: At<'_>, output: At<'_>) -> Option<Macs> {
    let (rows, length) = (input.dim(0)?, input.dim(1)?);
    let (depth, width) = (weight.dim(0)?, weight.dim(1)?);
    let weights = rows
        .checked_mul(length)?
        .checked_mul(depth)?
        .checked_mul(width)?;
    // Queries are as wide as keys; what is left of the weight makes the values.
    let values = output.dim(2)?;
    let per_pair = (width.checked_sub(values)? / 2).checked_add(values)?;
    let pairs = rows
        .checked_mul(length)?
        .checked_mul(length)?
        .checked_mul(per_pair)?;
    Some(Macs {
        all: weights.checked_add(pairs)?,
        weights,
    })
}
