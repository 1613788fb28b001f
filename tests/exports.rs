//! Exports as people have them, made from the fixtures: other element types, quantised,
//! with adapters, with names that tell nothing. And graphs that mean no good.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/wrap.rs"]
mod wrap;

use std::collections::HashSet;

use hgc::unstable::analysis::attention::AttentionKind;
use hgc::unstable::analysis::inputs::InputKind;
use hgc::unstable::analysis::shapes::{Sizes, declare};
use hgc::unstable::analysis::{Analysis, Role};
use hgc::unstable::graph::NodeId;
use hgc::unstable::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use hgc::unstable::onnx::proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto, type_proto,
};
use hgc::unstable::onnx::{attr_int, attr_ints, make_node, tensor_f32, tensor_i64};

const SIZES: Sizes = Sizes {
    batch: 2,
    height: 16,
    width: 16,
    tokens: 77,
};
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;
const FLOAT8: i32 = 17;

fn analyse(model: &ModelProto) -> Analysis<'_> {
    Analysis::of(model, SIZES).expect("an analysis")
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.get_or_insert_default()
}

/// Role, cross-attentions, MACs, and how much is not known.
fn summary(model: &ModelProto) -> (Role, usize, u64, usize, usize) {
    let analysis = analyse(model);
    let crossed =
        |a: &&hgc::unstable::analysis::attention::Attention| a.kind == AttentionKind::Cross;
    (
        analysis.role,
        analysis.attention.iter().filter(crossed).count(),
        analysis.macs_of(analysis.graph.nodes(), 2).all,
        analysis.shapes.unknown.len(),
        analysis.uncounted().len(),
    )
}

