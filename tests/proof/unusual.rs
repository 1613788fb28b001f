//! What exports and callers do beyond the fixtures.

use std::path::{Path, PathBuf};

use hgc::unstable::analysis::inputs::declared_type;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::{CachedSession, EngineKind, ModelSource, SessionOptions, Tensor};
use hgc::unstable::measure::Feeds;
use hgc::unstable::onnx::proto::tensor_shape_proto::dimension;
use hgc::unstable::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};
use hgc::unstable::onnx::{
    Model, Transaction, attr_int, folder_of, make_node, tensor_f32, tensor_i64,
};
use hgc::unstable::plan::parameter::{PROMPTED, Parameters, Value};
use hgc::unstable::plan::policy::{DeepCache, FasterDiffusion, Hgc, Lossless, Policy};
use hgc::unstable::plan::{Prompted, Reuse};

use crate::fixtures::fixture;
use crate::support::{SIZES, busy, compile, engine, prove, try_prove};

/// A pipeline folder with the fixture's UNet, changed.
pub fn varied(source: &str, folder: &Path, change: impl Fn(&mut GraphProto)) -> PathBuf {
    let original = fixture(source).join("unet/model.onnx");
    let mut proto: ModelProto = Model::read(&original).unwrap().proto;
    change(proto.graph.as_mut().unwrap());
    let pipeline = folder.join("varied");
    let file = pipeline.join("unet/model.onnx");
    let mut transaction = Transaction::new(false);
    transaction
        .add_model(proto, &folder_of(&original), &file, &mut |_, _| {})
        .unwrap();
    transaction.commit().unwrap();
    pipeline
}

/// A node that nobody needs, and a chain that is needed for its shape alone, both begin in
/// the middle of what is cached.
#[test]
fn idle_nodes_are_no_obstacle() {
    let add_idle = |graph: &mut GraphProto| {
        let middle = graph.node.len() / 2;
        let convolutions = graph.node[..middle].iter().rev();
        let mut convolutions = convolutions.filter(|n| n.op_type() == "Conv");
        let inside = convolutions.next().unwrap().output[0].clone();
        let last = graph.output[0].name().to_owned();
        for node in &mut graph.node {
            for output in node.output.iter_mut().filter(|o| **o == last) {
                "before_idle".clone_into(output);
            }
        }
        graph.initializer.push(tensor_f32("idle_zero", &[], &[0.0]));
        let inside = inside.as_str();
        graph.node.extend([
            make_node("Relu", "idle", [inside], ["idle_out"]),
            make_node("Neg", "idle_2", [inside], ["idle_same"]),
            make_node("Shape", "idle_3", ["idle_same"], ["idle_shape"]),
            make_node("Cast", "idle_4", ["idle_shape"], ["idle_float"])
                .with_attr(attr_int("to", 1)),
            make_node("ReduceSum", "idle_5", ["idle_float"], ["idle_sum"])
                .with_attr(attr_int("keepdims", 0)),
            make_node("Mul", "idle_6", ["idle_sum", "idle_zero"], ["idle_none"]),
            make_node(
                "Add",
                "idle_7",
                ["before_idle", "idle_none"],
                [last.as_str()],
            ),
        ]);
    };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = varied("sd15-unet-only", folder.path(), add_idle);
    for policy in [&DeepCache as &dyn Policy, &FasterDiffusion] {
        let out = folder.path().join(policy.name());
        for (original, rewritten) in compile(&pipeline, policy, &Parameters::new(4), &out) {
            let verdict = prove(&original, &rewritten);
            assert!(verdict.pass, "{policy}: {verdict:#?}");
        }
    }
}

