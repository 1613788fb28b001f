//! Every fixture under every policy.

use hgc::unstable::analysis::Analysis;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::emit;
use hgc::unstable::engine::{Dim, EngineKind, Session as RawSession, SessionOptions, Tensor};
use hgc::unstable::measure::Feeds;
use hgc::unstable::measure::verify::borrowed;
use hgc::unstable::onnx::Model;
use hgc::unstable::plan::parameter::{LAMBDA_INTER, Parameters};
use hgc::unstable::plan::policy::{self, DeepCache, Hgc, Point, Policy, TGate, unhalved};
use hgc::unstable::plan::{Reuse, Rows};

use crate::fixtures::fixture;
use crate::support::{SIZES, busy, compile, compile_with, engine, prove, try_prove};

fn options() -> Parameters {
    Parameters::new(6)
}

/// Fixtures with fused operators that the embedded engine lacks.
const NEED_ONNX_RUNTIME: [&str; 2] = ["sd15-ort-extended", "sd15-ort-mha"];

/// fp32 results are bit-identical where values are held and guidance is full.
fn check(name: &str, half_precision: bool, policies: &[&dyn Policy], options: &Parameters) {
    let source = fixture(name);
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let whole_batch = unhalved(&project.analyses()[0], options).is_some();
    let refused = engine().kind() == EngineKind::Embedded && NEED_ONNX_RUNTIME.contains(&name);
    for &policy in policies {
        let folder = tempfile::tempdir().unwrap();
        let files = compile_with(&source, &inputs, &project, policy, options, folder.path());
        let planned = project.plan(policy, options).unwrap().plan;
        for ((original, rewritten), model) in files.into_iter().zip(&planned.models) {
            if refused {
                let error = try_prove(&original, &rewritten).unwrap_err().to_string();
                assert!(error.contains("com.microsoft."), "{name}: {error}");
                continue;
            }
            let verdict = prove(&original, &rewritten);
            assert!(verdict.pass, "{name} {policy}: {verdict:#?}");
            if half_precision || engine().kind() == EngineKind::Embedded {
                continue;
            }
            assert_eq!(verdict.refresh_bitwise, Some(true), "{name} {policy}");
            // Fused and held guidance, and forecasts, are compared within a tolerance.
            let held = !policy.wants_halves() || whole_batch;
            let held = held && model.sites.iter().all(|s| s.reuse == Reuse::Hold);
            assert_eq!(
                verdict.reuse_bitwise,
                held.then_some(true),
                "{name} {policy}"
            );
        }
    }
}

macro_rules! proofs {
    ($($test:ident: $fixture:literal, $half:literal;)*) => {
        $(mod $test {
            use super::*;

            #[test]
            fn by_default() {
                check($fixture, $half, &[&Hgc], &busy(6));
            }

            #[test]
            fn otherwise() {
                let others = policy::ALL.iter().copied().filter(|p| p.name() != Hgc.name());
                check($fixture, $half, &others.collect::<Vec<_>>(), &options());
            }
        })*
    };
}

proofs! {
    sd15_torchscript_14: "sd15-ts14", false;
    sd15_torchscript_17: "sd15-ts17", false;
    sd15_fp16: "sd15-fp16", true;
    sd15_dynamo_18: "sd15-dynamo18", false;
    sd15_dynamo_23: "sd15-dynamo23", false;
    sd15_without_controlnet: "sd15-unet-only", false;
    sd15_merged: "sd15-merged", false;
    sd15_two_controlnets: "sd15-two-controlnets", false;
    sd15_lcm: "sd15-lcm", false;
    sd15_static_batch: "sd15-static-batch", false;
    sd15_static: "sd15-static", false;
    sd15_onnxslim: "sd15-onnxslim", false;
    sd15_runtime_optimised: "sd15-ort-extended", false;
    sd15_multi_head_attention: "sd15-ort-mha", false;
    sd15_renamed: "sd15-renamed", false;
    sd21: "sd21-ts17", false;
    sdxl: "sdxl-ts17", false;
    inpaint: "inpaint-ts17", false;
    distilled: "distilled-ts17", false;
}