fn types(info: &mut ValueInfoProto) -> Option<&mut type_proto::Tensor> {
    match info.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

#[test]
fn bfloat16_is_half_precision_of_another_kind() {
    for part in ["unet", "controlnet"] {
        let half = fixtures::model("sd15-fp16", part);
        let mut model = half.clone();
        let inner = graph(&mut model);
        let becomes = |t: &mut Option<i32>| {
            if *t == Some(FLOAT16) {
                *t = Some(BFLOAT16);
            }
        };
        for tensor in &mut inner.initializer {
            becomes(&mut tensor.data_type);
        }
        for info in inner.input.iter_mut().chain(&mut inner.output) {
            if let Some(tensor) = types(info) {
                becomes(&mut tensor.elem_type);
            }
        }
        for attribute in inner.node.iter_mut().flat_map(|n| &mut n.attribute) {
            if attribute.name() == "to" && attribute.i == Some(i64::from(FLOAT16)) {
                attribute.i = Some(i64::from(BFLOAT16));
            }
            if let Some(tensor) = &mut attribute.t {
                becomes(&mut tensor.data_type);
            }
        }
        assert_eq!(summary(&model), summary(&half), "{part}");
        // The type is told as it is: caches are declared in it.
        let analysis = analyse(&model);
        let output = analysis.graph.outputs()[0];
        let shape = analysis.shapes.get(output).expect("a shape");
        assert_eq!(shape.elem_type, BFLOAT16);
    }
}

#[test]
fn a_weight_of_a_type_that_inference_lacks_is_a_weight() {
    let plain = fixtures::model("sd15-ts17", "unet");
    let mut model = plain.clone();
    graph(&mut model).initializer.push(TensorProto {
        name: Some("unused".to_owned()),
        data_type: Some(FLOAT8),
        dims: vec![4],
        raw_data: Some(vec![0; 4].into()),
        ..TensorProto::default()
    });
    assert_eq!(summary(&model), summary(&plain));
}

/// Exporters that name every open size `?`, or do not name them.
#[test]
fn names_of_sizes_tell_nothing_where_all_are_alike() {
    for part in ["unet", "controlnet"] {
        let plain = fixtures::model("sd15-ts17", part);
        for name in [Some("?"), Some(""), None] {
            let mut model = plain.clone();
            let infos = &mut graph(&mut model).input;
            for dim in infos
                .iter_mut()
                .filter_map(types)
                .flat_map(|t| &mut t.shape.get_or_insert_default().dim)
            {
                if matches!(dim.value, Some(DimValue::DimParam(_))) {
                    dim.value = name.map(|n| DimValue::DimParam(n.to_owned()));
                }
            }
            assert_eq!(summary(&model), summary(&plain), "{part} {name:?}");
        }
    }
}

/// Operands of convolutions and matrix products through `QuantizeLinear` and
/// `DequantizeLinear`, as the runtime's static quantisation writes them.
fn quantised(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    let inner = graph(&mut model);
    inner.initializer.push(tensor_f32("q.scale", &[], &[0.1]));
    inner.initializer.push(TensorProto {
        name: Some("q.zero".to_owned()),
        data_type: Some(3),
        raw_data: Some(vec![0].into()),
        ..TensorProto::default()
    });
    let mut nodes = Vec::new();
    for (i, mut node) in std::mem::take(&mut inner.node).into_iter().enumerate() {
        if matches!(node.op_type(), "Conv" | "MatMul" | "Gemm") {
            for (j, input) in node.input.iter_mut().take(2).enumerate() {
                let name = |what: &str| format!("q.{i}.{j}.{what}");
                let (small, back) = (name("small"), name("back"));
                let parts = |value: &str| [value, "q.scale", "q.zero"].map(str::to_owned);
                let quantise = |op: &str, value: &str, out: &str| {
                    make_node(op, out, parts(value), [out.to_owned()])
                };
                nodes.push(quantise("QuantizeLinear", input, &small));
                nodes.push(quantise("DequantizeLinear", &small, &back));
                *input = back;
            }
        }
        nodes.push(node);
    }
    inner.node = nodes;
    model
}

#[test]
fn quantised_exports_are_what_they_were() {
    for part in ["unet", "controlnet"] {
        let plain = fixtures::model("sd15-ts17", part);
        let model = quantised(&plain);
        assert_eq!(summary(&model), summary(&plain), "{part}");
        let (was, is) = (analyse(&plain), analyse(&model));
        assert_eq!(is.skips.len(), was.skips.len());
        assert_eq!(is.kinds, was.kinds);
    }
}

/// A T2I-Adapter adds to the encoder itself: that is no residual of a ControlNet.
#[test]
fn adapters_are_told_from_controlnets() {
    let plain = fixtures::model("sd15-ts17", "unet");
    let before = analyse(&plain);
    let source = before.skips[2].source;
    let name = before.graph.name(source).to_owned();
    let shape = before.shapes.get(source).expect("a shape");
    let dim = |n: i64| Dimension {
        value: Some(DimValue::DimValue(n)),
        ..Dimension::default()
    };
    let mut dims: Vec<Dimension> = shape.dims.iter().map(|d| dim(d.fixed)).collect();
    dims[0].value = Some(DimValue::DimParam("batch".to_owned()));
    let residuals = before.inputs(InputKind::Residual).count();

    let mut model = plain.clone();
    let inner = graph(&mut model);
    let place = inner
        .node
        .iter()
        .position(|n| n.output.contains(&name))
        .expect("a producer");
    for input in inner.node.iter_mut().flat_map(|n| &mut n.input) {
        if *input == name {
            "adapted".clone_into(input);
        }
    }
    let add = make_node("Add", "adapt", [name.as_str(), "adapter"], ["adapted"]);
    inner.node.insert(place + 1, add);
    inner
        .input
        .push(declare("adapter", 1, TensorShapeProto { dim: dims }));
    let analysis = analyse(&model);
    assert_eq!(analysis.role, Role::Unet);
    assert_eq!(analysis.kinds.last(), Some(&InputKind::Other));
    assert_eq!(analysis.inputs(InputKind::Residual).count(), residuals);
}

/// Some exports take sizes of the encoder from the residuals.
#[test]
fn residuals_of_every_fixture_are_a_controlnets() {
    for (name, part) in fixtures::names() {
        let controlled = fixtures::names().contains(&(name.clone(), "controlnet".to_owned()));
        if part != "unet" || !controlled {
            continue;
        }
        let (unet, control) = (
            fixtures::model(&name, "unet"),
            fixtures::model(&name, "controlnet"),
        );
        let taken = analyse(&unet).inputs(InputKind::Residual).count();
        let given = control.graph.map_or(0, |g| g.output.len());
        assert_eq!(taken, given, "{name}");
    }
}

/// Query, key and value in one tensor of five dimensions, as the runtime's optimiser packs
/// them for GPUs.
#[test]
fn packed_attention_is_counted() {
    let float = |name: &str, dims: &[i64]| {
        let dim = |n: &i64| Dimension {
            value: Some(DimValue::DimValue(*n)),
            ..Dimension::default()
        };
        let shape = TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        };
        declare(name, 1, shape)
    };
    let attention = |inputs: &[&str]| {
        let inputs = inputs.iter().map(|i| (*i).to_owned());
        let mut node = make_node("MultiHeadAttention", "a", inputs, ["y".to_owned()]);
        node.domain = Some("com.microsoft".to_owned());
        node.attribute.push(attr_int("num_heads", 4));
        node
    };
    // 2 rows, 16 tokens that see 16 or 7, 4 heads of 8.
    for (inputs, names, keys) in [
        (vec![float("x", &[2, 16, 4, 3, 8])], vec!["x"], 16),
        (
            vec![float("q", &[2, 16, 32]), float("kv", &[2, 7, 4, 2, 8])],
            vec!["q", "kv"],
            7,
        ),
    ] {
        let mut model = small(vec![attention(&names)], Vec::new());
        graph(&mut model).input = inputs;
        let analysis = analyse(&model);
        let macs = analysis.macs_of(analysis.graph.nodes(), 2);
        assert_eq!(macs.all, 2 * 16 * keys * 2 * 32, "{names:?}");
        assert_eq!(analysis.uncounted(), []);
    }
}

