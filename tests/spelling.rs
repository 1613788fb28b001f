//! Unusual spellings of a sound model: what ONNX Runtime loads before, it loads after, and `strip` gives
//! back the spelling. And graphs that are only large: they are analysed in time that grows with them.
#![allow(clippy::unwrap_used)]

#[path = "common/fixtures.rs"]
mod fixtures;

use std::path::Path;

use bytes::Bytes;
use hgc::unstable::analysis::shapes::{self, Sizes};
use hgc::unstable::compile::{Inputs, Project, Source};
use hgc::unstable::emit::strip;
use hgc::unstable::engine::{
    Engine, EngineKind, EngineRequest, ModelSource, Optimization, Session, SessionOptions,
};
use hgc::unstable::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use hgc::unstable::onnx::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, ValueInfoProto,
};
use hgc::unstable::onnx::{Model, attr_int, folder_of, make_node};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::{DeepCache, Hgc, Lossless, Policy};
use prost::Message;

const SIZES: Sizes = Sizes {
    batch: 2,
    height: 16,
    width: 16,
    tokens: 77,
};
const LONG: &str = "ai.onnx";

fn read(model: &ModelProto, path: &Path) -> Inputs {
    let model = Model::from_bytes(Bytes::from(model.encode_to_vec()), path).unwrap();
    Inputs {
        sources: vec![Source {
            model,
            relative: None,
        }],
        pipeline: None,
    }
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn declare(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |size: &i64| Dimension {
        value: Some(dimension::Value::DimValue(*size)),
        ..Dimension::default()
    };
    let dim = dims.iter().map(dim).collect();
    shapes::declare(name, elem_type, TensorShapeProto { dim })
}

/// All initializers as inputs with a default, as version 3 of the format has them.
fn list_initializers(model: &mut ModelProto) {
    let graph = graph(model);
    let named =
        |t: &hgc::unstable::onnx::proto::TensorProto| declare(t.name(), t.data_type(), &t.dims);
    let listed: Vec<_> = graph.initializer.iter().map(named).collect();
    graph.input.extend(listed);
}

#[test]
fn what_loads_before_loads_after() {
    let engine = Engine::start(&EngineRequest::from_env(None).unwrap()).unwrap();
    let path = fixtures::fixture("sd15-ts17").join("unet/model.onnx");
    let spelled = |model: &mut ModelProto| {
        for node in &mut graph(model).node {
            node.domain = Some(LONG.to_owned());
        }
    };
    let imported = |model: &mut ModelProto| {
        for import in &mut model.opset_import {
            import.domain = Some(LONG.to_owned());
        }
    };
    type Change<'c> = &'c dyn Fn(&mut ModelProto);
    let cases: [(&str, Change<'_>); 7] = [
        ("nodes", &spelled),
        ("import", &imported),
        ("both", &|m| {
            spelled(m);
            imported(m);
        }),
        ("every other node", &|m| {
            for node in graph(m).node.iter_mut().step_by(2) {
                node.domain = Some(LONG.to_owned());
            }
        }),
        ("format 3", &|m| m.ir_version = Some(3)),
        ("format 3, initializers listed", &|m| {
            m.ir_version = Some(3);
            list_initializers(m);
        }),
        ("another domain beside", &|m| {
            m.opset_import.push(OperatorSetIdProto {
                domain: Some("com.microsoft".to_owned()),
                version: Some(1),
            });
        }),
    ];
    for (name, change) in cases {
        let mut model = fixtures::model("sd15-ts17", "unet");
        change(&mut model);
        let inputs = read(&model, &path);
        let project = Project::new(&inputs, SIZES).unwrap();
        let load = |model: &ModelProto| {
            let source = ModelSource::Memory {
                name: name.to_owned(),
                bytes: model.encode_to_vec().into(),
                folder: Some(folder_of(&path)),
            };
            let options = SessionOptions {
                optimization: Optimization::Off,
                ..SessionOptions::default()
            };
            Session::load(engine, source, &options).map(drop)
        };
        let before = load(&model);
        for policy in [&Hgc as &dyn Policy, &Lossless, &DeepCache] {
            let planned = project.plan(policy, &Parameters::new(4)).unwrap();
            let compiled = project.compile(&planned).unwrap();
            let compiled = compiled.models[0].graph();
            assert!(strip(compiled).unwrap() == model, "{name}, {policy}: strip");
            // The embedded engine reads no data beside a model in memory.
            if engine.kind() == EngineKind::OnnxRuntime {
                assert!(before.is_ok(), "{name}: {before:?}");
                let after = load(compiled);
                assert!(after.is_ok(), "{name}, {policy}: {:?}", after.unwrap_err());
            }
        }
    }
}

/// The name of a value inside of the deep blocks, and all nodes up to it.
fn middle(model: &mut ModelProto) -> (String, usize) {
    let nodes = &graph(model).node;
    let middle = nodes.len() / 2;
    let found = nodes[..middle].iter().rposition(|n| n.op_type() == "Conv");
    let at = found.unwrap();
    (nodes[at].output[0].clone(), at + 1)
}

fn compiles(model: &ModelProto) {
    let path = fixtures::fixture("sd15-ts17").join("unet/model.onnx");
    let inputs = read(model, &path);
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = project.plan(&Hgc, &Parameters::new(4)).unwrap();
    assert!(planned.plan.changes_anything());
    let compiled = project.compile(&planned).unwrap();
    assert!(strip(compiled.models[0].graph()).unwrap() == *model);
}

/// Minutes, if anything looked at all pairs; a moment otherwise.
#[test]
fn large_graphs_are_no_trap() {
    const MANY: usize = 20_000;
    // A chain in the middle of what is cached.
    let mut model = fixtures::model("sd15-ts17", "unet");
    let (value, at) = middle(&mut model);
    let name = |i: usize| format!("link_{i}");
    let links = (0..MANY).map(|i| {
        let before = if i == 0 { value.clone() } else { name(i - 1) };
        make_node(
            "Neg",
            &format!("chain_{i}"),
            [before.as_str()],
            [name(i).as_str()],
        )
    });
    let last = name(MANY - 1);
    for node in &mut graph(&mut model).node[at..] {
        for input in node.input.iter_mut().filter(|i| **i == value) {
            input.clone_from(&last);
        }
    }
    graph(&mut model)
        .node
        .splice(at..at, links.collect::<Vec<_>>());
    compiles(&model);

    // One value that all read and one node that reads them all.
    let mut model = fixtures::model("sd15-ts17", "unet");
    let (value, at) = middle(&mut model);
    let fan = (0..MANY).map(|i| {
        make_node(
            "Neg",
            &format!("fan_{i}"),
            [value.as_str()],
            [name(i).as_str()],
        )
    });
    let mut fan: Vec<_> = fan.collect();
    let names: Vec<String> = (0..MANY).map(name).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    fan.push(make_node("Concat", "all", all, ["all_of_them"]).with_attr(attr_int("axis", 1)));
    fan.push(make_node(
        "ReduceSum",
        "sum",
        ["all_of_them"],
        ["sum_of_all"],
    ));
    graph(&mut model).node.splice(at..at, fan);
    graph(&mut model).output.push(declare("sum_of_all", 1, &[]));
    compiles(&model);

    // As many inputs.
    let mut model = fixtures::model("sd15-ts17", "unet");
    let inputs = (0..MANY).map(|i| declare(&format!("in_{i}"), 1, &[1]));
    graph(&mut model).input.extend(inputs);
    compiles(&model);
}

/// What tract would allocate by.
#[test]
fn numbers_in_attributes_allocate_nothing() {
    for number in [1 << 40, -1] {
        for (op, attribute) in [
            ("Scan", "num_scan_inputs"),
            ("Split", "num_outputs"),
            ("Split", "axis"),
            ("DepthToSpace", "blocksize"),
            ("Conv", "group"),
            ("MaxPool", "kernel_shape"),
            ("LSTM", "hidden_size"),
            ("Multinomial", "sample_size"),
            ("TopK", "k"),
        ] {
            let mut model = fixtures::model("sd15-ts17", "unet");
            let (value, at) = middle(&mut model);
            let mut attribute = attr_int(attribute, number);
            if attribute.name() == "kernel_shape" {
                (attribute.i, attribute.ints) = (None, vec![number; 2]);
                attribute.r#type = Some(7);
            }
            let node = make_node(op, "odd", [value.as_str()], ["odd_out"]).with_attr(attribute);
            graph(&mut model).node.insert(at, node);
            let path = fixtures::fixture("sd15-ts17").join("unet/model.onnx");
            // Refused, or analysed without the shape of that node.
            let _ = Model::from_bytes(Bytes::from(model.encode_to_vec()), &path)
                .map(|m| hgc::unstable::analysis::Analysis::of(&m.proto, SIZES).map(drop));
        }
    }
}
