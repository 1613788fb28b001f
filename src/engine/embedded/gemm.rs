//! `Gemm` in half precision, spelled out: tract gives its result in float32, whatever goes in.

use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

/// `TensorProto.DataType.FLOAT16`.
const FLOAT16: i32 = 10;
/// `AttributeProto.AttributeType.INTS`.
const INTS: i32 = 7;

/// Replaces each `Gemm` of a model with half-precision weights by `Transpose`, `MatMul` and `Add`,
/// except where it scales or transposes its first input.
pub fn spell_out(model: &mut ModelProto) {
    if let Some(graph) = &mut model.graph
        && has_halves(graph)
    {
        in_graph(graph);
    }
}

fn branches(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().filter_map(|a| a.g.as_ref())
}

fn has_halves(graph: &GraphProto) -> bool {
    let attributes = graph.node.iter().flat_map(|n| &n.attribute);
    let constants = attributes.filter_map(|a| a.t.as_ref());
    let mut weights = graph.initializer.iter().chain(constants);
    weights.any(|t| t.data_type == FLOAT16) || graph.node.iter().flat_map(branches).any(has_halves)
}

fn in_graph(graph: &mut GraphProto) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let inner = node.attribute.iter_mut().filter_map(|a| a.g.as_mut());
        inner.for_each(in_graph);
        match steps(&node) {
            Some(steps) => nodes.extend(steps),
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
}

/// What a `Gemm` does, in order.
fn steps(node: &NodeProto) -> Option<Vec<NodeProto>> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let scales = |name: &str| attribute(name).is_some_and(|a| (a.f - 1.0).abs() > 0.0);
    let turns = |name: &str| attribute(name).is_some_and(|a| a.i != 0);
    let ([left, right, rest @ ..], [output]) = (node.input.as_slice(), node.output.as_slice())
    else {
        return None;
    };
    if node.op_type != "Gemm" || scales("alpha") || scales("beta") || turns("transA") {
        return None;
    }
    let made = |what: &str| format!("{output}/hgc.{what}");
    let make = |op: &str, inputs: Vec<String>, output: String| NodeProto {
        name: output.clone(),
        op_type: op.to_owned(),
        input: inputs,
        output: vec![output],
        ..NodeProto::default()
    };
    let mut steps = Vec::new();
    let mut right = right.clone();
    if turns("transB") {
        let turned = made("transposed");
        let mut transpose = make("Transpose", vec![right], turned.clone());
        transpose.attribute.push(AttributeProto {
            name: "perm".to_owned(),
            r#type: INTS,
            ints: vec![1, 0],
            ..AttributeProto::default()
        });
        steps.push(transpose);
        right = turned;
    }
    let bias = rest.first().filter(|name| !name.is_empty());
    let product = bias.map_or_else(|| output.clone(), |_| made("product"));
    steps.push(make("MatMul", vec![left.clone(), right], product.clone()));
    if let Some(bias) = bias {
        steps.push(make("Add", vec![product, bias.clone()], output.clone()));
    }
    Some(steps)
}
