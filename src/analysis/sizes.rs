//! Sizes given to the graph inputs before shapes are inferred.
//!
//! The batch of the latent stays a symbol; latent size and token count are numbers.
//! Residuals get the size of what they are added to, told by the strides between
//! the latent and that place: an export may take sizes it needs early from any of
//! its inputs, so inference cannot wait for theirs.

use std::collections::HashMap;

use super::dims::{Dim, Shape};
use super::inputs::{InputKind, declared_shape, dim_param, fixed_dim};
use super::residuals::residual_stride;
use super::strides::{control_factor, strides};
use crate::graph::{Family, Graph, NodeId, ValueId};
use crate::onnx::proto::TensorShapeProto;

/// Sizes that an export leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of the latent; guidance doubles the pictures asked for.
    pub batch: u64,
    /// Latent height.
    pub height: u64,
    /// Latent width.
    pub width: u64,
    /// Tokens of the encoded prompt.
    pub tokens: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            batch: 2,
            height: 64,
            width: 64,
            tokens: 77,
        }
    }
}

/// Whether height, width or token count of the export are open.
#[must_use]
pub fn has_open_sizes(graph: &Graph<'_>, kinds: &[InputKind]) -> bool {
    graph.inputs().iter().zip(kinds).any(|(v, kind)| {
        let shape = graph.input_info(*v).and_then(declared_shape);
        let rank = shape.map_or(0, |s| s.dim.len());
        let open = |axis: usize| shape.is_some_and(|s| fixed_dim(s, axis).is_none());
        match kind {
            InputKind::Latent | InputKind::Concatenated | InputKind::ControlImage => {
                spatial_axes(graph, *v, rank).into_iter().any(open)
            }
            InputKind::Text => open(1),
            _ => false,
        }
    })
}

/// Dimensions given to each graph input.
pub(super) struct InputDims {
    /// Parallel to [`Graph::inputs`]; none where nothing is declared.
    pub(super) dims: Vec<Option<Vec<Option<Dim>>>>,
    /// Whether the latent's batch is open.
    pub(super) symbolic: bool,
}

/// What the latent says about sizes.
struct Latent<'m> {
    batch_name: Option<&'m str>,
    symbolic: bool,
    height: i64,
    width: i64,
    tokens: i64,
    /// Names of open dimensions whose size is known: an attention mask has the text's.
    names: HashMap<&'m str, i64>,
}

impl InputDims {
    pub(super) fn new(graph: &Graph<'_>, kinds: &[InputKind], sizes: Sizes) -> Self {
        let latent = (0..kinds.len()).find(|&i| kinds[i] == InputKind::Latent);
        let latent = latent.map(|i| graph.inputs()[i]);
        let known = Latent::of(graph, kinds, latent, sizes);
        let strides = latent.map(|l| strides(graph, l));
        let dims = graph.inputs().iter().zip(kinds).map(|(&value, &kind)| {
            let declared = graph.input_info(value).and_then(declared_shape)?;
            let size = match (kind, latent, &strides) {
                (InputKind::ControlImage, Some(latent), _) => {
                    let factor = control_factor(graph, value, latent).unwrap_or(8);
                    Some([
                        known.height.saturating_mul(factor),
                        known.width.saturating_mul(factor),
                    ])
                }
                (InputKind::Residual, _, Some(strides)) => {
                    let stride = residual_stride(graph, value, strides);
                    stride.map(|s| [shrunk(known.height, s), shrunk(known.width, s)])
                }
                (InputKind::Latent | InputKind::Concatenated, ..) => {
                    Some([known.height, known.width])
                }
                _ => None,
            };
            let size = size.map(|size| (spatial_axes(graph, value, declared.dim.len()), size));
            Some(known.fill(declared, kind, size))
        });
        Self {
            dims: dims.collect(),
            symbolic: known.symbolic,
        }
    }

    /// Gives residual inputs the inferred shape of what they are added to, where it
    /// is another than assumed; true if that told something new.
    pub(super) fn correct_residuals(
        &mut self,
        graph: &Graph<'_>,
        kinds: &[InputKind],
        found: &[Option<Shape>],
    ) -> bool {
        let mut changed = false;
        for (i, (&value, &kind)) in graph.inputs().iter().zip(kinds).enumerate() {
            if kind != InputKind::Residual {
                continue;
            }
            let partner = graph.consumers(value).iter().find_map(|&node| {
                let joins = graph.family(node) == Family::Sum;
                let others = graph
                    .inputs_of(node)
                    .iter()
                    .filter(|v| joins && **v != value);
                others
                    .filter_map(|v| found[v.index()].as_ref())
                    .find(|s| s.dims.len() == 4)
            });
            let declared = graph.input_info(value).and_then(declared_shape);
            let (Some(shape), Some(declared)) = (partner, declared) else {
                continue;
            };
            // What is declared stays: a pooled residual is one by one, and spread as it is added.
            let dims: Vec<Option<Dim>> = (0..shape.dims.len())
                .map(|axis| {
                    let stays = fixed_dim(declared, axis).filter(|size| *size > 0);
                    stays.map_or(shape.dims[axis], Dim::fixed)
                })
                .map(Some)
                .collect();
            if self.dims[i].as_ref() != Some(&dims) {
                self.dims[i] = Some(dims);
                changed = true;
            }
        }
        changed
    }
}

