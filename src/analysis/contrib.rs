//! Shape rules of `com.microsoft` operators, for tract's inference.
//!
//! tract finds an operator by its name and ignores the domain; the rules here take
//! the nodes of the contrib domain and leave the others to tract, except those of ai.onnx that
//! have a rule as well: tract leaves the output of `Attention` open. Rules state shapes only: tract
//! never runs these.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use tract_onnx::model::{Onnx, ParsingContext};
use tract_onnx::pb;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};
use tract_onnx::tract_hir::tract_core::broadcast::multi_broadcast;

use super::bounds;
use super::guarded::guard;
use crate::graph::operators::{Domain, MICROSOFT, OPERATORS, Operator, OutputShape, find};

type Dims = TVec<TDim>;
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

static TRACT: LazyLock<Onnx> = LazyLock::new(tract_onnx::onnx);

/// tract's ONNX reader with the contrib operators, all of them guarded.
#[must_use]
pub fn reader() -> Onnx {
    let mut onnx = TRACT.clone();
    let own = TRACT.op_register.0.keys().map(String::as_str);
    // The reader itself looks at constants.
    let ours = OPERATORS.iter().filter(|o| o.shape.is_some());
    let names = own.chain(ours.map(|o| o.name));
    let names: BTreeSet<&str> = names.filter(|n| *n != "Constant").collect();
    for name in names {
        onnx.op_register.insert(name, build);
    }
    onnx
}

fn build(context: &ParsingContext<'_>, node: &pb::NodeProto) -> Built {
    // ONNX Runtime keeps some of its own operators in the default domain.
    let known = TRACT.op_register.0.get(&node.op_type);
    bounds::check(node)?;
    let operator = find(&node.domain, &node.op_type).filter(|o| o.shape.is_some());
    let in_domain = |o: &Operator| o.domain == Domain::Onnx || node.domain == MICROSOFT;
    let ours = operator.is_some_and(in_domain);
    let (op, closures) = match known {
        Some(builder) if !ours => builder(context, node)?,
        _ => (expand(ShapeOnly::new(node)?), Vec::new()),
    };
    Ok((guard(op), closures))
}

/// An operator that is known by the shapes it makes.
#[derive(Clone, Debug)]
struct ShapeOnly {
    name: String,
    rule: Rule,
    /// Whether each declared output exists.
    outputs: Vec<bool>,
    /// Declared inputs that the rule looks at, as positions among the given ones.
    reads: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Rule {
    /// All full outputs have the shape of the first input; the second and third of a
    /// norm are statistics, with a last axis of 1.
    Same {
        norm: bool,
    },
    /// The last axis is halved: a gate and what it gates.
    HalveLast,
    Conv(Window),
    MatMul {
        trans_left: bool,
        trans_right: bool,
    },
    /// Projection to query, key and value inside; width of the values if it differs.
    PackedAttention {
        value_width: Option<i64>,
    },
    Attention,
    /// `Attention` of ai.onnx; query heads that share a head of key and value.
    Grouped {
        shared: i64,
    },
}

impl Rule {
    fn of(node: &pb::NodeProto) -> TractResult<Self> {
        let flag = |name: &str| Ok::<_, TractError>(node.get_attr_opt::<i64>(name)? == Some(1));
        let known = find(&node.domain, &node.op_type).and_then(|o| o.shape);
        Ok(match known.unwrap_or(OutputShape::Same) {
            OutputShape::Same => Self::Same { norm: false },
            OutputShape::Norm => Self::Same { norm: true },
            OutputShape::HalveLast => Self::HalveLast,
            OutputShape::Convolution { channels_last } => {
                Self::Conv(Window::of(node, channels_last)?)
            }
            OutputShape::Product => Self::MatMul {
                trans_left: flag("transA")?,
                trans_right: flag("transB")?,
            },
            OutputShape::GroupedAttention => {
                let heads = |name: &str| node.get_attr_opt::<i64>(name);
                let shared = match (heads("q_num_heads")?, heads("kv_num_heads")?) {
                    (Some(q), Some(kv)) if kv > 0 => q / kv,
                    _ => 1,
                };
                Self::Grouped { shared }
            }
            OutputShape::PackedAttention => {
                let sizes = node.get_attr_opt_vec::<i64>("qkv_hidden_sizes")?;
                Self::PackedAttention {
                    value_width: sizes.and_then(|s| s.get(2).copied()),
                }
            }
            OutputShape::Attention => Self::Attention,
        })
    }

    fn reads(&self) -> usize {
        match self {
            Self::Same { .. } | Self::HalveLast => 1,
            Self::Conv(_) | Self::MatMul { .. } | Self::PackedAttention { .. } => 2,
            Self::Attention | Self::Grouped { .. } => 3,
        }
    }

    /// Shape of the first output.
    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let first = inputs.first().context("no input")?;
        match self {
            Self::Same { .. } => Ok(first.clone()),
            Self::HalveLast => {
                let last = last(first)? / 2;
                Ok(with_last(first, last))
            }
            Self::Conv(window) => window.shape(first, inputs.get(1).context("no weight")?),
            Self::MatMul {
                trans_left,
                trans_right,
            } => matmul(
                first,
                inputs.get(1).context("one operand")?,
                *trans_left,
                *trans_right,
            ),
            Self::PackedAttention { value_width } => {
                let width = match value_width {
                    Some(width) => width.to_dim(),
                    None => last(inputs.get(1).context("no weight")?)? / 3,
                };
                Ok(with_last(first, width))
            }
            Self::Attention => attention(inputs),
            // Heads are part of the width in rank 3 and an axis in rank 4.
            Self::Grouped { shared } => {
                let width = last(inputs.get(2).context("no value")?)?;
                Ok(with_last(
                    first,
                    if first.len() == 3 {
                        width * *shared
                    } else {
                        width
                    },
                ))
            }
        }
    }
}

