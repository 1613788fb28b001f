//! Checks in the graph: a cache that is read has the rows and tokens of the call.
//!
//! Other sizes than those at the refresh give wrong pictures without an error where a later operator
//! broadcasts or regroups. A reshape to what the call asks for moves no data, and refuses other sizes.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::Analysis;
use crate::analysis::inputs::InputKind;
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::tensor_i64;
use crate::plan::Rows;
use crate::plan::layout::SiteTensor;

use super::guidance::Output;
use super::scribe::Scribe;

/// Beginning of the names of checking nodes.
pub const CHECK: &str = "hgc.check/";
const ROWS: &str = "hgc.call.rows";
const HALF: &str = "hgc.call.half";
const TOKENS: &str = "hgc.call.tokens";
const TWO: &str = "hgc.call.two";
/// Of the encoded prompt.
const TOKEN_AXIS: usize = 1;

fn axis_name(axis: usize) -> String {
    format!("hgc.call.axis.{axis}")
}

/// What a size of a cache must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Size {
    /// Rows of the batch.
    Rows,
    /// Rows of its half.
    Half,
    Tokens,
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Self::Rows => ROWS,
            Self::Half => HALF,
            Self::Tokens => TOKENS,
        }
    }
}

/// One axis of a value: it has `times` the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    axis: usize,
    size: Size,
    times: i64,
}

/// The sizes of a value, by axis; the others may be any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sizes {
    rank: usize,
    known: Vec<Known>,
}

impl Sizes {
    fn name(&self) -> String {
        let known = self.known.iter().map(|k| {
            let size = k.size.name().trim_start_matches("hgc.call.");
            format!(".{}-{}x{size}", k.axis, k.times)
        });
        format!("hgc.call.sizes.{}{}", self.rank, known.collect::<String>())
    }

    /// Nodes that make the vector of them, called `output`: zeros, which a reshape leaves as they are, but
    /// for what is known. A concatenation would do, but ONNX Runtime takes one unknown in it for "whatever is
    /// left" (`ReshapeFusion`).
    fn vector(
        &self,
        scribe: Scribe<'_>,
        output: &str,
        name: impl Fn(Size) -> String,
    ) -> Vec<NodeProto> {
        let (mut nodes, mut so_far) = (Vec::new(), None::<String>);
        for (i, known) in self.known.iter().enumerate() {
            let is_last = i + 1 == self.known.len();
            let sum = match is_last {
                true => output.to_owned(),
                false => format!("{output}.{i}"),
            };
            let part = match so_far {
                None => sum.clone(),
                Some(_) => format!("{output}.part.{i}"),
            };
            let unit = unit_name(self.rank, *known);
            nodes.push(scribe.node("Mul", &[&name(known.size), &unit], &[&part]));
            if let Some(before) = so_far {
                nodes.push(scribe.node("Add", &[&before, &part], &[&sum]));
            }
            so_far = Some(sum);
        }
        nodes
    }

    fn rows(&self) -> Option<Known> {
        let mut known = self.known.iter();
        known.find(|k| k.size != Size::Tokens).copied()
    }
}

/// A vector that is `times` on the axis and zero elsewhere.
fn unit_name(rank: usize, known: Known) -> String {
    format!("hgc.call.unit.{rank}.{}x{}", known.axis, known.times)
}

/// Makes the checks of one model.
pub struct Checks<'a, 'm> {
    analysis: &'a Analysis<'m>,
    scribe: Scribe<'a>,
    /// Whether some kinds run half of the batch, so that a cache may have the rows of a half.
    halves: bool,
    latent: (&'m str, usize),
    text: Option<&'m str>,
    vectors: BTreeSet<Sizes>,
    sizes: BTreeSet<Size>,
    constants: BTreeMap<String, Vec<i64>>,
}

impl<'a, 'm> Checks<'a, 'm> {
    /// Checks for a model with an open batch; none for others.
    pub fn new(analysis: &'a Analysis<'m>, scribe: Scribe<'a>, halves: bool) -> Option<Self> {
        let latent = analysis.input(InputKind::Latent)?;
        let axis = analysis.shapes.get(latent)?.batch_axis()?;
        let text = analysis
            .input(InputKind::Text)
            .filter(|_| tells_tokens(analysis));
        Some(Self {
            analysis,
            scribe,
            halves,
            latent: (analysis.graph.name(latent), axis),
            text: text.map(|v| analysis.graph.name(v)),
            vectors: BTreeSet::new(),
            sizes: BTreeSet::new(),
            constants: BTreeMap::new(),
        })
    }

    /// `output` is `cached`, which has the sizes of the call.
    pub fn read(
        &mut self,
        rows: Rows,
        tensor: &SiteTensor,
        cached: &str,
        output: &str,
    ) -> Vec<NodeProto> {
        let half = rows != Rows::All;
        let Some(sizes) = self.sizes_of(tensor, half).filter(|s| !s.known.is_empty()) else {
            return vec![self.scribe.identity(cached, output)];
        };
        let may_be_half = self.halves && rows == Rows::All;
        let Some(batch) = sizes.rows().filter(|_| may_be_half) else {
            let vector = self.vector(&sizes);
            return vec![self.reshape(&tensor.name, cached, &vector, output)];
        };
        // The refresh ran the whole batch, or half of it.
        self.need(&sizes);
        self.need_size(Size::Half);
        let axis = self.axis(batch.axis);
        let times = format!("hgc.call.times.{}", batch.times);
        self.constants.insert(times.clone(), vec![batch.times]);
        let name = |what: &str| format!("{output}.{what}");
        let (shape, have, is_half) = (name("sizes"), name("have"), name("is_half"));
        let (half, found, wanted) = (name("half"), name("rows"), name("wanted"));
        let s = self.scribe;
        let chosen = |size: Size| match size {
            Size::Tokens => size.name().to_owned(),
            Size::Rows | Size::Half => found.clone(),
        };
        let mut nodes = vec![
            s.node("Shape", &[cached], &[&shape]),
            s.look_up(&shape, &axis, &have),
            s.node("Mul", &[HALF, &times], &[&half]),
            s.node("Equal", &[&have, &half], &[&is_half]),
            s.node("Where", &[&is_half, HALF, ROWS], &[&found]),
        ];
        nodes.extend(sizes.vector(s, &wanted, chosen));
        nodes.push(self.reshape(&tensor.name, cached, &wanted, output));
        nodes
    }

