//! Half-batch steps: which rows run, and which rows caches keep and give.

use std::collections::BTreeSet;

use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::tensor_i64;
use crate::plan::layout::SiteTensor;
use crate::plan::{Prompted, Rows};

use super::scribe::{Returned, Scribe, Span, axis_tensor, body, half_constant};
use super::tables::HALF;

/// int64 `[1]`: rows of half the batch.
const HALF_ROWS: &str = "hgc.rows.half";
/// int64 `[1]`: rows that this step runs.
const STEP_ROWS: &str = "hgc.rows.step";
/// int64 `[1]`: where the rows that run begin and end.
const START: &str = "hgc.rows.start";
const STOP: &str = "hgc.rows.stop";
const ZERO: &str = "hgc.zero";
const END: &str = "hgc.end";

/// The value of a name of this file at a batch of so many rows, where it follows from that.
#[must_use]
pub fn constant(name: &str, prompted: Prompted, batch: u64, half: bool) -> Option<TensorProto> {
    let all = i64::try_from(batch).ok()?;
    let step = if half { all / 2 } else { all };
    let (start, stop) = match prompted {
        Prompted::Last => (all - step, i64::MAX),
        Prompted::First => (0, step),
    };
    let (base, times) = match name.rsplit_once(".x") {
        Some((base, times)) => (base, times.parse().ok()?),
        None => (name, 1),
    };
    let rows = match base {
        HALF_ROWS => all / 2,
        STEP_ROWS => step,
        START if times == 1 => start,
        STOP if times == 1 => stop,
        _ => return None,
    };
    Some(tensor_i64(name, &[1], &[rows.saturating_mul(times)]))
}

/// Row arithmetic of one model.
pub struct RowMaker<'a> {
    scribe: Scribe<'a>,
    prompted: Prompted,
    multipliers: BTreeSet<i64>,
    axes: BTreeSet<usize>,
}

impl<'a> RowMaker<'a> {
    /// Row arithmetic for the given order of the halves.
    #[must_use]
    pub fn new(scribe: Scribe<'a>, prompted: Prompted) -> Self {
        Self {
            scribe,
            prompted,
            multipliers: BTreeSet::new(),
            axes: BTreeSet::new(),
        }
    }

    /// Nodes of the main graph that find this step's rows from the latent's batch.
    #[must_use]
    pub fn prologue(&self, latent: &str, axis: usize) -> Vec<NodeProto> {
        let s = self.scribe;
        let flag = "hgc.rows.flag";
        let mut nodes = vec![
            s.node("Shape", &[latent], &["hgc.rows.shape"]),
            s.look_up(
                "hgc.rows.shape",
                &super::scribe::axis_name(axis),
                "hgc.rows.all",
            ),
            // An odd batch has no halves: this reshape to [2, batch / 2] refuses it.
            s.node("Div", &["hgc.rows.all", "hgc.two"], &["hgc.rows.quotient"]),
            // Max takes no int64 before opset 12.
            s.node("Equal", &["hgc.rows.quotient", ZERO], &["hgc.rows.none"]),
            s.node(
                "Where",
                &["hgc.rows.none", "hgc.unit", "hgc.rows.quotient"],
                &["hgc.rows.at_least_one"],
            ),
            s.concat("hgc.two", "hgc.rows.at_least_one", 0, "hgc.rows.pair"),
            s.node("ConstantOfShape", &["hgc.rows.all"], &["hgc.rows.each"]),
            s.node(
                "Reshape",
                &["hgc.rows.each", "hgc.rows.pair"],
                &["hgc.rows.the_batch_must_be_even"],
            ),
            s.node(
                "Shape",
                &["hgc.rows.the_batch_must_be_even"],
                &["hgc.rows.halves"],
            ),
            s.look_up("hgc.rows.halves", "hgc.unit", HALF_ROWS),
            s.cast(HALF, flag, super::scribe::dtype::I64),
            s.node("Mul", &[HALF_ROWS, flag], &["hgc.rows.left_out"]),
            s.node("Sub", &["hgc.rows.all", "hgc.rows.left_out"], &[STEP_ROWS]),
        ];
        match self.prompted {
            Prompted::Last => {
                nodes.push(s.identity("hgc.rows.left_out", START));
                nodes.push(s.identity(END, STOP));
            }
            Prompted::First => {
                nodes.push(s.identity(ZERO, START));
                nodes.push(s.identity(STEP_ROWS, STOP));
            }
        }
        nodes
    }