/// The merged fixture with its ControlNet twice, as diffusers merges two: both see the same
/// image here, and their residuals are added to each other first.
fn with_second_control() -> ModelProto {
    let plain = fixtures::model("sd15-merged", "unet");
    let analysis = analyse(&plain);
    let control: Vec<_> = analysis.control.iter().map(NodeId::new).collect();
    let made: HashSet<String> = control
        .iter()
        .flat_map(|n| analysis.graph.outputs_of(*n))
        .map(|v| analysis.graph.name(*v).to_owned())
        .collect();
    let again = |name: &String| match made.contains(name) {
        true => format!("second.{name}"),
        false => name.clone(),
    };
    let given: HashSet<String> = analysis
        .skips
        .iter()
        .flat_map(|s| &s.residuals)
        .chain(&analysis.mid_residuals)
        .map(|v| analysis.graph.name(*v).to_owned())
        .filter(|name| made.contains(name))
        .collect();
    assert_eq!(given.len(), 13);
    let mut model = plain.clone();
    let inner = graph(&mut model);
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut inner.node) {
        let is_control = node.output.iter().any(|o| made.contains(o));
        if !is_control {
            let mut node = node;
            for input in &mut node.input {
                if given.contains(input) {
                    *input = format!("both.{input}");
                }
            }
            nodes.push(node);
            continue;
        }
        let mut second = node.clone();
        second.name = Some(format!("second.{}", node.name()));
        second.input = node.input.iter().map(&again).collect();
        second.output = node.output.iter().map(&again).collect();
        let sums: Vec<NodeProto> = node
            .output
            .iter()
            .filter(|o| given.contains(*o))
            .map(|o| {
                let both = [o.clone(), again(o)];
                make_node("Add", &format!("both.{o}"), both, [format!("both.{o}")])
            })
            .collect();
        nodes.extend([node, second]);
        nodes.extend(sums);
    }
    inner.node = nodes;
    model
}