    /// The guidance difference, which has half of the rows of `output`.
    pub fn difference(&mut self, of: &Output<'_>, cached: &str, output: &str) -> NodeProto {
        let half = Known {
            axis: of.axis,
            size: Size::Half,
            times: 1,
        };
        let sizes = Sizes {
            rank: of.rank,
            known: vec![half],
        };
        let vector = self.vector(&sizes);
        self.reshape(crate::convention::GUIDANCE, cached, &vector, output)
    }

    fn reshape(&self, cache: &str, cached: &str, sizes: &str, output: &str) -> NodeProto {
        let mut node = self.scribe.node("Reshape", &[cached, sizes], &[output]);
        let name = format!("{CHECK}the_cache_{cache}_has_other_rows_or_tokens_than_this_call");
        node.name = Some(name);
        node
    }

    /// Notes that a vector of sizes is needed; its name.
    fn vector(&mut self, sizes: &Sizes) -> String {
        self.need(sizes);
        self.vectors.insert(sizes.clone());
        sizes.name()
    }

    fn need(&mut self, sizes: &Sizes) {
        for known in &sizes.known {
            let mut unit = vec![0; sizes.rank];
            unit[known.axis] = known.times;
            self.constants.insert(unit_name(sizes.rank, *known), unit);
            self.need_size(known.size);
        }
    }

    fn need_size(&mut self, size: Size) {
        self.sizes.insert(size);
        match size {
            Size::Rows => {
                self.axis(self.latent.1);
            }
            Size::Half => {
                self.constants.insert(TWO.to_owned(), vec![2]);
                self.need_size(Size::Rows);
            }
            Size::Tokens => {
                self.axis(TOKEN_AXIS);
            }
        }
    }

    /// The constant that holds an axis.
    fn axis(&mut self, axis: usize) -> String {
        let (name, value) = (axis_name(axis), i64::try_from(axis).unwrap_or_default());
        self.constants.insert(name.clone(), vec![value]);
        name
    }

    fn sizes_of(&self, tensor: &SiteTensor, half: bool) -> Option<Sizes> {
        let shape = tensor.shape.as_ref().filter(|_| !tensor.measure)?;
        let other = self.analysis.elsewhere.as_ref();
        let other = other.and_then(|shapes| shapes.get(tensor.value));
        let tokens = i64::try_from(self.analysis.sizes.tokens).ok()?;
        let is_tokens = |axis: usize| {
            let there = other.and_then(|o| o.dims.get(axis));
            let doubled = there.is_some_and(|d| !d.follows_batch() && d.fixed == 2 * tokens);
            self.text.is_some() && shape.dims[axis].fixed == tokens && doubled
        };
        let mut known = Vec::new();
        for (axis, dim) in shape.dims.iter().enumerate() {
            if Some(axis) == tensor.batch_axis {
                known.push(Known {
                    axis,
                    size: if half { Size::Half } else { Size::Rows },
                    times: dim.per_batch,
                });
            } else if !dim.follows_batch() && is_tokens(axis) {
                known.push(Known {
                    axis,
                    size: Size::Tokens,
                    times: 1,
                });
            }
        }
        Some(Sizes {
            rank: shape.dims.len(),
            known,
        })
    }

    /// Nodes of the main graph that measure the call.
    pub fn prologue(&self) -> Vec<NodeProto> {
        let s = self.scribe;
        let mut nodes = Vec::new();
        let mut measure = |input: &str, axis: usize, output: &str| {
            let shape = format!("{output}.shape");
            nodes.push(s.node("Shape", &[input], &[&shape]));
            nodes.push(s.look_up(&shape, &axis_name(axis), output));
        };
        if self.sizes.contains(&Size::Rows) {
            measure(self.latent.0, self.latent.1, ROWS);
        }
        if let Some(text) = self.text.filter(|_| self.sizes.contains(&Size::Tokens)) {
            measure(text, TOKEN_AXIS, TOKENS);
        }
        if self.sizes.contains(&Size::Half) {
            nodes.push(s.node("Div", &[ROWS, TWO], &[HALF]));
        }
        let name = |size: Size| size.name().to_owned();
        let vectors = self.vectors.iter();
        nodes.extend(vectors.flat_map(|v| v.vector(s, &v.name(), name)));
        nodes
    }

    /// Constants that all of this reads.
    pub fn constants(&self) -> Vec<TensorProto> {
        let constant = |(name, values): (&String, &Vec<i64>)| {
            let length = i64::try_from(values.len()).unwrap_or_default();
            tensor_i64(name, &[length], values)
        };
        self.constants.iter().map(constant).collect()
    }
}

/// Whether a size that equals the tokens is that, and no side of a picture at some level.
fn tells_tokens(analysis: &Analysis<'_>) -> bool {
    let sizes = analysis.sizes;
    let side = |side: u64| (0..16).any(|level| side >> level == sizes.tokens);
    !side(sizes.height) && !side(sizes.width)
}
