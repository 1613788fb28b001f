//! Small rewritten models, built by hand.

use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;
pub const BOOL: i32 = 9;

/// A declared value; dimensions are numbers, names or `?`.
pub fn value(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |d: &&str| Dimension {
        value: match (d.parse(), *d) {
            (Ok(n), _) => Some(Value::DimValue(n)),
            (Err(_), "?") => None,
            (Err(_), name) => Some(Value::DimParam(name.to_owned())),
        },
        ..Default::default()
    };
    let shape = Some(TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    });
    let tensor = type_proto::Tensor { elem_type, shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: format!("{op}_{}", outputs.join("_")),
        input: inputs.iter().map(|&s| s.to_owned()).collect(),
        output: outputs.iter().map(|&s| s.to_owned()).collect(),
        ..Default::default()
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: FLOAT,
        dims: dims.to_vec(),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn ints(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: INT64,
        dims: dims.to_vec(),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn bools(name: &str, values: &[bool]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: BOOL,
        dims: vec![values.len() as i64],
        int32_data: values.iter().map(|&v| i32::from(v)).collect(),
        ..Default::default()
    }
}

/// An `If` whose branches have one output each.
pub fn gate(
    cond: &str,
    output: &str,
    then: NodeProto,
    otherwise: NodeProto,
    dims: &[&str],
) -> NodeProto {
    let branch = |name: &str, body: NodeProto| {
        let graph = GraphProto {
            name: format!("{output}_{name}"),
            output: vec![value(&body.output[0], FLOAT, dims)],
            node: vec![body],
            ..Default::default()
        };
        AttributeProto {
            name: name.to_owned(),
            r#type: 5,
            g: Some(graph),
            ..Default::default()
        }
    };
    NodeProto {
        attribute: vec![
            branch("then_branch", then),
            branch("else_branch", otherwise),
        ],
        ..node("If", &[cond], &[output])
    }
}

pub fn model(graph: GraphProto, metadata: &[(&str, &str)]) -> ModelProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(graph),
        metadata_props: metadata.iter().map(entry).collect(),
        ..Default::default()
    }
}

