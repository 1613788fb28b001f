//! A small UNet with everything that is recognised, and one thing at a time made otherwise.

use hgc::unstable::analysis::shapes::declare;
use hgc::unstable::onnx::proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto,
    tensor_shape_proto,
};
use hgc::unstable::onnx::{attr_int, attr_ints, make_node, tensor_f32, tensor_i64};

use crate::wrap::wrap;

/// What the rank-3 input does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cross {
    /// Gives keys and values, as a text does.
    Attended,
    /// Is added to the tokens of the latent.
    Added,
    /// Both.
    AttendedAndAdded,
    /// Gives keys, and the latent gives values.
    KeysOnly,
}

/// What a second attention with the same query attends to; its result is added to the first's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// There is none.
    Nothing,
    /// An input of its own, as the picture of an IP-Adapter.
    Picture,
    /// The latent.
    Latent,
}

/// What meets the latent before the first convolution, or at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stem {
    /// Nothing.
    Plain,
    /// A mask and a masked latent, joined to its channels.
    Masked,
    /// A hint eight times as large, brought to its size by convolutions and joined to its channels.
    Hinted,
    /// A noise level that divides it.
    Divided,
    /// A map of its size that divides it.
    DividedByMap,
    /// A map of its size, joined to its rows.
    Rows,
    /// A map of its size that is convolved apart and added.
    Summed,
}

/// What a projected vector is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vector {
    /// There is none.
    Nothing,
    /// The sinusoids of the timestep, as an embedding of the guidance scale.
    Sinusoids,
    /// What weights made of them, as class labels.
    Embedding,
}

/// What the graph is like.
pub struct Twin {
    /// The vector input.
    pub vector: Vector,
    /// What meets the latent.
    pub stem: Stem,
    /// Whether there is a timestep.
    pub timed: bool,
    /// Numbers of the timestep where it is a matrix.
    pub time_columns: Option<i64>,
    /// What a vector of a timestep for each row is multiplied by first.
    pub widened: Option<&'static str>,
    /// The second attention.
    pub beside: Beside,
    /// Whether the `Concat` joins an encoder value, not two branches of one.
    pub skips: bool,
    /// The rank-3 input.
    pub cross: Cross,
    /// Operator that joins the rank-4 input with the skip.
    pub residual: &'static str,
    /// Whether one more rank-4 input is joined to the channels before the last convolution.
    pub late: bool,
}

impl Default for Twin {
    fn default() -> Self {
        Self {
            vector: Vector::Nothing,
            stem: Stem::Plain,
            timed: true,
            time_columns: None,
            widened: None,
            beside: Beside::Nothing,
            skips: true,
            cross: Cross::Attended,
            residual: "Add",
            late: false,
        }
    }
}

const WIDTH: i64 = 8;
/// Latent of 16 x 16, once shrunk by two; the text is as long, so that each may take the
/// other's place.
const TOKENS: i64 = 64;

impl Twin {
    /// The graph as a model.
    pub fn model(&self) -> ModelProto {
        let mut graph = GraphProto {
            name: Some("twin".to_owned()),
            ..GraphProto::default()
        };
        graph
            .input
            .push(input("latent", &[None, Some(4), Some(16), Some(16)]));
        if self.timed {
            let columns = self.time_columns.map(Some);
            let dims: Vec<_> = std::iter::once(Some(1)).chain(columns).collect();
            graph.input.push(input("time", &dims));
        }
        graph
            .input
            .push(input("text", &[None, Some(TOKENS), Some(WIDTH)]));
        graph
            .input
            .push(input("extra", &[None, Some(WIDTH), Some(16), Some(16)]));
        if self.beside == Beside::Picture {
            graph
                .input
                .push(input("picture", &[None, Some(4), Some(WIDTH)]));
        }
        self.encoder(&mut graph);
        self.middle(&mut graph);
        self.decoder(&mut graph);
        graph
            .output
            .push(input("out", &[None, Some(4), Some(16), Some(16)]));
        wrap(graph)
    }

