//! Rewrites that are wrong on purpose must be caught.

use hgc::unstable::engine::EngineKind;
use hgc::unstable::measure::verify::Verdict;
use hgc::unstable::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use hgc::unstable::onnx::{Model, tensor_i64};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::{DeepCache, Hgc, Point, Policy, TGate};

use crate::fixtures::fixture;
use crate::support::{compile, engine, prove, store, try_prove};

fn branch<'n>(node: &'n mut NodeProto, name: &str) -> &'n mut GraphProto {
    let attribute = node.attribute.iter_mut().find(|a| a.name() == name);
    attribute.and_then(|a| a.g.as_mut()).unwrap()
}

fn site<'g>(graph: &'g mut GraphProto, name: &str) -> &'g mut NodeProto {
    graph.node.iter_mut().find(|n| n.name() == name).unwrap()
}

/// Makes the evaluation `step` of a schedule for `steps` another kind; -1 is the forced refresh.
fn set_kind(model: &mut ModelProto, (step, steps): (i64, usize), kind: i64) {
    let initializers = &mut model.graph.as_mut().unwrap().initializer;
    let named = |t: &&mut TensorProto| t.name() == "hgc.schedule";
    let table = initializers.iter_mut().find(named).unwrap();
    let mut rows = table.to_i64s().unwrap();
    // Kinds that are named come first, the last of them first.
    let kinds = i64::try_from(rows.len() - steps).unwrap();
    rows[usize::try_from(kinds + step).unwrap()] = kind;
    *table = tensor_i64("hgc.schedule", &[i64::try_from(rows.len()).unwrap()], &rows);
}

/// Compiles the fixture's UNet, breaks it, and verifies the result.
fn verify_broken(policy: &dyn Policy, break_it: impl Fn(&mut ModelProto)) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("sd15-unet-only");
    // The cut is where a level begins, so that the region begins with a convolution.
    let told =
        "hgc:lambda-inter=0.5,lambda-intra=0.5,lambda-guidance=0.9,gate-step=5,reuse=linear,cut=3";
    let options = Point::one(told, &Parameters::new(6)).unwrap().parameters;
    let files = compile(&source, policy, &options, folder.path());
    let (original, rewritten) = &files[0];
    assert!(
        prove(original, rewritten).pass,
        "the unbroken rewrite must pass"
    );
    let mut proto = Model::read(rewritten).unwrap().proto;
    break_it(&mut proto);
    let broken = rewritten.with_file_name("broken.onnx");
    store(proto, rewritten, &broken);
    prove(original, &broken)
}

fn fails(verdict: &Verdict, check: &str) {
    let found = verdict.checks.iter().find(|c| c.name == check).unwrap();
    assert!(!found.pass, "{check} passed a broken rewrite: {verdict:#?}");
    assert!(!verdict.pass);
}

/// What ran is known from a profile, which only ONNX Runtime keeps; elsewhere nothing is
/// claimed of it.
fn ran_too_much(verdict: &Verdict) {
    if engine().kind() == EngineKind::Embedded {
        assert_eq!(verdict.executed, None);
        return;
    }
    fails(verdict, "executed");
}

/// Two sites read each other's caches: right shapes, wrong values.
#[test]
fn wrong_value_captured() {
    let verdict = verify_broken(&TGate, |model| {
        let graph = model.graph.as_mut().unwrap();
        let names = ["cross.up.3.transformer.0-0", "cross.up.3.transformer.1-0"];
        for (own, other) in [(names[0], names[1]), (names[1], names[0])] {
            let node = site(graph, &format!("hgc.site.{own}"));
            for inner in &mut branch(node, "else_branch").node {
                for input in &mut inner.input {
                    if *input == format!("hgc.past.{own}") {
                        *input = format!("hgc.past.{other}");
                    }
                }
            }
        }
    });
    fails(&verdict, "generation");
}