    /// Slices an input to the rows that run.
    pub fn input(&mut self, input: &str, output: &str, axis: usize) -> NodeProto {
        self.axes.insert(axis);
        self.scribe.slice(
            input,
            Span {
                start: START,
                end: STOP,
            },
            axis,
            output,
        )
    }

    /// The elements of a vector for the rows that run; a vector of one stays as it is.
    #[must_use]
    pub fn vector(&mut self, input: &str, output: &str) -> Vec<NodeProto> {
        self.axes.insert(0);
        let s = self.scribe;
        let (have, start) = (format!("{output}.length"), format!("{output}.start"));
        let (first, end) = match self.prompted {
            Prompted::First => (ZERO, STEP_ROWS),
            // Of one element this is at most 0; a Slice takes it from there.
            Prompted::Last => (start.as_str(), END),
        };
        let mut nodes = Vec::new();
        if self.prompted == Prompted::Last {
            nodes.push(s.node("Shape", &[input], &[&have]));
            nodes.push(s.node("Sub", &[&have, STEP_ROWS], &[&start]));
        }
        let span = Span { start: first, end };
        nodes.push(s.slice(input, span, 0, output));
        nodes
    }

    fn rows_name(&mut self, base: &str, multiplier: i64) -> String {
        if multiplier == 1 {
            return base.to_owned();
        }
        self.multipliers.insert(multiplier);
        format!("{base}.x{multiplier}")
    }

    fn geometry(&mut self, tensor: &SiteTensor) -> Option<(usize, i64)> {
        let axis = tensor.batch_axis?;
        let dim = tensor.shape.as_ref()?.dims.get(axis)?;
        self.axes.insert(axis);
        Some((axis, dim.per_batch))
    }

    /// The rows of `cached` that this step runs, as `output`: all, or the prompted half
    /// of a cache that holds both.
    pub fn read(&mut self, tensor: &SiteTensor, cached: &str, output: &str) -> Vec<NodeProto> {
        let Some((axis, multiplier)) = self.geometry(tensor) else {
            return vec![self.scribe.identity(cached, output)];
        };
        let wanted = self.rows_name(STEP_ROWS, multiplier);
        let s = self.scribe;
        match self.prompted {
            Prompted::First => {
                let span = Span {
                    start: ZERO,
                    end: &wanted,
                };
                vec![s.slice(cached, span, axis, output)]
            }
            Prompted::Last => {
                let (shape, have) = (format!("{output}.shape"), format!("{output}.rows"));
                let start = format!("{output}.start");
                let span = Span {
                    start: &start,
                    end: END,
                };
                vec![
                    s.node("Shape", &[cached], &[&shape]),
                    s.look_up(&shape, &super::scribe::axis_name(axis), &have),
                    s.node("Sub", &[&have, &wanted], &[&start]),
                    s.slice(cached, span, axis, output),
                ]
            }
        }
    }

    /// The rows of a freshly computed `value` that the cache keeps, as `output`.
    pub fn store(
        &mut self,
        tensor: &SiteTensor,
        rows: Rows,
        value: &str,
        output: &str,
    ) -> Vec<NodeProto> {
        match (rows, self.geometry(tensor)) {
            (Rows::Prompted, Some((axis, multiplier))) => {
                self.prompted_half(value, axis, multiplier, output)
            }
            (Rows::Mean, Some((axis, multiplier))) => {
                self.mean(tensor, value, axis, multiplier, output)
            }
            _ => vec![self.scribe.identity(value, output)],
        }
    }

    fn prompted_half(
        &mut self,
        value: &str,
        axis: usize,
        multiplier: i64,
        output: &str,
    ) -> Vec<NodeProto> {
        let kept = self.rows_name(HALF_ROWS, multiplier);
        let s = self.scribe;
        match self.prompted {
            Prompted::First => {
                vec![s.slice(
                    value,
                    Span {
                        start: ZERO,
                        end: &kept,
                    },
                    axis,
                    output,
                )]
            }
            Prompted::Last => {
                let have = self.rows_name(STEP_ROWS, multiplier);
                let start = format!("{output}.start");
                vec![
                    s.node("Sub", &[&have, &kept], &[&start]),
                    s.slice(
                        value,
                        Span {
                            start: &start,
                            end: END,
                        },
                        axis,
                        output,
                    ),
                ]
            }
        }
    }