/// Callers of an export with a vector of timesteps feed one for all rows, or one a row.
#[test]
fn one_timestep_does_for_all_rows() {
    for prompted in [Prompted::Last, Prompted::First] {
        let folder = tempfile::tempdir().unwrap();
        let source = fixture("sd15-ts14");
        let options = busy(5).with(&PROMPTED, Value::Half(Some(prompted)));
        let files = compile(&source, &Hgc, &options, folder.path());
        let inputs = Inputs::read(&source, &[]).unwrap();
        let project = Project::new(&inputs, SIZES).unwrap();
        let analysis = &project.analyses()[0];
        let feeds = Feeds::new(analysis, 3, options.steps);
        let open = || {
            let model = ModelSource::from(&files[0].1);
            CachedSession::open(engine(), model, &SessionOptions::default()).unwrap()
        };
        let (mut each, mut one) = (open(), open());
        let mut vectors = 0;
        for step in 0..options.steps {
            let whole = feeds.step(step).unwrap();
            let single: Vec<(String, Tensor)> = whole
                .iter()
                .map(|(name, tensor)| {
                    if name != "timestep" {
                        return (name.clone(), tensor.clone());
                    }
                    vectors += usize::from(tensor.shape() == [2]);
                    let first = tensor.to_f32()[0];
                    let first = Tensor::from_f32_as(tensor.dtype(), &[1], &[first]);
                    (name.clone(), first.unwrap())
                })
                .collect();
            let run = |session: &mut CachedSession, feeds: &[(String, Tensor)]| {
                let feeds: Vec<_> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
                session.run(&feeds).unwrap()[0].1.to_f32()
            };
            let (a, b) = (run(&mut each, &whole), run(&mut one, &single));
            assert!(
                a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5),
                "{step}"
            );
        }
        assert_eq!(vectors, options.steps);
    }
}

