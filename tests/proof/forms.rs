//! Variants equal the gated form, have no control flow, and are proved as it is; more schedules than
//! one over the same kinds.

use std::path::{Path, PathBuf};

use hgc::unstable::compile::{Inputs, Installed, OutputForm, Planned, Project};
use hgc::unstable::engine::{CachedSession, EngineError, EngineKind, SessionOptions};
use hgc::unstable::measure::Feeds;
use hgc::unstable::measure::verify::borrowed;
use hgc::unstable::onnx::Model;
use hgc::unstable::onnx::proto::GraphProto;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::{self, DeepCache, Hgc, Point};
use hgc::unstable::sidecar::{self, FormName, Sidecar};

use crate::fixed;
use crate::fixtures::fixture;
use crate::support::{SIZES, busy, engine, prove, store};

const STEPS: usize = 6;
/// Every kind of cache and of guidance, as [`busy`] tells it.
const BUSY: &str = "hgc:lambda-inter=0.4,lambda-intra=0.5,lambda-guidance=0.9,gate-step=5";

fn told(text: &str) -> Point {
    Point::one(text, &Parameters::new(STEPS)).unwrap()
}

/// Writes a plan in a form; gives originals and what sessions open.
pub fn write(
    project: &Project<'_>,
    (inputs, planned): (&Inputs, &Planned),
    form: OutputForm,
    folder: &Path,
) -> Vec<(PathBuf, PathBuf)> {
    let compiled = project.compile_as(planned, form).unwrap();
    compiled.write(folder, false, &mut |_, _| {}).unwrap();
    let sources = inputs.sources.iter().zip(&compiled.models);
    sources
        .map(|(source, model)| (source.model.path.clone(), folder.join(model.destination())))
        .collect()
}

fn is_flat(graph: &GraphProto) -> bool {
    let mut nodes = graph.node.iter();
    nodes.all(|n| !["If", "Loop", "Scan"].contains(&n.op_type()) && n.subgraphs().next().is_none())
}

/// Every kind is a graph of its own without control flow, on the weights of the original alone, and
/// has just the cached values that its kind reads and writes.
pub fn check_files(model: &Path) {
    let set = Sidecar::beside(model).unwrap().unwrap();
    assert_eq!(set.form, FormName::Variants);
    let mut names = Vec::new();
    for (file, kind) in set.files.iter().zip(&set.kinds) {
        let variant = Model::read(&model.with_file_name(file)).unwrap().proto;
        let graph = variant.graph.unwrap();
        assert!(is_flat(&graph), "{file}");
        assert!(
            !graph.input.iter().any(|i| i.name() == "hgc.step"),
            "{file}"
        );
        let inline: usize = graph.initializer.iter().map(|t| t.raw_data().len()).sum();
        assert!(
            inline < 1 << 20,
            "{file} has {inline} bytes of weights inside"
        );
        for state in &set.states {
            let (past, present) = (
                format!("hgc.past.{}", state.name),
                format!("hgc.present.{}", state.name),
            );
            let reads = graph.input.iter().any(|i| i.name() == past);
            let writes = graph.output.iter().any(|o| o.name() == present);
            assert_eq!(reads, state.reads.contains_key(&kind.name), "{file} {past}");
            assert_eq!(
                writes,
                state.writes.contains_key(&kind.name),
                "{file} {present}"
            );
        }
        names.push(graph.name.unwrap());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), set.files.len());
}

fn check(name: &str, points: &[(&str, bool)]) {
    let source = fixture(name);
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    for &(text, fixed) in points {
        let point = told(text);
        let planned = project.plan(point.policy, &point.parameters).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let form = OutputForm::Variants { fixed };
        let files = write(&project, (&inputs, &planned), form, folder.path());
        for ((original, model), analysis) in files.into_iter().zip(project.analyses()) {
            check_files(&model);
            let verdict = prove(&original, &model);
            assert!(verdict.pass, "{name} {text}: {verdict:#?}");
            let form = verdict.checks.iter().find(|c| c.name == "form").unwrap();
            let half = name == "sd15-fp16";
            fixed::check(analysis, &original, &model, STEPS);
            if engine().kind() == EngineKind::OnnxRuntime && !half {
                assert!(
                    form.detail.contains(": bit-identical"),
                    "{name} {text}: {form:?}"
                );
            }
        }
    }
}