    /// `If(half) value else (first half + last half) / 2`.
    fn mean(
        &mut self,
        tensor: &SiteTensor,
        value: &str,
        axis: usize,
        multiplier: i64,
        output: &str,
    ) -> Vec<NodeProto> {
        let kept = self.rows_name(HALF_ROWS, multiplier);
        let s = self.scribe;
        let elem_type = tensor
            .shape
            .as_ref()
            .map_or(super::scribe::dtype::F32, |t| t.elem_type);
        let rank = tensor.shape.as_ref().map(|t| t.dims.len());
        let name = |what: &str| format!("{output}.{what}");
        let (alone, both) = (name("alone"), name("both"));
        let (first, second, sum, half) = (name("first"), name("second"), name("sum"), name("half"));
        let returned = |name: &str| Returned {
            name: name.to_owned(),
            elem_type,
            rank,
        };
        let then_branch = body(
            &name("one_half"),
            vec![s.identity(value, &alone)],
            &[returned(&alone)],
        );
        let mut nodes = vec![
            s.slice(
                value,
                Span {
                    start: ZERO,
                    end: &kept,
                },
                axis,
                &first,
            ),
            s.slice(
                value,
                Span {
                    start: &kept,
                    end: END,
                },
                axis,
                &second,
            ),
            s.node("Add", &[&first, &second], &[&sum]),
        ];
        nodes.extend(half_constant(&half, elem_type, s));
        nodes.push(s.node("Mul", &[&sum, &half], &[&both]));
        let else_branch = body(&name("both_halves"), nodes, &[returned(&both)]);
        vec![s.branch(
            &name("if"),
            HALF,
            &[output.to_owned()],
            then_branch,
            else_branch,
        )]
    }

    /// Unprompted and prompted half of a whole-batch `value`.
    pub fn split(
        &mut self,
        value: &str,
        axis: usize,
        unprompted: &str,
        prompted: &str,
    ) -> Vec<NodeProto> {
        self.axes.insert(axis);
        let (first, second) = match self.prompted {
            Prompted::Last => (unprompted, prompted),
            Prompted::First => (prompted, unprompted),
        };
        let s = self.scribe;
        vec![
            s.slice(
                value,
                Span {
                    start: ZERO,
                    end: HALF_ROWS,
                },
                axis,
                first,
            ),
            s.slice(
                value,
                Span {
                    start: HALF_ROWS,
                    end: END,
                },
                axis,
                second,
            ),
        ]
    }

    /// A whole batch from its halves.
    #[must_use]
    pub fn join(&self, unprompted: &str, prompted: &str, axis: usize, output: &str) -> NodeProto {
        let (first, second) = match self.prompted {
            Prompted::Last => (unprompted, prompted),
            Prompted::First => (prompted, unprompted),
        };
        self.scribe.concat(first, second, axis, output)
    }

    /// Row counts of values that hold several rows a picture, after
    /// [`RowMaker::prologue`].
    #[must_use]
    pub fn multiples(&self) -> Vec<NodeProto> {
        let product = |base: &str, m: i64| {
            let factor = format!("hgc.times.{m}");
            self.scribe
                .node("Mul", &[base, &factor], &[&format!("{base}.x{m}")])
        };
        let each = self.multipliers.iter();
        each.flat_map(|m| [product(HALF_ROWS, *m), product(STEP_ROWS, *m)])
            .collect()
    }

    /// Constants that all of this reads.
    #[must_use]
    pub fn constants(&self, latent_axis: usize) -> Vec<TensorProto> {
        let mut axes = self.axes.clone();
        axes.insert(latent_axis);
        let mut tensors: Vec<TensorProto> = axes.iter().map(|a| axis_tensor(*a)).collect();
        tensors.push(tensor_i64("hgc.two", &[1], &[2]));
        tensors.push(tensor_i64("hgc.unit", &[1], &[1]));
        tensors.push(tensor_i64(ZERO, &[1], &[0]));
        tensors.push(tensor_i64(END, &[1], &[i64::MAX]));
        tensors.extend(
            self.multipliers
                .iter()
                .map(|m| tensor_i64(&format!("hgc.times.{m}"), &[1], &[*m])),
        );
        tensors
    }
}