impl ShapeOnly {
    fn new(node: &pb::NodeProto) -> TractResult<Self> {
        let rule = Rule::of(node)?;
        let given = |position: &usize| node.input.get(*position).is_some_and(|n| !n.is_empty());
        let before = |position: usize| (0..position).filter(given).count();
        Ok(Self {
            name: node.op_type.clone(),
            reads: (0..rule.reads()).filter(given).map(before).collect(),
            rule,
            outputs: node.output.iter().map(|n| !n.is_empty()).collect(),
        })
    }

    /// Shapes of the outputs that exist.
    fn shapes(&self, inputs: &[Dims]) -> TractResult<Vec<Option<Dims>>> {
        let main = self.rule.shape(inputs)?;
        let shape = |position: usize| match (&self.rule, position) {
            (_, 0) => Some(main.clone()),
            (Rule::Same { norm: true }, 1 | 2) => Some(with_last(&main, 1.to_dim())),
            (Rule::Same { .. }, _) => Some(main.clone()),
            _ => None,
        };
        let exists = self
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, exists)| **exists);
        Ok(exists.map(|(position, _)| shape(position)).collect())
    }
}

impl Expansion for ShapeOnly {
    fn name(&self) -> StaticName {
        self.name.clone().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs.iter().filter(|exists| **exists).count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.nboutputs()?)?;
        let first = inputs.first().context("no input")?;
        for output in outputs {
            solver.equals(&first.datum_type, &output.datum_type)?;
        }
        let read = self
            .reads
            .iter()
            .filter_map(|&i| inputs.get(i))
            .map(|i| &i.shape);
        solver.given_all(read, move |solver, shapes| {
            for (output, shape) in outputs.iter().zip(self.shapes(&shapes)?) {
                if let Some(shape) = shape {
                    solver.equals(&output.shape, shape)?;
                }
            }
            Ok(())
        })
    }

    fn wire(
        &self,
        _prefix: &str,
        _model: &mut TypedModel,
        _inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        bail!("{} is known by its shapes only", self.name)
    }
}

/// Attributes of a convolution.
#[derive(Clone, Debug)]
struct Window {
    channels_last: bool,
    auto_pad: String,
    pads: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
}

impl Window {
    fn of(node: &pb::NodeProto, channels_last: bool) -> TractResult<Self> {
        let list = |name: &str| {
            Ok::<_, TractError>(node.get_attr_opt_vec::<i64>(name)?.unwrap_or_default())
        };
        Ok(Self {
            channels_last,
            auto_pad: node.get_attr_opt::<String>("auto_pad")?.unwrap_or_default(),
            pads: list("pads")?,
            strides: list("strides")?,
            dilations: list("dilations")?,
        })
    }

    fn shape(&self, input: &Dims, weight: &Dims) -> TractResult<Dims> {
        ensure!(
            input.len() == weight.len() && input.len() > 2,
            "ranks of a convolution"
        );
        let axes = input.len() - 2;
        let first = if self.channels_last { 1 } else { 2 };
        let mut shape = input.clone();
        shape[if self.channels_last { axes + 1 } else { 1 }] = weight[0].clone();
        for axis in 0..axes {
            let at = |list: &[i64], i: usize, default: i64| list.get(i).copied().unwrap_or(default);
            let stride = at(&self.strides, axis, 1).max(1);
            let size = &input[first + axis];
            shape[first + axis] = if self.auto_pad.starts_with("SAME") {
                size.clone().div_ceil(stride.unsigned_abs())
            } else {
                let pads = at(&self.pads, axis, 0) + at(&self.pads, axis + axes, 0);
                let reach = (weight[first + axis].clone() - 1) * at(&self.dilations, axis, 1) + 1;
                (size.clone() + pads - reach) / stride.unsigned_abs() + 1
            };
        }
        Ok(shape)
    }
}

fn last(shape: &Dims) -> TractResult<TDim> {
    shape.last().cloned().context("a scalar")
}

fn with_last(shape: &Dims, dim: TDim) -> Dims {
    let mut shape = shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = dim;
    }
    shape
}

fn matmul(left: &Dims, right: &Dims, trans_left: bool, trans_right: bool) -> TractResult<Dims> {
    ensure!(
        left.len() >= 2 && right.len() >= 2,
        "ranks of a matrix product"
    );
    let (l, r) = (left.len() - 2, right.len() - 2);
    let mut shape = multi_broadcast(&[&left[..l], &right[..r]])?;
    shape.push(left[l + usize::from(trans_left)].clone());
    shape.push(right[r + usize::from(!trans_right)].clone());
    Ok(shape)
}

/// `MultiHeadAttention`: query `[B, L, D]` with key and value apart or packed as
/// `[B, L', heads, 2, d]`, or everything packed as `[B, L, heads, 3, d]`. Key and
/// value of rank 4 are `[B, heads, L', d]`.
fn attention(inputs: &[Dims]) -> TractResult<Dims> {
    let query = inputs.first().context("no query")?;
    let width = match (query.len(), inputs.get(2)) {
        (5, _) => query[2].clone() * &query[4],
        (3, Some(value)) if value.len() == 4 => value[1].clone() * &value[3],
        (3, Some(value)) if value.len() == 3 => value[2].clone(),
        (3, _) => query[2].clone(),
        (rank, _) => bail!("a query of rank {rank}"),
    };
    Ok(tvec![query[0].clone(), query[1].clone(), width])
}