macro_rules! forms {
    ($($test:ident: $fixture:literal;)*) => {
        const FIXTURES: &[&str] = &[$($fixture),*];

        $(#[test]
        fn $test() {
            check($fixture, &[(BUSY, true)]);
        })*
    };
}

forms! {
    sd15_torchscript_14: "sd15-ts14";
    sd15_torchscript_17: "sd15-ts17";
    sd15_fp16: "sd15-fp16";
    sd15_dynamo_18: "sd15-dynamo18";
    sd15_dynamo_23: "sd15-dynamo23";
    sd15_without_controlnet: "sd15-unet-only";
    sd15_merged: "sd15-merged";
    sd15_two_controlnets: "sd15-two-controlnets";
    sd15_lcm: "sd15-lcm";
    sd15_static_batch: "sd15-static-batch";
    sd15_static: "sd15-static";
    sd15_onnxslim: "sd15-onnxslim";
    sd15_renamed: "sd15-renamed";
    sd21: "sd21-ts17";
    sdxl: "sdxl-ts17";
    inpaint: "inpaint-ts17";
    distilled: "distilled-ts17";
}

/// Forecasts, open sizes, the other order of halves.
#[test]
fn variants_that_forecast() {
    check("sd15-unet-only", &[("hgc:reuse=linear", false)]);
    check(
        "sd15-unet-only",
        &[("hgc:reuse=linear,prompted=first", true)],
    );
}

/// Every fixture under every policy, with sizes and without: `cargo xtask prove`.
#[test]
#[ignore = "takes half an hour; cargo xtask prove"]
fn variants_of_every_policy() {
    let all = policy::ALL.iter().filter(|p| p.name() != "none");
    let all = all.flat_map(|p| [(p.name(), true), (p.name(), false)]);
    let linear = "hgc:reuse=linear";
    let all: Vec<(&str, bool)> = all.chain([(linear, true), (linear, false)]).collect();
    for name in FIXTURES {
        check(name, &all);
        println!("{name}");
    }
}

/// Fused operators of the runtime stay what they are.
#[test]
fn variants_of_fused_graphs() {
    if engine().kind() == EngineKind::OnnxRuntime {
        check("sd15-ort-extended", &[(BUSY, true)]);
        check("sd15-ort-mha", &[(BUSY, true)]);
    }
}