#[test]
fn two_merged_controlnets_keep_their_blocks() {
    let plain = fixtures::model("sd15-merged", "unet");
    let (one, model) = (analyse(&plain), with_second_control());
    let two = analyse(&model);
    assert_eq!(two.role, Role::Merged);
    let blocks = |analysis: &Analysis<'_>, prefix: &str| -> Vec<(String, u64)> {
        let own = analysis.blocks.iter().filter_map(|b| {
            let id = b.id.strip_prefix(prefix)?;
            let macs = analysis.macs_of(b.nodes.iter().copied(), 2);
            (!matches!(id, "hint" | "residuals")).then(|| (id.to_owned(), macs.all))
        });
        own.collect()
    };
    let expected = blocks(&one, "control.");
    assert!(expected.len() > 8, "{expected:?}");
    assert_eq!(blocks(&two, "control."), expected);
    assert_eq!(blocks(&two, "control_1."), expected);
}

/// A model of a few nodes whose last output is `y`.
fn small(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let output = ValueInfoProto {
        name: Some("y".to_owned()),
        ..declare("y", 1, TensorShapeProto::default())
    };
    wrap::wrap(GraphProto {
        name: Some("small".to_owned()),
        node,
        initializer,
        output: vec![output],
        ..GraphProto::default()
    })
}

/// A few bytes that ask for all memory, or for what cannot be: an analysis without shapes,
/// never a panic.
#[test]
fn constants_that_grow_are_left_uncomputed() {
    let huge = tensor_i64("s", &[2], &[1 << 20, 1 << 20]);
    let one = tensor_f32("v", &[1], &[1.0]);
    let scalar = |name: &str, n: i64| tensor_i64(name, &[], &[n]);
    let node = |op: &str, inputs: &[&str]| make_node(op, "n", inputs.to_vec(), ["y"]);
    let cases: Vec<(NodeProto, Vec<TensorProto>)> = vec![
        (node("ConstantOfShape", &["s"]), vec![huge.clone()]),
        (node("Expand", &["v", "s"]), vec![one.clone(), huge.clone()]),
        (
            node("Tile", &["m", "s"]),
            vec![tensor_f32("m", &[1, 1], &[1.0]), huge.clone()],
        ),
        (
            node("Range", &["a", "b", "c"]),
            vec![scalar("a", 0), scalar("b", 1 << 40), scalar("c", 1)],
        ),
        (
            node("Range", &["a", "b", "c"]),
            vec![scalar("a", 0), scalar("b", 5), scalar("c", 0)],
        ),
        (
            node("OneHot", &["a", "d", "e"]),
            vec![
                tensor_i64("a", &[2], &[0, 1]),
                scalar("d", 1 << 40),
                tensor_f32("e", &[2], &[0.0, 1.0]),
            ],
        ),
        (
            node("Pad", &["v", "p"]),
            vec![one.clone(), tensor_i64("p", &[2], &[1 << 45, 1 << 45])],
        ),
        (
            node("Transpose", &["m"]).with_attr(attr_ints("perm", &[7, 0])),
            vec![tensor_f32("m", &[1, 1], &[1.0])],
        ),
        (
            node("Gather", &["v", "i"]),
            vec![one.clone(), tensor_i64("i", &[1], &[99])],
        ),
        (node("Flatten", &[]), Vec::new()),
        (
            node("Reshape", &["v", "s"]),
            vec![one, tensor_i64("s", &[2], &[-1, -1])],
        ),
        (
            node("Split", &["s"]).with_attr(attr_int("axis", i64::MIN)),
            vec![huge],
        ),
    ];
    for (node, initializers) in cases {
        let what = format!("{} {:?}", node.op_type(), node.input);
        let model = small(vec![node], initializers);
        let analysis = analyse(&model);
        assert_eq!(analysis.role, Role::Other, "{what}");
    }
}

/// Those that stay small are computed: sizes may follow from them.
#[test]
fn constants_that_stay_small_are_computed() {
    let pads = tensor_i64("p", &[2], &[1, 2]);
    let node = make_node("Pad", "n", ["v", "p"], ["y"]);
    let model = small(vec![node], vec![tensor_f32("v", &[1], &[1.0]), pads]);
    let analysis = analyse(&model);
    let shape = analysis.shapes.get(analysis.graph.outputs()[0]);
    assert_eq!(shape.map(ToString::to_string).as_deref(), Some("4"));
}
