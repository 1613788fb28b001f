//! Names that are missing or mean two things, and nodes in no order.

use hgc::unstable::onnx::proto::GraphProto;
use hgc::unstable::onnx::{
    GraphError as G, ReadError as R, ValidateError as V, attr_graph, attr_int, make_node,
    tensor_i64,
};

use super::Case;
use super::models::{add, bad_function, branch, hiding, neg, sparse, twice, value};
use super::write::{edit, main, put};

/// Names that are missing or mean two things.
pub(super) fn names() -> Vec<Case> {
    vec![
        case!(
            "no graph",
            edit(|m| m.graph = None),
            graph!(NoGraph),
            "has no graph"
        ),
        case!(
            "no opsets",
            edit(|m| m.opset_import.clear()),
            graph!(NoOpsets),
            "operator set"
        ),
        case!(
            "no standard opset",
            edit(|m| m.opset_import[0].domain = Some("com.example".into())),
            graph!(NoOpset),
            "\"sum\" (Add)"
        ),
        case!(
            "opset zero",
            edit(|m| m.opset_import[0].version = None),
            graph!(BadOpset),
            "version 0"
        ),
        case!(
            "input twice",
            main(|g| twice(&mut g.input)),
            graph!(DuplicateInput),
            "\"x\""
        ),
        case!(
            "initializer twice",
            main(|g| twice(&mut g.initializer)),
            graph!(DuplicateInitializer),
            "\"w\""
        ),
        case!(
            "dense and sparse initializer",
            main(|g| g.sparse_initializer.push(sparse("w"))),
            graph!(DuplicateInitializer),
            "\"w\""
        ),
        case!(
            "value twice",
            main(|g| g.node.push(make_node("Neg", "n", ["x"], ["y"]))),
            graph!(DuplicateValue),
            "\"n\" (Neg) defines \"y\""
        ),
        case!(
            "value twice in one node",
            main(|g| g.node.push(make_node("Split", "s", ["x"], ["a", "a"]))),
            graph!(DuplicateValue),
            "\"a\""
        ),
        case!(
            "node defines an input",
            main(|g| g.node.push(make_node("Neg", "n", ["y"], ["x"]))),
            graph!(DuplicateValue),
            "\"x\""
        ),
        case!(
            "node hides",
            |d| put(d, &branch(&["w"], vec![neg("x", "w")])),
            graph!(Shadowed),
            "\"w\""
        ),
        case!(
            "input hides",
            |d| put(d, &hiding(|g| g.input = vec![value("x")])),
            graph!(Shadowed),
            "\"x\""
        ),
        case!(
            "initializer hides",
            |d| put(
                d,
                &hiding(|g| g.initializer = vec![tensor_i64("x", &[], &[1])])
            ),
            graph!(Shadowed),
            "graph \"then\""
        ),
        case!(
            "input unnamed",
            main(|g| g.input.push(value(""))),
            graph!(Unnamed),
            "input"
        ),
        case!(
            "initializer unnamed",
            main(|g| g.initializer[0].name = None),
            graph!(Unnamed),
            "initializer"
        ),
        case!(
            "no operator",
            main(|g| g.node[0].op_type = None),
            graph!(NoOperator),
            "\"sum\""
        ),
        case!(
            "attribute twice",
            main(|g| g.node[0].attribute = vec![attr_int("axis", 1); 2]),
            graph!(DuplicateAttribute),
            "\"axis\""
        ),
        case!(
            "attribute of a function outside of one",
            main(|g| {
                let mut attr = attr_int("axis", 1);
                (attr.i, attr.ref_attr_name) = (None, Some("axis".into()));
                g.node[0].attribute = vec![attr];
            }),
            graph!(RefAttribute),
            "\"axis\""
        ),
        case!(
            "branch without a graph",
            main(|g| {
                let mut attr = attr_graph("then_branch", GraphProto::default());
                attr.g = None;
                g.node[0].attribute = vec![attr];
            }),
            graph!(EmptyAttribute),
            "\"then_branch\" should hold a graph"
        ),
    ]
}

/// Nodes that read what is not there or not yet there.
pub(super) fn orders() -> Vec<Case> {
    vec![
        case!(
            "own output",
            main(|g| g.node[0].input[1] = "y".into()),
            graph!(Cycle),
            "\"sum\""
        ),
        case!(
            "cycle of two",
            main(|g| g.node = vec![add("x", "b", "a"), add("a", "w", "b"), add("b", "w", "y")]),
            graph!(Cycle),
            "cycle"
        ),
        case!(
            "cycle through a branch",
            |d| put(d, &branch(&["t"], vec![neg("y", "t")])),
            graph!(Cycle),
            "\"if\" (If)"
        ),
        case!(
            "unsorted in a branch",
            |d| put(d, &branch(&["t"], vec![neg("a", "t"), neg("x", "a")])),
            graph!(Unsorted),
            "reads \"a\" before"
        ),
        case!(
            "undefined",
            main(|g| g.node[0].input[1] = "q".into()),
            graph!(Undefined),
            "\"q\""
        ),
        case!(
            "undefined in a branch",
            |d| put(d, &branch(&["t"], vec![neg("q", "t")])),
            graph!(Undefined),
            "\"q\""
        ),
        case!(
            "value of the other branch",
            |d| put(d, &branch(&["e2"], vec![neg("e", "e2")])),
            graph!(Undefined),
            "\"e\""
        ),
        case!(
            "undefined in a function",
            |d| put(d, &bad_function()),
            graph!(Undefined),
            "\"q\""
        ),
        case!(
            "output not computed",
            main(|g| g.output.push(value("q"))),
            graph!(OutputNotProduced),
            "returns \"q\""
        ),
        case!(
            "branch returns an outer value",
            |d| put(d, &branch(&["x"], vec![])),
            graph!(OutputNotProduced),
            "Identity"
        ),
    ]
}
