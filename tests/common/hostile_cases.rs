//! Files that are no sound models. One table for the library and the command line.

// Each test that includes this file uses a part of it, and none can go on without its files.
#![allow(dead_code, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use hgc::onnx::proto::tensor_proto::{DataLocation, DataType};
use hgc::onnx::proto::type_proto::{Sequence, Value};
use hgc::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    SparseTensorProto, StringStringEntryProto, TensorProto, TypeProto, ValueInfoProto,
};
use hgc::onnx::{
    ExternalError as E, GraphError as G, ReadError as R, TensorError as T, ValidateError as V,
};
use hgc::onnx::{
    attr_graph, attr_int, attr_tensor, make_node, tensor_bool, tensor_f32, tensor_i64,
};
use prost::Message;

/// One bad file.
pub struct Case {
    /// What is bad about it.
    pub name: &'static str,
    /// Writes it into an empty folder and returns the path to open.
    pub write: Box<dyn Fn(&Path) -> PathBuf>,
    /// Whether this is the error the library must give.
    pub expected: fn(&R) -> bool,
    /// What the message must say besides the path.
    pub text: &'static str,
}

/// All bad files. Run `hgc inspect` on each of them too: the command must fail with `text`.
pub fn cases() -> Vec<Case> {
    let mut cases = files();
    cases.extend(payloads());
    cases.extend(references());
    cases.extend(names());
    cases.extend(orders());
    cases
}

macro_rules! case {
    ($name:literal, $write:expr, $expected:pat, $text:literal) => {
        Case {
            name: $name,
            write: Box::new($write),
            expected: |e| matches!(e, $expected),
            text: $text,
        }
    };
}

macro_rules! graph {
    ($variant:ident) => {
        R::Invalid(V::Graph(G::$variant { .. }))
    };
}

macro_rules! tensor {
    ($variant:ident) => {
        R::Invalid(V::Tensor(T::$variant { .. }))
    };
}

macro_rules! external {
    ($variant:ident) => {
        R::Invalid(V::External(E::$variant { .. }))
    };
}

