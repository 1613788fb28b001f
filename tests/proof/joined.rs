//! Models that join, scale and turn inside what others are given from outside.

use std::path::Path;

use hgc::unstable::analysis::inputs::InputKind;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use hgc::unstable::onnx::proto::{GraphProto, NodeProto, ValueInfoProto, type_proto};
use hgc::unstable::onnx::{attr_int, attr_ints, make_node, tensor_f32};
use hgc::unstable::plan::policy::{FasterDiffusion, Hgc, Lossless, Policy};

use crate::support::{SIZES, busy, compile, prove};
use crate::unusual::varied;

fn dims(info: &mut ValueInfoProto) -> &mut Vec<Dimension> {
    let shape = info.r#type.as_mut().and_then(|t| match &mut t.value {
        Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_mut(),
        _ => None,
    });
    &mut shape.unwrap().dim
}

fn input<'g>(graph: &'g mut GraphProto, name: &str) -> &'g mut ValueInfoProto {
    let mut inputs = graph.input.iter_mut();
    inputs.find(|i| i.name() == name).unwrap()
}

fn named(info: &ValueInfoProto, name: &str) -> ValueInfoProto {
    let mut info = info.clone();
    info.name = Some(name.to_owned());
    info
}

fn scalar(like: &ValueInfoProto, name: &str) -> ValueInfoProto {
    let mut info = named(like, name);
    dims(&mut info).clear();
    info
}

/// Puts `nodes`, which make `joined` of `name`, before all that read `name`.
fn before(graph: &mut GraphProto, name: &str, joined: &str, nodes: Vec<NodeProto>) {
    for given in graph.node.iter_mut().flat_map(|n| &mut n.input) {
        if *given == name {
            joined.clone_into(given);
        }
    }
    graph.node.splice(0..0, nodes);
}

/// The latent is three of the channels, divided by `sqrt(level^2 + 1)`; a mask is the fourth.
fn in_parts(graph: &mut GraphProto) {
    let sample = input(graph, "sample");
    let (level, mut mask) = (scalar(sample, "level"), named(sample, "mask"));
    dims(sample)[1].value = Some(dimension::Value::DimValue(3));
    dims(&mut mask)[1].value = Some(dimension::Value::DimValue(1));
    graph.input.extend([level, mask]);
    graph.initializer.push(tensor_f32("one", &[], &[1.0]));
    let nodes = vec![
        make_node("Mul", "squared", ["level", "level"], ["squared"]),
        make_node("Add", "plus_one", ["squared", "one"], ["plus_one"]),
        make_node("Sqrt", "root", ["plus_one"], ["root"]),
        make_node("Div", "scaled", ["sample", "root"], ["scaled"]),
        make_node("Concat", "whole", ["scaled", "mask"], ["whole"]).with_attr(attr_int("axis", 1)),
    ];
    before(graph, "sample", "whole", nodes);
}

/// Two sets of residuals, the second scaled.
fn twice_controlled(graph: &mut GraphProto) {
    let all = graph.input.clone();
    let residuals = all.iter().filter(|i| i.name().contains("residual"));
    let strength = scalar(&all[0], "strength");
    for info in residuals {
        let name = info.name();
        let (second, scaled, sum) = (
            format!("{name}.second"),
            format!("{name}.scaled"),
            format!("{name}.sum"),
        );
        graph.input.push(named(info, &second));
        let nodes = vec![
            make_node(
                "Mul",
                &scaled,
                [second.as_str(), "strength"],
                [scaled.as_str()],
            ),
            make_node("Add", &sum, [name, scaled.as_str()], [sum.as_str()]),
        ];
        before(graph, name, &sum, nodes);
    }
    graph.input.push(strength);
}

/// Channels of the latent come last.
fn channels_last(graph: &mut GraphProto) {
    let sample = input(graph, "sample");
    dims(sample)[1..].rotate_left(1);
    let order = attr_ints("perm", &[0, 3, 1, 2]);
    let nodes = vec![
        make_node("Identity", "same", ["sample"], ["same"]),
        make_node("Shape", "size", ["sample"], ["size"]),
        make_node("Transpose", "first", ["same"], ["first"]).with_attr(order),
    ];
    before(graph, "sample", "first", nodes);
}

fn check(change: fn(&mut GraphProto), expected: &[(InputKind, usize)]) {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = varied("sd15-ts17", folder.path(), change);
    let inputs = Inputs::read(&pipeline, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    for (kind, count) in expected {
        let found = project.analyses()[0].inputs(*kind).count();
        assert_eq!(found, *count, "{kind:?}");
    }
    assert_eq!(project.uncounted(), []);
    for policy in [&Hgc as &dyn Policy, &FasterDiffusion, &Lossless] {
        prove_all(&pipeline, policy, &folder.path().join(policy.name()));
    }
}

fn prove_all(pipeline: &Path, policy: &dyn Policy, out: &Path) {
    for (original, rewritten) in compile(pipeline, policy, &busy(4), out) {
        let verdict = prove(&original, &rewritten);
        assert!(verdict.pass, "{policy}: {verdict:#?}");
    }
}

#[test]
fn a_latent_in_parts() {
    use InputKind::{Concatenated, Latent, Residual};
    check(in_parts, &[(Latent, 1), (Concatenated, 1), (Residual, 13)]);
}

#[test]
fn residuals_of_two_controlnets() {
    use InputKind::{ControlScale, Latent, Residual};
    check(
        twice_controlled,
        &[(Latent, 1), (Residual, 26), (ControlScale, 1)],
    );
}

#[test]
fn a_latent_with_channels_last() {
    use InputKind::{Latent, Residual};
    check(channels_last, &[(Latent, 1), (Residual, 13)]);
}
