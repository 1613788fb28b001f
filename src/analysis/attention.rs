//! Self- and cross-attention, found from the operators that compute it.
//!
//! Three forms are known: `MatMul`, `Softmax`, `MatMul`; the fused operators
//! `com.microsoft.MultiHeadAttention` and `ai.onnx` `Attention`; and
//! `com.microsoft.Attention` with packed projections (always self-attention).

use crate::graph::operators::Macs;
use crate::graph::{BitSet, Family, Graph, NodeId, ValueId};

use super::depends::Kinds;
use super::inputs::InputKind;

/// What attends to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionKind {
    /// Query, key and value from the latent.
    #[serde(rename = "self")]
    SelfAttention,
    /// Query from the latent, key and value from the text.
    #[serde(rename = "cross")]
    Cross,
}

/// One attention of a diffusion graph.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Self or cross.
    pub kind: AttentionKind,
    /// The nodes that compute scores, softmax and weighted sum.
    pub core: Vec<NodeId>,
    /// Result after the output projection, before the residual add: what a fine
    /// cache keeps.
    pub output: ValueId,
}

/// Finds every attention whose query depends on the latent, in topological order.
#[must_use]
pub fn find(graph: &Graph<'_>, depends: &[Kinds]) -> Vec<Attention> {
    let finder = Finder { graph, depends };
    let mut found: Vec<Attention> = graph.nodes().filter_map(|node| finder.at(node)).collect();
    finder.join(&mut found);
    found
}

struct Operands {
    query: ValueId,
    key: ValueId,
    value: ValueId,
    core: Vec<NodeId>,
}

struct Finder<'a, 'm> {
    graph: &'a Graph<'m>,
    depends: &'a [Kinds],
}

impl Finder<'_, '_> {
    fn at(&self, node: NodeId) -> Option<Attention> {
        let operands = match self.graph.family(node) {
            Family::Softmax => self.plain(node)?,
            Family::Attention => self.fused(node)?,
            _ => return None,
        };
        let kind = self.kind(&operands)?;
        let last = *operands.core.last()?;
        let output = self.projected(self.graph.output_of(last)?);
        Some(Attention {
            kind,
            core: operands.core,
            output,
        })
    }

    /// Cross-attentions whose results are added before the output projection (of text and
    /// of a picture, in an IP-Adapter) have one result: that of the projection.
    fn join(&self, found: &mut [Attention]) {
        let is_cross = |a: &Attention| a.kind == AttentionKind::Cross;
        for node in self
            .graph
            .nodes()
            .filter(|n| self.graph.family(*n) == Family::Sum)
        {
            let inputs = self.graph.inputs_of(node);
            let made = |v: &ValueId| found.iter().any(|a| is_cross(a) && a.output == *v);
            let (Some(sum), true) = (self.graph.output_of(node), inputs.iter().all(made)) else {
                continue;
            };
            let inputs = inputs.to_vec();
            for attention in found.iter_mut().filter(|a| is_cross(a)) {
                if inputs.contains(&attention.output) {
                    attention.output = self.projected(sum);
                }
            }
        }
    }

    fn kind(&self, operands: &Operands) -> Option<AttentionKind> {
        let of = |v: ValueId| self.depends[v.index()];
        if !of(operands.query).has(InputKind::Latent) {
            return None;
        }
        let latent = |v| of(v).has(InputKind::Latent);
        let text = |v| of(v).has(InputKind::Text) && !latent(v);
        if text(operands.key) && text(operands.value) {
            Some(AttentionKind::Cross)
        } else if latent(operands.key) && latent(operands.value) {
            Some(AttentionKind::SelfAttention)
        } else {
            None
        }
    }

    fn fused(&self, node: NodeId) -> Option<Operands> {
        let query = self.graph.input_at(node, 0)?;
        let macs = self.graph.operator(node).and_then(|o| o.macs);
        let packed = macs == Some(Macs::PackedAttention);
        let key = if packed {
            query
        } else {
            self.graph.input_at(node, 1).unwrap_or(query)
        };
        let value = if packed {
            query
        } else {
            self.graph.input_at(node, 2).unwrap_or(key)
        };
        Some(Operands {
            query,
            key,
            value,
            core: vec![node],
        })
    }