pub fn bytes(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// `text = 2 seed`.
pub fn text() -> ModelProto {
    let graph = GraphProto {
        name: "text".to_owned(),
        node: vec![node("Mul", &["seed", "two"], &["text"])],
        initializer: vec![floats("two", &[1], &[2.0])],
        input: vec![value("seed", FLOAT, &["batch", "2"])],
        output: vec![value("text", FLOAT, &["batch", "2"])],
        ..Default::default()
    };
    model(graph, &[])
}

/// `y = x + 2x`, before the rewrite.
pub fn original() -> ModelProto {
    let graph = GraphProto {
        name: "original".to_owned(),
        node: vec![
            node("Mul", &["x", "two"], &["a"]),
            node("Add", &["a", "x"], &["y"]),
        ],
        initializer: vec![floats("two", &[1], &[2.0])],
        input: vec![
            value("x", FLOAT, &["batch", "4"]),
            value("text", FLOAT, &["batch", "2"]),
        ],
        output: vec![value("y", FLOAT, &["batch", "4"])],
        ..Default::default()
    };
    model(graph, &[])
}

/// `y = x + a + b` with `a = 2x` shared in place and `b = 10x` not, both computed on
/// the steps where `schedule` says so and held on the others.
pub fn gated(schedule: &[bool]) -> ModelProto {
    let dims = &["batch", "4"];
    let hold = |site: &str| {
        node(
            "Identity",
            &[&format!("hgc.past.{site}")],
            &[&format!("{site}_held")],
        )
    };
    let graph = GraphProto {
        name: "gated".to_owned(),
        node: vec![
            node("Max", &["hgc.step", "zero"], &["index"]),
            node("Gather", &["table", "index"], &["scheduled"]),
            node("Less", &["hgc.step", "zero"], &["forced"]),
            node("Or", &["scheduled", "forced"], &["refresh"]),
            gate(
                "refresh",
                "hgc.present.a",
                node("Mul", &["x", "two"], &["a_new"]),
                hold("a"),
                dims,
            ),
            gate(
                "refresh",
                "hgc.present.b",
                node("Mul", &["x", "ten"], &["b_new"]),
                hold("b"),
                dims,
            ),
            node("Add", &["hgc.present.a", "hgc.present.b"], &["ab"]),
            node("Add", &["ab", "x"], &["y"]),
        ],
        initializer: vec![
            ints("zero", &[], &[0]),
            bools("table", schedule),
            floats("two", &[1], &[2.0]),
            floats("ten", &[1], &[10.0]),
        ],
        input: vec![
            value("x", FLOAT, dims),
            value("text", FLOAT, &["batch", "2"]),
            value("hgc.step", INT64, &[]),
            value("hgc.past.a", FLOAT, dims),
            value("hgc.past.b", FLOAT, dims),
        ],
        output: vec![
            value("y", FLOAT, dims),
            value("hgc.present.a", FLOAT, dims),
            value("hgc.present.b", FLOAT, dims),
        ],
        ..Default::default()
    };
    let steps = schedule.len().to_string();
    model(
        graph,
        &[
            ("hgc.steps", &steps),
            ("hgc.in_place", "a\n"),
            ("hgc.constant_inputs", "text"),
        ],
    )
}

/// `y = weight * x`, where on the steps of `half` only the second half of the rows runs
/// and stands for both.
pub fn halved(half: &[bool], weights: &[f32]) -> ModelProto {
    let dims = &["batch", "4"];
    let steps = half.len() as i64;
    let mut cast = node("Cast", &["half"], &["flag"]);
    cast.attribute.push(int_attribute("to", i64::from(INT64)));
    let mut whole = node("Concat", &["part", "part"], &["twice"]);
    whole.attribute.push(int_attribute("axis", 0));
    let once = node("Identity", &["part"], &["once"]);
    let graph = GraphProto {
        name: "halved".to_owned(),
        node: vec![
            node("Gather", &["halves", "hgc.step"], &["half"]),
            node("Gather", &["weights", "hgc.step"], &["weight"]),
            node("Shape", &["x"], &["shape"]),
            node("Gather", &["shape", "first"], &["rows"]),
            node("Div", &["rows", "two"], &["half_rows"]),
            cast,
            node("Mul", &["half_rows", "flag"], &["start"]),
            node("Slice", &["x", "start", "end", "first"], &["x_part"]),
            node("Mul", &["x_part", "weight"], &["part"]),
            gate("half", "y", whole, once, &["rows", "4"]),
        ],
        initializer: vec![
            bools("halves", half),
            floats("weights", &[steps], weights),
            ints("first", &[1], &[0]),
            ints("two", &[1], &[2]),
            ints("end", &[1], &[i64::MAX]),
        ],
        input: vec![value("x", FLOAT, dims), value("hgc.step", INT64, &[])],
        output: vec![value("y", FLOAT, dims)],
        ..Default::default()
    };
    model(graph, &[("hgc.steps", &steps.to_string())])
}

fn int_attribute(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: 2,
        i,
        ..Default::default()
    }
}

/// A chain of matrix products that takes seconds.
pub fn slow(length: usize) -> ModelProto {
    let n = 768i64;
    let name = |i: usize| {
        if i == 0 {
            "x".to_owned()
        } else {
            format!("m{i}")
        }
    };
    let mut nodes: Vec<_> = (0..length)
        .map(|i| node("MatMul", &[&name(i), "w"], &[&name(i + 1)]))
        .collect();
    nodes.push(node("Identity", &[&name(length)], &["y"]));
    nodes.push(node("Cast", &["hgc.step"], &["ignored"]));
    nodes[length + 1]
        .attribute
        .push(int_attribute("to", i64::from(FLOAT)));
    let dims = &["768", "768"];
    let weights = vec![1e-3; (n * n) as usize];
    let graph = GraphProto {
        name: "slow".to_owned(),
        node: nodes,
        initializer: vec![floats("w", &[n, n], &weights)],
        input: vec![value("x", FLOAT, dims), value("hgc.step", INT64, &[])],
        output: vec![value("y", FLOAT, dims), value("ignored", FLOAT, &[])],
        ..Default::default()
    };
    model(graph, &[("hgc.steps", "4")])
}