/// The defaults, on enough steps for some to be reused.
#[test]
fn hgc_at_its_defaults() {
    check("sd15-ts17", false, &[&Hgc], &Parameters::new(10));
}

/// The operators of this fixture run on a GPU only; what does not need running is
/// proved: it compiles, is a valid graph, and strips to the original.
#[test]
fn gpu_operators_compile_and_strip() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::read(&fixture("sd15-ort-gpu"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    for policy in [&DeepCache as &dyn Policy, &TGate, &Hgc] {
        let planned = project.plan(policy, &Parameters::new(20)).unwrap();
        for model in &planned.plan.models {
            assert_eq!(model.refusals, [], "{policy} {}", model.name);
        }
        let out = folder.path().join(policy.name());
        for (original, rewritten) in compile(&fixture("sd15-ort-gpu"), policy, &options(), &out) {
            let (original, rewritten) = (
                Model::read(&original).unwrap(),
                Model::read(&rewritten).unwrap(),
            );
            let stripped = emit::strip(&rewritten.proto).unwrap();
            assert_eq!(
                stripped.graph.unwrap().node,
                original.proto.graph.unwrap().node
            );
        }
    }
}

/// Parameters of `hgc`, spelled as users do.
fn told_to_hgc(text: &str, steps: usize) -> Parameters {
    let mut base = busy(steps);
    if text.contains("key-steps") {
        base.unset(&LAMBDA_INTER);
    }
    let point = Point::one(&format!("hgc:{text}"), &base);
    point.unwrap().parameters
}

/// Control that switches off mid-generation, the other order of halves, no gate step, given
/// refresh steps, a refresh of half the batch, none of it, a sparser ControlNet, forecasts: each
/// changes what the graph must do.
#[test]
fn options_of_hgc() {
    let variants: [(&str, usize, &str); 11] = [
        (
            "control",
            6,
            "control-start=0.25,control-end=0.7,reuse=linear",
        ),
        ("first", 6, "prompted=first"),
        ("no gate", 6, "gate-step=6"),
        ("given", 6, "key-steps=0+3+4"),
        ("half", 8, "lambda-inter=0.6,lambda-guidance=0.5"),
        ("whole", 6, "whole-batch=true,reuse=hold"),
        ("whole damped", 6, "whole-batch=true"),
        ("early", 8, "solver=multistep,lambda-inter=0.6"),
        ("interval", 6, "control-interval=2,lambda-inter=0.6"),
        ("linear", 8, "lambda-inter=0.5,reuse=linear"),
        // A whole-batch refresh of a cross-attention follows one that ran half.
        (
            "slopes",
            8,
            "gate-step=8,reuse=linear,lambda-inter=0.7,lambda-guidance=0.6",
        ),
    ];
    for (name, steps, told) in variants {
        for source in ["sd15-ts17", "sd15-merged"] {
            let folder = tempfile::tempdir().unwrap();
            let options = told_to_hgc(told, steps);
            let files = compile(&fixture(source), &Hgc, &options, folder.path());
            for (original, rewritten) in files {
                let verdict = prove(&original, &rewritten);
                assert!(verdict.pass, "{source} {name}: {verdict:#?}");
                let bits = name == "whole" && engine().kind() == EngineKind::OnnxRuntime;
                assert!(
                    !bits || verdict.reuse_bitwise == Some(true),
                    "{source} {name}"
                );
            }
        }
    }
}

/// A slope of a whole batch is never taken from a refresh that ran half of it, and no site is
/// lost to that: for many steps, shares and gates.
#[test]
fn slopes_are_of_the_same_rows() {
    let fixture = fixture("sd15-ts17");
    let inputs = Inputs::read(&fixture, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let (mut restarts, mut slopes) = (0, 0);
    for steps in [2, 5, 8, 12, 18, 20, 30] {
        for inter in [0.1, 0.3, 0.4, 0.65, 1.0] {
            for (intra, gate) in [
                (0.3, None),
                (0.5, None),
                (0.5, Some(steps / 2)),
                (1.0, None),
            ] {
                let gate = gate.map_or_else(String::new, |g| format!(",gate-step={g}"));
                let text = format!("lambda-inter={inter},lambda-intra={intra},reuse=linear{gate}");
                let options = told_to_hgc(&text, steps);
                let planned = project.plan(&Hgc, &options).unwrap();
                let guidance = &planned.plan.guidance.schedule;
                for model in &planned.plan.models {
                    for site in model.sites.iter().filter(|s| s.rows == Rows::All) {
                        let schedule = &model.gate(&site.gate).unwrap().schedule;
                        for step in schedule.refresh_steps() {
                            let Some(gap) = schedule.gap(step) else {
                                continue;
                            };
                            slopes += 1;
                            let mixed = !guidance.is_half(step) && guidance.is_half(step - gap);
                            let linear = site.reuse == Reuse::Linear;
                            assert!(!mixed || !linear, "{options:?} {} {schedule}", site.name);
                        }
                        restarts += schedule.restarts().len();
                    }
                    let lost = model.refusals.iter().find(|r| r.reason.contains("slope"));
                    assert!(lost.is_none(), "{options:?}: {lost:?}");
                }
            }
        }
    }
    assert!(restarts > 0 && slopes > 0, "{restarts} {slopes}");
}

/// With a ControlNet that refreshes less often, it does: whatever guidance runs half a batch.
#[test]
fn a_longer_control_interval_refreshes_less() {
    let fixture = fixture("sd15-ts17");
    let inputs = Inputs::read(&fixture, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    for guidance in [0.5, 0.9, 1.0] {
        let refreshes = [1, 2, 3, 4, 8].map(|interval| {
            let text = format!("control-interval={interval},lambda-guidance={guidance}");
            let options = told_to_hgc(&text, 20);
            let plan = project.plan(&Hgc, &options).unwrap().plan;
            let control = plan.models[1].gate("control").unwrap();
            control.schedule.refresh_steps().len()
        });
        assert_eq!((refreshes[0], refreshes[4]), (8, 1), "{refreshes:?}");
        assert!(refreshes.is_sorted_by(|a, b| a >= b), "{refreshes:?}");
        assert!(refreshes[1] <= 5, "{refreshes:?}");
    }
}

/// Steps that no schedule has are errors of the session, below -1 as well: a table would be
/// read from its end there.
#[test]
fn steps_out_of_range_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let files = compile(
        &fixture("sd15-unet-only"),
        &DeepCache,
        &options(),
        folder.path(),
    );
    let (original, rewritten) = &files[0];
    let (source, compiled) = (
        Model::read(original).unwrap(),
        Model::read(rewritten).unwrap(),
    );
    let analysis = Analysis::of(&source.proto, SIZES).unwrap();
    let mut feeds = Feeds::new(&analysis, 0, 6).step(0).unwrap();
    let declared = &compiled.proto.graph.as_ref().unwrap().input[feeds.len()..];
    let options = SessionOptions::default();
    let mut session = RawSession::load(engine(), rewritten.as_path(), &options).unwrap();
    for info in declared.iter().skip(1) {
        let input = session
            .inputs()
            .iter()
            .find(|i| i.name == info.name())
            .unwrap();
        let size = |d: &Dim| if let Dim::Fixed(n) = d { *n } else { 0 };
        let shape: Vec<usize> = input.dims.iter().map(size).collect();
        feeds.push((
            input.name.clone(),
            Tensor::zeros(input.dtype, &shape).unwrap(),
        ));
    }
    for (step, fine) in [
        (0, true),
        (-1, true),
        // Two kinds can be named.
        (-2, true),
        (-3, false),
        (-7, false),
        (-9, false),
        (6, false),
    ] {
        let at = Tensor::scalar_i64(step);
        let mut given = borrowed(&feeds);
        given.push(("hgc.step", &at));
        assert_eq!(session.run(&given, None).is_ok(), fine, "step {step}");
    }
}