/// Bytes that are no model at all.
fn files() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "missing file",
            |d| d.join("no.onnx"),
            R::Open { .. },
            "cannot read"
        ),
        case!(
            "folder",
            |d| d.to_owned(),
            R::NotAFile { .. },
            "not a regular file"
        ),
        case!("empty", bytes(b""), R::Empty { .. }, "empty"),
        case!(
            "lfs pointer",
            bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
            R::LfsPointer { .. },
            "git lfs pull"
        ),
        case!(
            "text",
            bytes(b"hello, this is no model"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!(
            "json",
            bytes(b"{\"a\": [1, 2, 3]}"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!(
            "png",
            bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!(
            "zip",
            bytes(b"PK\x03\x04\x14\0\0\0\x08\0abcdef"),
            R::NotOnnx { .. },
            "not an ONNX"
        ),
        case!("zeros", bytes(&[0; 64]), R::NotOnnx { .. }, "not an ONNX"),
        case!(
            "cut in the middle",
            |d| cut(d, 2),
            R::Truncated { .. },
            "cut short"
        ),
        case!(
            "last byte gone",
            |d| cut(d, 1),
            R::Truncated { .. },
            "cut short"
        ),
        case!(
            "nested types",
            |d| put(d, &deep_types()),
            R::TooDeep { .. },
            "nested deeper"
        ),
        case!(
            "nested graphs",
            |d| put(d, &deep_graphs()),
            R::TooDeep { .. },
            "nested deeper"
        ),
        case!(
            "text not UTF-8",
            not_utf8,
            R::Malformed { .. },
            "damaged inside"
        ),
        case!(
            "inner length too long",
            inner_length,
            R::Malformed { .. },
            "damaged inside"
        ),
        case!(
            "unknown field",
            unknown_field,
            R::UnknownField { .. },
            "of onnx.GraphProto"
        ),
    ];
    if cfg!(unix) {
        cases.push(case!(
            "pipe",
            |d| pipe(d, "m.onnx"),
            R::NotAFile { .. },
            "not a regular"
        ));
    }
    cases
}

/// Tensors that contradict themselves.
fn payloads() -> Vec<Case> {
    vec![
        case!(
            "negative dim",
            weight(|t| t.dims = vec![-4]),
            tensor!(NegativeDim),
            "-4"
        ),
        case!(
            "dims overflow",
            weight(|t| t.dims = vec![i64::MAX, i64::MAX]),
            tensor!(TooLarge),
            "larger than any memory"
        ),
        case!(
            "bits overflow",
            weight(|t| t.dims = vec![1 << 61]),
            tensor!(TooLarge),
            "larger than any memory"
        ),
        case!(
            "raw too short",
            weight(|t| t.dims = vec![5]),
            tensor!(WrongLength),
            "needs 20 bytes but its raw_data has 16"
        ),
        case!(
            "raw too long",
            weight(|t| t.dims = vec![3]),
            tensor!(WrongLength),
            "needs 12 bytes but its raw_data has 16"
        ),
        case!(
            "no elements but data",
            weight(|t| t.dims = vec![0]),
            tensor!(WrongLength),
            "needs 0 bytes"
        ),
        case!(
            "typed too short",
            typed(DataType::Float, 4, |t| t.float_data = vec![1.0; 3]),
            tensor!(WrongLength),
            "needs 4 entries but its float_data has 3"
        ),
        case!(
            "complex counted singly",
            typed(DataType::Complex64, 4, |t| t.float_data = vec![1.0; 4]),
            tensor!(WrongLength),
            "needs 8 entries"
        ),
        case!(
            "int4 in whole bytes",
            typed(DataType::Int4, 5, |t| t.raw_data = Some(vec![0; 5].into())),
            tensor!(WrongLength),
            "needs 3 bytes"
        ),
        case!(
            "int4 entries unpacked",
            typed(DataType::Uint4, 5, |t| t.int32_data = vec![0; 5]),
            tensor!(WrongLength),
            "needs 3 entries"
        ),
        case!(
            "int2 in nibbles",
            typed(DataType::Int2, 8, |t| t.raw_data = Some(vec![0; 4].into())),
            tensor!(WrongLength),
            "needs 2 bytes"
        ),
        case!(
            "float6 in bytes",
            typed(DataType::Float6e3m2, 4, |t| t.raw_data =
                Some(vec![0; 4].into())),
            tensor!(WrongLength),
            "needs 3 bytes"
        ),
        case!(
            "strings in raw",
            typed(DataType::String, 4, |t| t.raw_data =
                Some(vec![0; 4].into())),
            tensor!(WrongField),
            "STRING"
        ),
        case!(
            "floats as integers",
            typed(DataType::Float, 4, |t| t.int64_data = vec![0; 4]),
            tensor!(WrongField),
            "int64_data"
        ),
        case!(
            "two payloads",
            weight(|t| t.float_data = vec![0.0; 4]),
            tensor!(SeveralPayloads),
            "both raw_data and float_data"
        ),
        case!(
            "no data",
            weight(|t| t.raw_data = None),
            tensor!(NoData),
            "no data"
        ),
        case!(
            "type 99",
            weight(|t| t.data_type = Some(99)),
            tensor!(UnknownType),
            "99"
        ),
        case!(
            "no type",
            weight(|t| t.data_type = None),
            tensor!(UnknownType),
            "type 0"
        ),
        case!(
            "bad constant in a branch",
            |d| put(d, &branch(&["y2"], vec![bad_constant()])),
            tensor!(WrongLength),
            "attribute \"value\" of node \"c\" (Constant)"
        ),
        case!(
            "bad sparse tensor",
            |d| put(d, &bad_sparse()),
            tensor!(WrongLength),
            "sparse"
        ),
        case!(
            "bad default in a function",
            |d| put(d, &bad_default()),
            tensor!(NoData),
            "\"f\""
        ),
    ]
}

/// External data that are not there or must not be touched.
fn references() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "no location",
            outside(&[("offset", "0")]),
            external!(NoLocation),
            "no location"
        ),
        case!(
            "empty location",
            at(""),
            external!(NoLocation),
            "no location"
        ),
        case!(
            "offset in words",
            outside(&[("location", "w.bin"), ("offset", "zero")]),
            external!(BadNumber),
            "offset \"zero\""
        ),
        case!(
            "offset negative",
            outside(&[("location", "w.bin"), ("offset", "-16")]),
            external!(BadNumber),
            "offset \"-16\""
        ),
        case!(
            "length in hex",
            outside(&[("location", "w.bin"), ("length", "0x10")]),
            external!(BadNumber),
            "length \"0x10\""
        ),
        case!(
            "absolute",
            at("/etc/passwd"),
            external!(Absolute),
            "absolute"
        ),
        case!(
            "absolute, drive",
            at("C:\\w.bin"),
            external!(Absolute),
            "absolute"
        ),
        case!(
            "absolute, share",
            at("\\\\host\\w.bin"),
            external!(Absolute),
            "absolute"
        ),
        case!("climbs", at("../w.bin"), external!(Escapes), "leads out"),
        case!(
            "climbs inside",
            at("sub/../../w.bin"),
            external!(Escapes),
            "leads out"
        ),
        case!(
            "climbs backwards",
            at("sub\\..\\..\\w.bin"),
            external!(Escapes),
            "leads out"
        ),
        case!("NUL", at("w.bin\0.txt"), external!(Nul), "NUL"),
        case!(
            "data missing",
            at("gone.bin"),
            external!(Missing),
            "gone.bin does not exist"
        ),
        case!(
            "data in a file",
            at("w.bin/x"),
            external!(Missing),
            "does not exist"
        ),
        case!(
            "data is a folder",
            at("sub"),
            external!(NotAFile),
            "not a regular file"
        ),
        case!(
            "data is the folder",
            at("."),
            external!(NotAFile),
            "not a regular file"
        ),
        case!(
            "past the end",
            outside(&[("location", "w.bin"), ("offset", "64")]),
            external!(PastEnd),
            "has 64 bytes, but the tensor needs 16 from 64 on"
        ),
        case!(
            "offset overflow",
            outside(&[("location", "w.bin"), ("offset", "18446744073709551615")]),
            external!(PastEnd),
            "cut short"
        ),
        case!(
            "length other than dims",
            outside(&[("location", "w.bin"), ("length", "8")]),
            external!(WrongLength),
            "needs 16 bytes but its external length is 8"
        ),
        case!(
            "strings outside",
            weight(|t| {
                t.data_type = Some(DataType::String as i32);
                refer(t, &[("location", "w.bin")]);
            }),
            tensor!(WrongField),
            "external_data"
        ),
        case!(
            "inside and outside",
            weight(|t| {
                let raw = t.raw_data.clone();
                refer(t, &[("location", "w.bin")]);
                t.raw_data = raw;
            }),
            tensor!(SeveralPayloads),
            "both raw_data and external_data"
        ),
    ];
    if cfg!(unix) {
        cases.extend(links());
    }
    cases
}