/// A node of the region stands outside of the branch: same results, but it runs on
/// every step.
#[test]
fn region_one_node_short() {
    let verdict = verify_broken(&DeepCache, |model| {
        let graph = model.graph.as_mut().unwrap();
        let position = graph
            .node
            .iter()
            .position(|n| n.name() == "hgc.site.deep")
            .unwrap();
        let inside = branch(&mut graph.node[position], "then_branch");
        let made: Vec<String> = inside.node.iter().flat_map(|n| n.output.clone()).collect();
        let first = inside
            .node
            .iter()
            .position(|n| n.op_type() == "Conv" && n.input.iter().all(|i| !made.contains(i)));
        let node = inside.node.remove(first.unwrap());
        let (weights, rest) = std::mem::take(&mut inside.initializer)
            .into_iter()
            .partition(|t| node.input.iter().any(|i| i == t.name()));
        inside.initializer = rest;
        graph.initializer.extend::<Vec<_>>(weights);
        graph.node.insert(position, node);
    });
    ran_too_much(&verdict);
}

/// The slope is not renewed at a refresh.
#[test]
fn stale_slope() {
    let verdict = verify_broken(&Hgc, |model| {
        let graph = model.graph.as_mut().unwrap();
        let refresh = branch(site(graph, "hgc.site.deep"), "then_branch");
        let slope = refresh
            .node
            .iter_mut()
            .find(|n| n.name() == "hgc.slope.deep.if")
            .unwrap();
        let again = branch(slope, "else_branch");
        let last = again
            .node
            .iter_mut()
            .find(|n| n.op_type() == "Div")
            .unwrap();
        last.op_type = Some("Identity".to_owned());
        last.input = vec!["hgc.past.deep.slope".to_owned()];
    });
    fails(&verdict, "generation");
}

/// A refresh that keeps its old value instead of the new one.
#[test]
fn cache_not_renewed() {
    let verdict = verify_broken(&DeepCache, |model| {
        // The schedule says reuse where the plan says refresh.
        set_kind(model, (3, 6), 1);
    });
    ran_too_much(&verdict);
    fails(&verdict, "generation");
}

/// A forced refresh that reads the cache: on the inputs of the step before nobody would see.
#[test]
fn forced_refresh_reads_the_cache() {
    let verdict = verify_broken(&DeepCache, |model| {
        set_kind(model, (-1, 6), 1);
    });
    fails(&verdict, "refresh");
}

/// A capture of the wrong shape: the engine refuses to run it, which proves nothing good.
#[test]
fn a_rewrite_that_does_not_run() {
    let verdict = verify_broken(&DeepCache, |model| {
        let text = model.graph.as_ref().unwrap().input[2].name().to_owned();
        let node = site(model.graph.as_mut().unwrap(), "hgc.site.deep");
        for inner in &mut branch(node, "else_branch").node {
            inner.input = vec![text.clone()];
        }
    });
    fails(&verdict, "run");
    assert!(verdict.max_abs_diff.is_infinite());
}

/// Outputs that are not finite leave nothing to compare; any difference would be allowed.
#[test]
fn infinite_outputs_prove_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("sd15-unet-only").join("unet/model.onnx");
    let mut proto = Model::read(&source).unwrap().proto;
    let graph = proto.graph.as_mut().unwrap();
    let output = graph.output[0].name().to_owned();
    let last = graph
        .node
        .iter_mut()
        .find(|n| n.output[0] == output)
        .unwrap();
    last.output[0] = "finite".to_owned();
    let zero = hgc::unstable::onnx::proto::TensorProto {
        name: Some("zero".to_owned()),
        data_type: Some(1),
        float_data: vec![0.0],
        ..Default::default()
    };
    graph.initializer.push(zero);
    graph.node.push(NodeProto {
        name: Some("infinite".to_owned()),
        op_type: Some("Div".to_owned()),
        input: vec!["finite".to_owned(), "zero".to_owned()],
        output: vec![output],
        ..NodeProto::default()
    });
    let original = folder.path().join("unet/model.onnx");
    std::fs::create_dir(original.parent().unwrap()).unwrap();
    store(proto, &source, &original);
    let out = folder.path().join("out");
    let files = compile(folder.path(), &DeepCache, &Parameters::new(4), &out);
    let error = try_prove(&files[0].0, &files[0].1).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}