    fn stem(&self, graph: &mut GraphProto) {
        let mut image = |name: &str, channels: i64, side: i64| {
            let dims = [None, Some(channels), Some(side), Some(side)];
            graph.input.push(input(name, &dims));
        };
        let (joined, axis, channels): (&[&str], _, _) = match self.stem {
            Stem::Plain => return conv(graph, "latent", "stem", 4, WIDTH, 1),
            Stem::Masked => {
                image("mask", 1, 16);
                image("masked", 4, 16);
                (&["latent", "mask", "masked"], 1, 9)
            }
            Stem::Hinted => {
                image("hint", 3, 128);
                conv(graph, "hint", "half", 3, 4, 2);
                conv(graph, "half", "quarter", 4, 4, 2);
                conv(graph, "quarter", "eighth", 4, 4, 2);
                (&["latent", "eighth"], 1, 8)
            }
            Stem::Divided | Stem::DividedByMap => {
                let map = [None, Some(4), Some(16), Some(16)];
                let dims: &[_] = if self.stem == Stem::Divided {
                    &[]
                } else {
                    &map
                };
                graph.input.push(input("level", dims));
                node(graph, "Exp", &["level"], "divisor");
                node(graph, "Div", &["latent", "divisor"], "divided");
                return conv(graph, "divided", "stem", 4, WIDTH, 1);
            }
            Stem::Rows => {
                image("below", 4, 16);
                graph.initializer.push(tensor_i64("from", &[1], &[0]));
                graph.initializer.push(tensor_i64("to", &[1], &[16]));
                graph.initializer.push(tensor_i64("axis", &[1], &[2]));
                (&["latent", "below"], 2, 4)
            }
            Stem::Summed => {
                image("other", 4, 16);
                conv(graph, "latent", "one", 4, WIDTH, 1);
                conv(graph, "other", "two", 4, WIDTH, 1);
                return node(graph, "Add", &["one", "two"], "stem");
            }
        };
        let concat = make_node("Concat", "inputs", joined.iter().copied(), ["inputs"]);
        push(graph, concat.with_attr(attr_int("axis", axis)));
        if self.stem == Stem::Rows {
            conv(graph, "inputs", "tall", channels, WIDTH, 1);
            node(graph, "Slice", &["tall", "from", "to", "axis"], "stem");
        } else {
            conv(graph, "inputs", "stem", channels, WIDTH, 1);
        }
    }

    fn encoder(&self, graph: &mut GraphProto) {
        self.stem(graph);
        conv(graph, "stem", "small", WIDTH, WIDTH, 2);
        if let Some(by) = self.widened {
            graph.initializer.push(tensor_i64("first", &[1], &[0]));
            graph
                .initializer
                .push(tensor_i64("column", &[4], &[-1, 1, 1, 1]));
            node(graph, "Shape", &["latent"], "sizes");
            node(graph, "Gather", &["sizes", "first"], "rows_of_latent");
            node(graph, "ConstantOfShape", &["rows_of_latent"], "ones");
            push(
                graph,
                make_node("ReduceMean", "means", ["latent"], ["means"])
                    .with_attr(attr_ints("axes", &[1, 2, 3]))
                    .with_attr(attr_int("keepdims", 0)),
            );
            node(graph, "Mul", &["time", by], "times");
            node(graph, "Sin", &["times"], "waves");
            node(graph, "Reshape", &["waves", "column"], "sine");
            node(graph, "Add", &["small", "sine"], "map");
        } else if self.vector != Vector::Nothing {
            graph.input.push(input("vector", &[None, Some(WIDTH)]));
            graph
                .initializer
                .push(weights("vector.weight", &[WIDTH, 1]));
            graph.initializer.push(weights("time.weight", &[1, 1]));
            graph
                .initializer
                .push(tensor_i64("column", &[4], &[-1, 1, 1, 1]));
            node(graph, "Sin", &["time"], "sine");
            node(graph, "MatMul", &["sine", "time.weight"], "embedding");
            node(graph, "MatMul", &["vector", "vector.weight"], "projection");
            let beside = match self.vector {
                Vector::Sinusoids => "sine",
                _ => "embedding",
            };
            node(graph, "Add", &[beside, "projection"], "condition");
            node(graph, "Reshape", &["condition", "column"], "conditions");
            node(graph, "Add", &["small", "conditions"], "map");
        } else if self.timed {
            node(graph, "Sin", &["time"], "sine");
            node(graph, "Add", &["small", "sine"], "map");
        } else {
            node(graph, "Identity", &["small"], "map");
        }
    }

    /// Tokens of the map, what the text does to them, and back.
    fn middle(&self, graph: &mut GraphProto) {
        graph
            .initializer
            .push(tensor_i64("flat", &[3], &[0, WIDTH, -1]));
        graph
            .initializer
            .push(tensor_i64("full", &[4], &[0, WIDTH, 8, 8]));
        node(graph, "Reshape", &["map", "flat"], "columns");
        push(graph, transpose("columns", "tokens", &[0, 2, 1]));
        let value = if self.cross == Cross::KeysOnly {
            "tokens"
        } else {
            "text"
        };
        if self.cross == Cross::Added {
            node(graph, "Add", &["tokens", "text"], "mixed");
        } else {
            attention(graph, "", ["tokens", "text", value]);
            let attended = match self.beside {
                Beside::Nothing => "attended",
                Beside::Picture => joined(graph, "picture"),
                Beside::Latent => joined(graph, "tokens"),
            };
            node(graph, "Add", &["tokens", attended], "mixed");
        }
        let both = self.cross == Cross::AttendedAndAdded;
        node(
            graph,
            "Add",
            &["mixed", if both { "text" } else { "tokens" }],
            "more",
        );
        push(graph, transpose("more", "rows", &[0, 2, 1]));
        node(graph, "Reshape", &["rows", "full"], "deep");
    }