    /// `MatMul(q, k)`, scaled and masked, `Softmax`, `MatMul(p, v)`.
    fn plain(&self, softmax: NodeId) -> Option<Operands> {
        let latent_input = |node: NodeId| {
            let mut before = self.graph.inputs_of(node).iter().copied();
            before.find(|v| self.depends[v.index()].has(InputKind::Latent))
        };
        let mut core = Vec::new();
        let mut value = self.graph.input_at(softmax, 0)?;
        let scores = loop {
            let node = self.graph.producer(value)?;
            core.push(node);
            match self.graph.family(node) {
                Family::MatrixProduct => break node,
                Family::Select | Family::Quantize => {
                    value = latent_input(node)?;
                }
                family if family.is_arithmetic() || family.rearranges() => {
                    value = latent_input(node)?;
                }
                _ => return None,
            }
        };
        let (query, key) = self.two_operands(scores)?;
        core.reverse();
        core.push(softmax);
        let mut value = self.graph.output_of(softmax)?;
        let sum = loop {
            let consumers = self.graph.consumers(value);
            // TorchScript asks whether rows are masked whole: Where(IsNaN(p), 0, p).
            let aside = |n: &&NodeId| {
                let family = self.graph.family(**n);
                !family.measures() && family != Family::Test
            };
            let node = *consumers.iter().find(aside)?;
            core.push(node);
            match self.graph.family(node) {
                Family::MatrixProduct => break node,
                Family::Select | Family::Product | Family::Quantize => {
                    value = self.graph.output_of(node)?;
                }
                family if family.rearranges() => value = self.graph.output_of(node)?,
                _ => return None,
            }
        };
        let (_, attended) = self.two_operands(sum)?;
        Some(Operands {
            query,
            key,
            value: attended,
            core,
        })
    }

    fn two_operands(&self, node: NodeId) -> Option<(ValueId, ValueId)> {
        Some((self.graph.input_at(node, 0)?, self.graph.input_at(node, 1)?))
    }

    /// Follows the attended values through head merging, output projection and
    /// bias up to the residual add.
    fn projected(&self, start: ValueId) -> ValueId {
        let mut value = start;
        loop {
            let mut users = self
                .graph
                .consumers(value)
                .iter()
                .filter(|n| !self.graph.family(**n).measures());
            let (Some(&node), None) = (users.next(), users.next()) else {
                return value;
            };
            let family = self.graph.family(node);
            let continues = family.rearranges()
                || matches!(
                    family,
                    Family::MatrixProduct
                        | Family::QuantizedProduct
                        | Family::Convolution
                        | Family::Quantize
                        | Family::Sum
                        | Family::Product
                        | Family::Quotient
                );
            // The residual add is the first that joins another latent value.
            let joins = self
                .graph
                .inputs_of(node)
                .iter()
                .any(|v| *v != value && self.depends[v.index()].has(InputKind::Latent));
            match self.graph.output_of(node) {
                Some(next) if continues && !joins && !self.graph.is_output(value) => value = next,
                _ => return value,
            }
        }
    }
}

/// An input is the text only if it gives key and value of a cross-attention and
/// nothing else reads it; others of rank 3 are unrecognised. True if one changed.
pub(super) fn refute_text(
    graph: &Graph<'_>,
    kinds: &mut [InputKind],
    depends: &[Kinds],
    attention: &[Attention],
) -> bool {
    let crossed = attention.iter().any(|a| a.kind == AttentionKind::Cross);
    let mut changed = false;
    for (&value, kind) in graph.inputs().iter().zip(kinds.iter_mut()) {
        if *kind == InputKind::Text
            && !(crossed && feeds_only_keys(graph, depends, attention, value))
        {
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
    let cores: BitSet = attention
        .iter()
        .flat_map(|a| &a.core)
        .map(|n| n.index())
        .collect();
    let mut seen = BitSet::new(graph.node_count());
    let mut todo = vec![text];
    let mut used = false;
    while let Some(value) = todo.pop() {
        for &node in graph.consumers(value) {
            if graph.family(node).measures() || !seen.insert(node.index()) {
                continue;
            }
            if cores.contains(node.index()) {
                used = true;
                continue;
            }
            let outputs = graph.outputs_of(node);
            if outputs
                .iter()
                .any(|v| depends[v.index()].has(InputKind::Latent))
            {
                return false;
            }
            todo.extend_from_slice(outputs);
        }
    }
    used
}