impl<'m> Latent<'m> {
    fn of(graph: &Graph<'m>, kinds: &[InputKind], latent: Option<ValueId>, sizes: Sizes) -> Self {
        let shape = latent
            .and_then(|v| graph.input_info(v))
            .and_then(declared_shape);
        let limited = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let axes = latent.map_or([2, 3], |v| spatial_axes(graph, v, 4));
        let spatial = |side: usize, asked: u64| {
            shape
                .and_then(|s| fixed_dim(s, axes[side]))
                .unwrap_or(limited(asked))
        };
        let mut known = Self {
            batch_name: shape.and_then(own_name),
            symbolic: shape.is_some_and(|s| fixed_dim(s, 0).is_none()),
            height: spatial(0, sizes.height),
            width: spatial(1, sizes.width),
            tokens: limited(sizes.tokens),
            names: HashMap::new(),
        };
        known.names = known.names(graph, kinds);
        known
    }

    /// What the open dimensions of latent and text are called. A name that would stand for
    /// two sizes tells nothing.
    fn names(&self, graph: &Graph<'m>, kinds: &[InputKind]) -> HashMap<&'m str, i64> {
        let mut said: Vec<(&'m str, i64)> = Vec::new();
        for (&value, kind) in graph.inputs().iter().zip(kinds) {
            let Some(shape) = graph.input_info(value).and_then(declared_shape) else {
                continue;
            };
            let axes = spatial_axes(graph, value, shape.dim.len());
            let sizes: &[(usize, i64)] = match kind {
                InputKind::Latent => &[(axes[0], self.height), (axes[1], self.width)],
                InputKind::Text => &[(1, self.tokens)],
                _ => &[],
            };
            for &(axis, size) in sizes {
                let name = dim_param(shape, axis).filter(|n| !n.is_empty());
                said.extend(name.map(|n| (n, size)));
            }
        }
        let clear = |name: &str, size: i64| {
            let mut same = said.iter().filter(|(n, _)| *n == name);
            Some(name) != self.batch_name && same.all(|(_, s)| *s == size)
        };
        said.iter().copied().filter(|(n, s)| clear(n, *s)).collect()
    }

    /// Declared dimensions, the open ones set as far as they can be told. `size` is
    /// that of an image, with the axes of its height and width.
    fn fill(
        &self,
        declared: &TensorShapeProto,
        kind: InputKind,
        size: Option<([usize; 2], [i64; 2])>,
    ) -> Vec<Option<Dim>> {
        let rank = declared.dim.len();
        let open = |axis: usize| -> Option<Dim> {
            let named_batch = self
                .batch_name
                .is_some_and(|b| dim_param(declared, axis) == Some(b));
            // A name is needed off the leading axis, and for a vector, which may as
            // well have one element.
            let named = dim_param(declared, axis).and_then(|n| self.names.get(n));
            let leading = axis == 0 && (2..5).contains(&rank) && named.is_none();
            if self.symbolic && (named_batch || leading) {
                return Some(Dim::batch());
            }
            match (kind, size) {
                (_, Some((axes, size))) if axes.contains(&axis) => {
                    Some(Dim::fixed(size[usize::from(axis == axes[1])]))
                }
                (InputKind::ControlImage, _) if axis == rank - 4 && self.symbolic => {
                    Some(Dim::batch())
                }
                (InputKind::Text, _) if axis == 1 => Some(Dim::fixed(self.tokens)),
                (InputKind::ControlImage | InputKind::Timestep | InputKind::ControlScale, _)
                    if axis == 0 =>
                {
                    Some(Dim::fixed(1))
                }
                _ => named.copied().map(Dim::fixed),
            }
        };
        let dim = |axis| {
            fixed_dim(declared, axis)
                .map(Dim::fixed)
                .or_else(|| open(axis))
        };
        (0..rank).map(dim).collect()
    }
}

/// Axes of height and width of an image: the last two, but where all that reads it first brings
/// the channels before them.
fn spatial_axes(graph: &Graph<'_>, image: ValueId, rank: usize) -> [usize; 2] {
    let mut readers = Vec::new();
    let mut todo = vec![image];
    while let Some(value) = todo.pop() {
        for &node in graph.consumers(value) {
            match graph.family(node) {
                Family::Shape | Family::Size => {}
                Family::Cast | Family::Same => todo.extend_from_slice(graph.outputs_of(node)),
                _ => readers.push(node),
            }
        }
    }
    let turns = |node: &NodeId| {
        let order = graph.node(*node).attr_ints("perm");
        graph.family(*node) == Family::Transpose && order == Some(&[0, 3, 1, 2])
    };
    if !readers.is_empty() && readers.iter().all(turns) {
        [1, 2]
    } else {
        [rank.saturating_sub(2), rank.saturating_sub(1)]
    }
}

/// The name of the first dimension, if no other one bears it: a name that stands for any
/// size tells nothing.
fn own_name(shape: &TensorShapeProto) -> Option<&str> {
    let name = dim_param(shape, 0).filter(|n| !n.is_empty())?;
    let mut others = (1..shape.dim.len()).map(|axis| dim_param(shape, axis));
    (!others.any(|o| o == Some(name))).then_some(name)
}

/// Size after padded convolutions with this stride in all.
fn shrunk(size: i64, stride: i64) -> i64 {
    size.saturating_add(stride - 1) / stride
}
