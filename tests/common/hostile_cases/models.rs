//! Models and parts of models that the cases change.

use hgc::unstable::onnx::proto::tensor_proto::DataLocation;
use hgc::unstable::onnx::proto::type_proto::{Sequence, Value};
use hgc::unstable::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    SparseTensorProto, StringStringEntryProto, TensorProto, TypeProto, ValueInfoProto,
};
use hgc::unstable::onnx::{
    attr_graph, attr_tensor, make_node, tensor_bool, tensor_f32, tensor_i64,
};

/// A sound model: y = x + w.
pub fn base() -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        graph: Some(GraphProto {
            name: Some("main".into()),
            input: vec![value("x")],
            initializer: vec![tensor_f32("w", &[4], &[0.5; 4])],
            node: vec![make_node("Add", "sum", ["x", "w"], ["y"])],
            output: vec![value("y")],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// y = If(cond, then, else), where `then` has these outputs and nodes.
pub fn branch(outputs: &[&str], nodes: Vec<NodeProto>) -> ModelProto {
    let mut model = base();
    let then = GraphProto {
        name: Some("then".into()),
        node: nodes,
        output: outputs.iter().map(|o| value(o)).collect(),
        ..GraphProto::default()
    };
    let other = GraphProto {
        name: Some("else".into()),
        node: vec![neg("x", "e")],
        output: vec![value("e")],
        ..GraphProto::default()
    };
    let gate = make_node("If", "if", ["cond"], ["y"])
        .with_attr(attr_graph("then_branch", then))
        .with_attr(attr_graph("else_branch", other));
    let graph = model.graph.get_or_insert_default();
    graph.initializer.push(tensor_bool("cond", &[], &[true]));
    graph.node = vec![gate];
    model
}

pub(super) fn hiding(change: fn(&mut GraphProto)) -> ModelProto {
    let mut model = branch(&["t"], vec![neg("w", "t")]);
    let graph = model.graph.get_or_insert_default();
    if let Some(then) = graph.node[0].attribute[0].g.as_mut() {
        change(then);
    }
    model
}

pub(super) fn bad_constant() -> NodeProto {
    let mut tensor = tensor_f32("", &[2], &[1.0, 2.0]);
    tensor.dims = vec![3];
    make_node("Constant", "c", [""; 0], ["y2"]).with_attr(attr_tensor("value", tensor))
}

pub(super) fn bad_sparse() -> ModelProto {
    let mut sparse = sparse("s");
    if let Some(values) = sparse.values.as_mut() {
        values.dims = vec![2];
    }
    let mut model = base();
    model.graph.get_or_insert_default().sparse_initializer = vec![sparse];
    model
}

pub(super) fn function() -> FunctionProto {
    FunctionProto {
        name: Some("f".into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![neg("a", "b")],
        ..FunctionProto::default()
    }
}

pub(super) fn bad_function() -> ModelProto {
    let mut function = function();
    function.node[0].input[0] = "q".into();
    ModelProto {
        functions: vec![function],
        ..base()
    }
}

pub(super) fn bad_default() -> ModelProto {
    let mut tensor = tensor_f32("", &[1], &[1.0]);
    tensor.raw_data = None;
    let mut function = function();
    function.attribute_proto = vec![attr_tensor("t", tensor)];
    ModelProto {
        functions: vec![function],
        ..base()
    }
}

pub(super) fn deep_types() -> ModelProto {
    let mut ty = TypeProto::default();
    for _ in 0..120 {
        ty = TypeProto {
            value: Some(Value::SequenceType(Box::new(Sequence {
                elem_type: Some(Box::new(ty)),
            }))),
            ..TypeProto::default()
        };
    }
    let mut model = base();
    model.graph.get_or_insert_default().input[0].r#type = Some(ty);
    model
}

pub(super) fn deep_graphs() -> ModelProto {
    let mut graph = GraphProto::default();
    for _ in 0..60 {
        let attribute = AttributeProto {
            g: Some(graph),
            ..AttributeProto::default()
        };
        let node = make_node("If", "", ["c"], ["y"]).with_attr(attribute);
        graph = GraphProto {
            node: vec![node],
            ..GraphProto::default()
        };
    }
    ModelProto {
        graph: Some(graph),
        ..base()
    }
}

pub fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.into()),
        ..ValueInfoProto::default()
    }
}

pub fn neg(from: &str, to: &str) -> NodeProto {
    make_node("Neg", &format!("make_{to}"), [from], [to])
}

pub(super) fn add(a: &str, b: &str, to: &str) -> NodeProto {
    make_node("Add", &format!("make_{to}"), [a, b], [to])
}

pub fn sparse(name: &str) -> SparseTensorProto {
    SparseTensorProto {
        values: Some(tensor_f32(name, &[1], &[1.0])),
        indices: Some(tensor_i64("", &[1], &[0])),
        dims: vec![4],
    }
}

/// Makes `tensor` external with these entries.
pub fn refer(tensor: &mut TensorProto, entries: &[(&str, &str)]) {
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External as i32);
    let entries = entries.iter().map(|(key, value)| StringStringEntryProto {
        key: Some((*key).into()),
        value: Some((*value).into()),
    });
    tensor.external_data = entries.collect();
}

pub(super) fn twice<T: Clone>(list: &mut Vec<T>) {
    list.push(list[0].clone());
}