/// One evaluation reads another cache than its kind should.
#[test]
fn a_broken_variant_is_caught() {
    let source = fixture("sd15-unet-only");
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = project.plan(&DeepCache, &Parameters::new(STEPS)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Variants { fixed: false };
    let (original, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    let reuse = model.with_file_name("reuse.onnx");
    let mut proto = Model::read(&reuse).unwrap().proto;
    // The first node that reads the cache reads it negated.
    let graph = proto.graph.as_mut().unwrap();
    let past = "hgc.past.deep";
    let reader = graph
        .node
        .iter_mut()
        .find(|n| n.input.iter().any(|i| i == past));
    for input in &mut reader.unwrap().input {
        if input == past {
            "negated".clone_into(input);
        }
    }
    let negation = hgc::unstable::onnx::make_node("Neg", "negation", [past], ["negated"]);
    graph.node.insert(0, negation);
    store(proto, &reuse, &reuse);
    let verdict = prove(&original, &model);
    let failed: Vec<_> = verdict
        .checks
        .iter()
        .filter(|c| !c.pass)
        .map(|c| c.name)
        .collect();
    assert!(
        failed.contains(&"generation") && failed.contains(&"form"),
        "{verdict:#?}"
    );
}

/// Schedules for other numbers of evaluations are added and proved, in both forms, and no model is
/// written again.
#[test]
fn schedules_change_without_the_models() {
    let source = fixture("sd15-ts17");
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    for text in ["hgc:reuse=linear", "tgate"] {
        let point = told(text);
        let planned = project.plan(point.policy, &point.parameters).unwrap();
        for form in [OutputForm::Gated, OutputForm::Variants { fixed: true }] {
            let folder = tempfile::tempdir().unwrap();
            let files = write(&project, (&inputs, &planned), form, folder.path());
            let before = std::fs::read(&files[0].1).unwrap();
            let mut installed = Installed::open(folder.path()).unwrap();
            let longer = point.policy;
            let parameters = Parameters::new(9);
            installed
                .add(installed.by_policy(&project, longer, &parameters).unwrap())
                .unwrap();
            let spread = installed
                .flows()
                .unwrap()
                .spread(&installed.schedules()[0], 4);
            installed.add(spread).unwrap();
            installed.write().unwrap();
            assert_eq!(std::fs::read(&files[0].1).unwrap(), before);
            for (original, rewritten) in files {
                let verdict = prove(&original, &rewritten);
                assert!(verdict.pass, "{text} {form:?}: {verdict:#?}");
                let schedules = verdict.checks.iter().filter(|c| c.name == "schedule");
                assert_eq!(schedules.count(), 2);
            }
        }
    }
}

/// Fewer kinds refresh more, never less, and are proved as well.
#[test]
fn kinds_can_be_few() {
    let source = fixture("sd15-unet-only");
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    for text in [
        "hgc",
        BUSY,
        "hgc:reuse=linear,lambda-intra=0.5",
        "hgc-paper",
    ] {
        let point = Point::one(text, &Parameters::new(12)).unwrap();
        let planned = project.plan(point.policy, &point.parameters).unwrap();
        for most in [4, 2] {
            let few = project.limit(&planned, most).unwrap();
            assert!(few.plan.kinds.len() <= most, "{text}");
            for (many, few) in planned.plan.models.iter().zip(&few.plan.models) {
                for (gate, fewer) in many.gates.iter().zip(&few.gates) {
                    let refreshes = gate.schedule.refresh_steps();
                    assert!(
                        refreshes.iter().all(|s| fewer.schedule.refreshes(*s)),
                        "{text}"
                    );
                }
            }
            let folder = tempfile::tempdir().unwrap();
            for (original, rewritten) in
                write(&project, (&inputs, &few), OutputForm::Gated, folder.path())
            {
                let verdict = prove(&original, &rewritten);
                assert!(verdict.pass, "{text} {most}: {verdict:#?}");
            }
        }
    }
}

/// A caller that names kinds gets what it names; one that reads what is not there is refused, in
/// either form.
#[test]
fn kinds_can_be_named() {
    let source = fixture("sd15-unet-only");
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = project.plan(&Hgc, &busy(STEPS)).unwrap();
    for form in [OutputForm::Gated, OutputForm::Variants { fixed: false }] {
        let folder = tempfile::tempdir().unwrap();
        let (_, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
        let options = SessionOptions::default().to_compare();
        let mut counted = CachedSession::open(engine(), &model, &options).unwrap();
        let mut named = CachedSession::open(engine(), &model, &options).unwrap();
        let feeds = Feeds::new(&project.analyses()[0], 3, STEPS);
        let kinds = planned.plan.schedules[0].kinds.clone();
        let early = named
            .run_as(&kinds[1], &borrowed(&feeds.step(0).unwrap()))
            .unwrap_err();
        assert!(matches!(early, EngineError::KindTooEarly { .. }), "{early}");
        for (step, kind) in kinds.iter().enumerate() {
            let inputs = feeds.step(step).unwrap();
            let expected = counted.run(&borrowed(&inputs)).unwrap();
            let found = named.run_as(kind, &borrowed(&inputs)).unwrap();
            let mut pairs = expected.iter().zip(&found);
            assert!(pairs.all(|((_, a), (_, b))| a.bit_equal(b)), "{kind}");
        }
        let unknown = named
            .run_as("reuze", &borrowed(&feeds.step(0).unwrap()))
            .unwrap_err();
        assert!(unknown.to_string().contains("reuze"), "{unknown}");
        // Beyond its schedule a caller may go on by name.
        assert!(counted.run(&borrowed(&feeds.step(0).unwrap())).is_err());
        let more = named.run_as(&kinds[0], &borrowed(&feeds.step(0).unwrap()));
        assert!(more.is_ok());
    }
}

/// What lies beside a model and is of another one is refused.
#[test]
fn a_sidecar_of_another_model_is_refused() {
    let source = fixture("sd15-unet-only");
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = project.plan(&DeepCache, &Parameters::new(STEPS)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_, model) = write(
        &project,
        (&inputs, &planned),
        OutputForm::Gated,
        folder.path(),
    )
    .remove(0);
    let file = sidecar::path_of(&model);
    let mut other = Sidecar::read(&file).unwrap();
    other.graph = "0".repeat(64);
    std::fs::write(&file, other.text()).unwrap();
    let error = CachedSession::open(engine(), &model, &SessionOptions::default()).unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
    std::fs::write(&file, "{}").unwrap();
    let error = CachedSession::open(engine(), &model, &SessionOptions::default()).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}