    fn decoder(&self, graph: &mut GraphProto) {
        graph
            .initializer
            .push(tensor_f32("scales", &[4], &[1.0, 1.0, 2.0, 2.0]));
        node(graph, "Resize", &["deep", "", "scales"], "large");
        conv(graph, "large", "main", WIDTH, WIDTH, 1);
        let beside = if self.skips {
            "stem"
        } else {
            conv(graph, "large", "branch", WIDTH, WIDTH, 1);
            "branch"
        };
        node(graph, self.residual, &[beside, "extra"], "joined");
        push(
            graph,
            make_node("Concat", "Concat", ["main", "joined"], ["both"])
                .with_attr(attr_int("axis", 1)),
        );
        if self.late {
            let dims = [None, Some(WIDTH), Some(16), Some(16)];
            graph.input.push(input("late", &dims));
            let all = make_node("Concat", "all", ["both", "late"], ["all"]);
            push(graph, all.with_attr(attr_int("axis", 1)));
            conv(graph, "all", "out", 3 * WIDTH, 4, 1);
        } else {
            conv(graph, "both", "out", 2 * WIDTH, 4, 1);
        }
    }
}

fn attention(graph: &mut GraphProto, prefix: &str, [query, key, value]: [&str; 3]) {
    let named = |name: &str| format!("{prefix}{name}");
    for (from, to) in [(query, "q"), (key, "k"), (value, "v")] {
        let weight = format!("{prefix}{to}.weight");
        graph.initializer.push(weights(&weight, &[WIDTH, WIDTH]));
        node(graph, "MatMul", &[from, &weight], &named(to));
    }
    push(graph, transpose(&named("k"), &named("kt"), &[0, 2, 1]));
    node(
        graph,
        "MatMul",
        &[&named("q"), &named("kt")],
        &named("scores"),
    );
    let softmax = make_node("Softmax", "Softmax", [named("scores")], [named("shares")]);
    push(graph, softmax.with_attr(attr_int("axis", -1)));
    node(
        graph,
        "MatMul",
        &[&named("shares"), &named("v")],
        &named("attended"),
    );
}

/// The first attention and one to `source`, added and projected.
fn joined(graph: &mut GraphProto, source: &str) -> &'static str {
    attention(graph, "beside.", ["tokens", source, source]);
    node(graph, "Add", &["attended", "beside.attended"], "sum");
    graph
        .initializer
        .push(weights("sum.weight", &[WIDTH, WIDTH]));
    node(graph, "MatMul", &["sum", "sum.weight"], "projected");
    "projected"
}

fn conv(graph: &mut GraphProto, from: &str, to: &str, inner: i64, outer: i64, stride: i64) {
    let weight = format!("{to}.weight");
    graph
        .initializer
        .push(weights(&weight, &[outer, inner, 3, 3]));
    let node = make_node("Conv", to, [from, weight.as_str()], [to])
        .with_attr(attr_ints("kernel_shape", &[3, 3]))
        .with_attr(attr_ints("pads", &[1, 1, 1, 1]))
        .with_attr(attr_ints("strides", &[stride, stride]));
    push(graph, node);
}

fn transpose(from: &str, to: &str, order: &[i64]) -> NodeProto {
    make_node("Transpose", to, [from], [to]).with_attr(attr_ints("perm", order))
}

fn node(graph: &mut GraphProto, op: &str, inputs: &[&str], output: &str) {
    push(
        graph,
        make_node(op, output, inputs.iter().copied(), [output]),
    );
}

fn push(graph: &mut GraphProto, node: NodeProto) {
    graph.node.push(node);
}

fn weights(name: &str, dims: &[i64]) -> TensorProto {
    let elements = usize::try_from(dims.iter().product::<i64>()).unwrap_or_default();
    tensor_f32(name, dims, &vec![0.5; elements])
}

fn input(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    use tensor_shape_proto::dimension::Value;
    let dim = dims.iter().map(|d| {
        let value = Some(d.map_or(Value::DimParam("batch".to_owned()), Value::DimValue));
        tensor_shape_proto::Dimension {
            value,
            ..Default::default()
        }
    });
    declare(name, 1, TensorShapeProto { dim: dim.collect() })
}