fn links() -> Vec<Case> {
    vec![
        case!(
            "link out",
            |d| linked(d, "/etc/passwd"),
            external!(LinkLeaves),
            "is a link"
        ),
        case!(
            "link to device",
            |d| linked(d, "/dev/zero"),
            external!(LinkLeaves),
            "/dev/zero"
        ),
        case!(
            "link to nothing",
            |d| linked(d, "gone"),
            external!(Missing),
            "does not exist"
        ),
        case!(
            "data is a pipe",
            |d| {
                pipe(d, "p");
                at("p")(d)
            },
            external!(NotAFile),
            "not a regular file"
        ),
    ]
}

/// Names that are missing or mean two things.
fn names() -> Vec<Case> {
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
fn orders() -> Vec<Case> {
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
            "unsorted",
            main(|g| g.node = vec![neg("a", "y"), neg("x", "a")]),
            graph!(Unsorted),
            "reads \"a\" before"
        ),
        case!(
            "unsorted capture",
            |d| put(d, &late_capture()),
            graph!(Unsorted),
            "\"late\""
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

// Models.

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

fn hiding(change: fn(&mut GraphProto)) -> ModelProto {
    let mut model = branch(&["t"], vec![neg("w", "t")]);
    let graph = model.graph.get_or_insert_default();
    if let Some(then) = graph.node[0].attribute[0].g.as_mut() {
        change(then);
    }
    model
}

fn late_capture() -> ModelProto {
    let mut model = branch(&["t"], vec![neg("late", "t")]);
    let graph = model.graph.get_or_insert_default();
    graph.node.push(neg("x", "late"));
    model
}

fn bad_constant() -> NodeProto {
    let mut tensor = tensor_f32("", &[2], &[1.0, 2.0]);
    tensor.dims = vec![3];
    make_node("Constant", "c", [""; 0], ["y2"]).with_attr(attr_tensor("value", tensor))
}

fn bad_sparse() -> ModelProto {
    let mut sparse = sparse("s");
    if let Some(values) = sparse.values.as_mut() {
        values.dims = vec![2];
    }
    let mut model = base();
    model.graph.get_or_insert_default().sparse_initializer = vec![sparse];
    model
}

fn function() -> FunctionProto {
    FunctionProto {
        name: Some("f".into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![neg("a", "b")],
        ..FunctionProto::default()
    }
}

fn bad_function() -> ModelProto {
    let mut function = function();
    function.node[0].input[0] = "q".into();
    ModelProto {
        functions: vec![function],
        ..base()
    }
}

fn bad_default() -> ModelProto {
    let mut tensor = tensor_f32("", &[1], &[1.0]);
    tensor.raw_data = None;
    let mut function = function();
    function.attribute_proto = vec![attr_tensor("t", tensor)];
    ModelProto {
        functions: vec![function],
        ..base()
    }
}

fn deep_types() -> ModelProto {
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

fn deep_graphs() -> ModelProto {
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

// Parts.

pub fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.into()),
        ..ValueInfoProto::default()
    }
}

pub fn neg(from: &str, to: &str) -> NodeProto {
    make_node("Neg", &format!("make_{to}"), [from], [to])
}

fn add(a: &str, b: &str, to: &str) -> NodeProto {
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

fn twice<T: Clone>(list: &mut Vec<T>) {
    list.push(list[0].clone());
}

// Files.

fn bytes(bytes: &'static [u8]) -> impl Fn(&Path) -> PathBuf {
    move |dir| put_bytes(dir, bytes)
}

fn put_bytes(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("m.onnx");
    fs::write(&path, bytes).expect("the folder is writable");
    path
}

/// Writes `model`, and a data file and a folder to refer to.
pub fn put(dir: &Path, model: &ModelProto) -> PathBuf {
    fs::write(dir.join("w.bin"), [7; 64]).expect("the folder is writable");
    fs::create_dir_all(dir.join("sub")).expect("the folder is writable");
    put_bytes(dir, &model.encode_to_vec())
}

/// The base model, changed.
fn edit(change: fn(&mut ModelProto)) -> impl Fn(&Path) -> PathBuf {
    move |dir| {
        let mut model = base();
        change(&mut model);
        put(dir, &model)
    }
}

/// The base model with its graph changed.
fn main(change: fn(&mut GraphProto)) -> impl Fn(&Path) -> PathBuf {
    move |dir| {
        let mut model = base();
        change(model.graph.get_or_insert_default());
        put(dir, &model)
    }
}

/// The base model with its weight changed.
fn weight(change: fn(&mut TensorProto)) -> impl Fn(&Path) -> PathBuf {
    move |dir| {
        let mut model = base();
        change(&mut model.graph.get_or_insert_default().initializer[0]);
        put(dir, &model)
    }
}

/// The base model with a weight of `len` elements of this type.
fn typed(dtype: DataType, len: i64, change: fn(&mut TensorProto)) -> impl Fn(&Path) -> PathBuf {
    move |dir| {
        let mut tensor = TensorProto {
            name: Some("w".into()),
            data_type: Some(dtype as i32),
            dims: vec![len],
            ..TensorProto::default()
        };
        change(&mut tensor);
        let mut model = base();
        model.graph.get_or_insert_default().initializer = vec![tensor];
        put(dir, &model)
    }
}

/// The base model with its weight outside.
fn outside(entries: &'static [(&str, &str)]) -> impl Fn(&Path) -> PathBuf {
    move |dir| {
        let mut model = base();
        refer(
            &mut model.graph.get_or_insert_default().initializer[0],
            entries,
        );
        put(dir, &model)
    }
}

/// The base model with its weight at `location`.
fn at(location: &'static str) -> impl Fn(&Path) -> PathBuf {
    move |dir| {
        let mut model = base();
        let weight = &mut model.graph.get_or_insert_default().initializer[0];
        refer(weight, &[("location", location)]);
        put(dir, &model)
    }
}

/// A file that ends within its last field: after one `part` of it, or a byte early for 1.
fn cut(dir: &Path, part: usize) -> PathBuf {
    let mut model = base();
    // The last field by number, so that a cut is within it.
    model.metadata_props = vec![StringStringEntryProto {
        key: Some("padding".into()),
        value: Some("x".repeat(1000)),
    }];
    let bytes = model.encode_to_vec();
    let len = if part == 1 {
        bytes.len() - 1
    } else {
        bytes.len() / part
    };
    put_bytes(dir, &bytes[..len])
}

fn not_utf8(dir: &Path) -> PathBuf {
    let mut bytes = base().encode_to_vec();
    let at = bytes
        .windows(3)
        .position(|w| w == b"sum")
        .expect("the node is called sum");
    bytes[at] = 0xff;
    put_bytes(dir, &bytes)
}

fn inner_length(dir: &Path) -> PathBuf {
    let mut bytes = base().encode_to_vec();
    let at = bytes
        .windows(3)
        .position(|w| w == b"sum")
        .expect("the node is called sum");
    bytes[at - 1] = 0x7f;
    put_bytes(dir, &bytes)
}

fn unknown_field(dir: &Path) -> PathBuf {
    let model = ModelProto {
        graph: None,
        ..base()
    };
    let mut graph = base().graph.unwrap_or_default().encode_to_vec();
    // Field 99, a number.
    graph.extend([0x98, 0x06, 0x01]);
    let mut bytes = model.encode_to_vec();
    bytes.push(0x3a);
    prost::encode_length_delimiter(graph.len(), &mut bytes).expect("a vector grows");
    bytes.extend(graph);
    put_bytes(dir, &bytes)
}

#[cfg(unix)]
fn linked(dir: &Path, target: &str) -> PathBuf {
    std::os::unix::fs::symlink(target, dir.join("link")).expect("the folder is writable");
    at("link")(dir)
}

#[cfg(unix)]
fn pipe(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo works");
    path
}

#[cfg(not(unix))]
fn linked(dir: &Path, _: &str) -> PathBuf {
    dir.to_owned()
}

#[cfg(not(unix))]
fn pipe(dir: &Path, _: &str) -> PathBuf {
    dir.to_owned()
}