/// A batch that is declared open but written into the graph as a number cannot be halved.
#[test]
fn a_baked_in_batch_is_found_whatever_is_declared() {
    let open = |graph: &mut GraphProto| {
        for info in graph.input.iter_mut().chain(&mut graph.output) {
            let kind = info.r#type.as_mut().and_then(|t| t.value.as_mut());
            let Some(type_proto::Value::TensorType(tensor)) = kind else {
                continue;
            };
            let dims = tensor.shape.as_mut().map(|s| &mut s.dim);
            if let Some(first) = dims.and_then(|d| d.first_mut()) {
                let name = "batch".to_owned();
                first.value = Some(dimension::Value::DimParam(name));
            }
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = varied("sd15-static", folder.path(), open);
    let inputs = Inputs::read(&pipeline, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = project.plan(&Hgc, &busy(4)).unwrap();
    let model = &planned.plan.models[0];
    assert!(!model.halves && !planned.plan.guidance.schedule.has_half());
    let told = model.refusals.iter().any(|r| r.reason.contains("batch"));
    assert!(told, "{:#?}", model.refusals);
    assert!(!model.sites.is_empty());
}

/// The nodes are those of the original again, in order.
fn strips_to(rewritten: &Path, original: &Path) {
    let strip = hgc::unstable::emit::strip(&Model::read(rewritten).unwrap().proto).unwrap();
    let before = Model::read(original).unwrap().proto;
    assert_eq!(strip.graph.unwrap().node, before.graph.unwrap().node);
}

/// Names of nodes are optional: without them the proofs see as much, and `strip` gives back
/// nodes without names.
#[test]
fn nodes_without_names_are_proved_too() {
    let unname = |graph: &mut GraphProto| {
        for (index, node) in graph.node.iter_mut().enumerate() {
            node.name = (index % 3 == 0).then(String::new);
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = varied("sd15-unet-only", folder.path(), unname);
    let out = folder.path().join("out");
    for (original, rewritten) in compile(&pipeline, &Hgc, &busy(4), &out) {
        let verdict = prove(&original, &rewritten);
        assert!(verdict.pass, "{verdict:#?}");
        strips_to(&rewritten, &original);
        // A profile of a model that lost its gate must not pass for want of names.
        let mut broken = Model::read(&rewritten).unwrap().proto;
        for table in &mut broken.graph.as_mut().unwrap().initializer {
            if table.name() == "hgc.refresh.deep.table" {
                let all = vec![1; table.raw_data.as_ref().map_or(0, |d| d.len())];
                table.raw_data = Some(all.into());
            }
        }
        let file = rewritten.with_file_name("broken.onnx");
        let mut transaction = Transaction::new(false);
        let source = folder_of(&rewritten);
        transaction
            .add_model(broken, &source, &file, &mut |_, _| {})
            .unwrap();
        transaction.commit().unwrap();
        let verdict = prove(&original, &file);
        let executed = verdict.checks.iter().find(|c| c.name == "executed");
        assert!(executed.is_none_or(|c| !c.pass), "{verdict:#?}");
    }
}

/// Runtimes take nodes in any order, and some converters append nodes that earlier ones read.
#[test]
fn nodes_out_of_order_are_proved_too() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = varied("sd15-unet-only", folder.path(), |g| g.node.reverse());
    let out = folder.path().join("out");
    for (original, rewritten) in compile(&pipeline, &Hgc, &busy(4), &out) {
        let verdict = prove(&original, &rewritten);
        assert!(verdict.pass, "{verdict:#?}");
        strips_to(&rewritten, &original);
    }
}

/// Exporters compute the sizes of all reshapes once, beside the first convolution: where it is
/// cached, its region has to compute them.
#[test]
fn sizes_that_a_region_shares_are_cached_with_it() {
    let share = |graph: &mut GraphProto| {
        let is_conv = |n: &&NodeProto| n.op_type() == "Conv";
        let stem = graph.node.iter().find(is_conv).unwrap().output[0].clone();
        let inner = graph.node.iter().filter(is_conv).nth(1).unwrap();
        let outer = graph.node.iter().rfind(is_conv).unwrap();
        let shaped = [inner.input[0].clone(), outer.input[0].clone()];
        for (i, value) in shaped.iter().enumerate() {
            for node in graph.node.iter_mut().filter(|n| n.op_type() == "Conv") {
                for input in node.input.iter_mut().filter(|i| *i == value) {
                    *input = format!("shared_{i}");
                }
            }
            graph.node.push(make_node(
                "Reshape",
                &format!("shared_{i}"),
                [value.as_str(), "shared_sizes"],
                [format!("shared_{i}")],
            ));
        }
        graph
            .initializer
            .push(tensor_i64("shared_ones", &[4], &[1; 4]));
        let ones = ["shared_shape", "shared_ones"];
        graph.node.extend([
            make_node("Shape", "shared_2", [stem.as_str()], ["shared_shape"]),
            make_node("Mul", "shared_3", ones, ["shared_sizes"]),
        ]);
    };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = varied("sd15-unet-only", folder.path(), share);
    let out = folder.path().join("out");
    let options = Parameters::new(4);
    for (original, rewritten) in compile(&pipeline, &FasterDiffusion, &options, &out) {
        let verdict = prove(&original, &rewritten);
        assert!(verdict.pass, "{verdict:#?}");
        let graph = Model::read(&rewritten).unwrap().proto.graph.unwrap();
        let mut caches = graph
            .input
            .iter()
            .filter(|i| i.name().starts_with("hgc.past."));
        let sized = |i: &&ValueInfoProto| declared_type(i) == 7;
        assert!(caches.any(|i| sized(&i)), "no cache of sizes");
    }
}

/// What shape inference cannot see has no MACs, in the plan or in the profile.
#[test]
fn nodes_of_unknown_shape_are_proved_too() {
    let veil = |graph: &mut GraphProto| {
        let first = graph.node.iter().position(|n| n.op_type() == "Conv");
        let first = first.unwrap();
        let made = std::mem::replace(&mut graph.node[first].output[0], "bare".to_owned());
        graph.initializer.push(tensor_i64("veil_first", &[], &[0]));
        let list = make_node("SequenceConstruct", "veil", ["bare"], ["veil_list"]);
        let items = ["veil_list", "veil_first"];
        let item = make_node("SequenceAt", "veil_2", items, [made.as_str()]);
        graph.node.splice(first + 1..=first, [list, item]);
    };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = varied("sd15-unet-only", folder.path(), veil);
    let out = folder.path().join("out");
    for (original, rewritten) in compile(&pipeline, &Lossless, &Parameters::new(3), &out) {
        if engine().kind() == EngineKind::Embedded {
            let error = try_prove(&original, &rewritten).unwrap_err().to_string();
            assert!(error.contains("SequenceAt"), "{error}");
            continue;
        }
        let verdict = prove(&original, &rewritten);
        assert!(verdict.pass, "{verdict:#?}");
        let executed = verdict.checks.iter().find(|c| c.name == "executed");
        let told = executed.is_none_or(|c| c.detail.contains("unknown shape"));
        assert!(told, "{verdict:#?}");
    }
}

/// A plan may forecast the guidance difference, which no policy does.
#[test]
fn a_forecast_of_guidance_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("sd15-unet-only");
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let mut plan = project.plan(&Hgc, &busy(6)).unwrap().plan;
    plan.guidance.reuse = Reuse::Linear;
    let planned = project.adopt(plan).unwrap();
    project
        .compile(&planned)
        .unwrap()
        .write(folder.path(), false, &mut |_, _| {})
        .unwrap();
    let part = Path::new("unet/model.onnx");
    let verdict = prove(&source.join(part), &folder.path().join(part));
    assert!(verdict.pass, "{verdict:#?}");
}
