//! Gates that decide while the model runs: the graph, its drivers and the rule agree on every evaluation.

use hgc::unstable::analysis::Analysis;
use hgc::unstable::compile::{Inputs, OutputForm, Planned, Project};
use hgc::unstable::engine::{CachedSession, SessionOptions};
use hgc::unstable::measure::Feeds;
use hgc::unstable::measure::verify::{Verdict, borrowed};
use hgc::unstable::onnx::Model;
use hgc::unstable::onnx::proto::TensorProto;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Point;
use hgc::unstable::plan::schedule::GuidanceStep;
use hgc::unstable::plan::{Adaptive, Given, Kind, Plan};

use crate::fixtures::fixture;
use crate::forms::{check_files, write};
use crate::support::{SIZES, engine, prove, store};

const STEPS: usize = 10;
const FEW: &str = "hgc:key-steps=0+1,reuse=hold";
/// The latents of proofs are noise, another on every evaluation: they move by about 1.4.
const NEAR: f32 = 0.1;
const FAR: f32 = 1.0;

/// The kind that refreshes all with the whole batch, and is not the first.
fn whole(plan: &Plan) -> &Kind {
    let full = |k: &&Kind| k.guidance == GuidanceStep::Full && k.runs().next().is_some();
    plan.kinds.iter().skip(1).find(full).unwrap()
}

/// A plan that refreshes twice, and then where it is decided: on evaluation 3 the latent is far, on 5 the
/// timestep, on 8 neither, but the cap is reached; on 9 the latent is far, and the budget spent.
fn adaptive(mut plan: Plan) -> Plan {
    let mut latent = vec![NEAR; STEPS];
    (latent[3], latent[9]) = (FAR, FAR);
    let mut time = vec![0.0; STEPS];
    time[5] = 1.0;
    let found = Adaptive {
        instead: whole(&plan).name.clone(),
        decided: "..????????".to_owned(),
        latent,
        time,
        most: 2,
        budget: 3,
    };
    plan.schedules[0].adaptive = Some(found);
    // The same, spread over other evaluations by whoever adds a schedule.
    let mut other = plan.schedules[0].clone();
    other.sampler = Some("euler".to_owned());
    if let Some(adaptive) = &mut other.adaptive {
        adaptive.latent[3] = NEAR;
        adaptive.budget = STEPS;
    }
    plan.schedules.push(other);
    plan
}

fn planned(project: &Project<'_>) -> Planned {
    let point = Point::one(FEW, &Parameters::new(STEPS)).unwrap();
    let plan = project.plan(point.policy, &point.parameters).unwrap().plan;
    let text = toml::to_string(&adaptive(plan)).unwrap();
    project.adopt(toml::from_str(&text).unwrap()).unwrap()
}

/// What proofs give, by evaluation.
fn given(project: &Project<'_>, analysis: &Analysis<'_>) -> Vec<Given> {
    assert!(!project.analyses().is_empty());
    let feeds = Feeds::new(analysis, 0, STEPS);
    (0..STEPS).map(|s| feeds.given(s).unwrap()).collect()
}

/// Evaluations on which the plan's first schedule runs something else than it says.
fn fired(plan: &Plan, given: &[Given]) -> Vec<usize> {
    let schedule = &plan.schedules[0];
    let decided = schedule.decided(&plan.kinds, given);
    let differ = |e: &usize| decided.kinds[*e] != schedule.kinds[*e];
    (0..STEPS).filter(differ).collect()
}

fn passes(name: &str, form: OutputForm) {
    let inputs = Inputs::read(&fixture(name), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project);
    for analysis in project.analyses() {
        let given = given(&project, analysis);
        assert_eq!(fired(&planned.plan, &given), [3, 5, 8], "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    for (original, model) in write(&project, (&inputs, &planned), form, folder.path()) {
        if form != OutputForm::Gated {
            check_files(&model);
        }
        let verdict = prove(&original, &model);
        assert!(verdict.pass, "{name} {form:?}: {verdict:#?}");
        let schedules = verdict.checks.iter().filter(|c| c.name == "schedule");
        assert_eq!(schedules.count(), 1);
    }
}

const FIXED: OutputForm = OutputForm::Variants { fixed: true };

#[test]
fn decisions_with_controlnet() {
    passes("sd15-ts17", OutputForm::Gated);
    passes("sd15-ts17", FIXED);
}

#[test]
fn decisions_in_half_precision() {
    passes("sd15-fp16", OutputForm::Gated);
}

#[test]
fn decisions_in_a_merged_graph() {
    passes("sd15-merged", OutputForm::Gated);
}

#[test]
fn decisions_of_two_controlnets() {
    passes("sd15-two-controlnets", FIXED);
}

#[test]
fn decisions_of_xl() {
    passes("sdxl-ts17", OutputForm::Gated);
}

/// Compiles, changes the gated UNet, and proves it.
fn broken(change: impl Fn(&mut TensorProto) -> bool) -> Verdict {
    let inputs = Inputs::read(&fixture("sd15-unet-only"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project);
    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Gated;
    let (original, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    let mut proto = Model::read(&model).unwrap().proto;
    let tensors = &mut proto.graph.as_mut().unwrap().initializer;
    assert_eq!(
        tensors
            .iter_mut()
            .filter_map(|t| change(t).then_some(()))
            .count(),
        1
    );
    store(proto, &model, &model);
    prove(&original, &model)
}

fn raw(tensor: &TensorProto) -> Vec<u8> {
    tensor.raw_data.clone().unwrap_or_default().to_vec()
}

/// A table that says otherwise is caught: of what may be decided, of what a move counts, of the cap, of the
/// budget, and of the kinds that are counted from.
#[test]
fn a_wrong_decision_is_caught() {
    if !engine().abilities().decides_while_running {
        // There the driver decides, by what lies beside the model.
        return;
    }
    let set = |name: &'static str, at: usize, bytes: &'static [u8]| {
        move |tensor: &mut TensorProto| {
            let found = tensor.name() == name;
            if found {
                let mut all = raw(tensor);
                let at = match at {
                    0 => 0,
                    // Rows of evaluations come after those of kinds.
                    evaluation => all.len() - (STEPS - evaluation) * bytes.len(),
                };
                all[at..at + bytes.len()].copy_from_slice(bytes);
                tensor.raw_data = Some(all.into());
            }
            found
        }
    };
    static NONE: [u8; 4] = 0f32.to_le_bytes();
    static MANY: [u8; 4] = 100f32.to_le_bytes();
    for (name, at, bytes) in [
        ("hgc.may.table", 3, &[0u8][..]),
        ("hgc.moved.table", 3, &NONE[..]),
        ("hgc.moved.table", 4, &MANY[..]),
        ("hgc.passed.table", 5, &NONE[..]),
        ("hgc.most", 0, &MANY[..]),
        ("hgc.budget", 0, &MANY[..]),
    ] {
        let verdict = broken(set(name, at, bytes));
        assert!(!verdict.pass, "{name}[{at}]: {verdict:#?}");
        let failed = verdict.checks.iter().find(|c| !c.pass).unwrap();
        assert!(
            ["generation", "run", "executed"].contains(&failed.name),
            "{failed:?}"
        );
    }
}

/// A driver that follows a schedule decides as the graph that counts does, and tells what ran.
#[test]
fn a_driver_decides_as_the_graph() {
    let inputs = Inputs::read(&fixture("sd15-unet-only"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project);
    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Gated;
    let (_, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    let open = || CachedSession::open(engine(), &*model, &SessionOptions::default()).unwrap();
    let (mut counting, mut driven) = (open(), open());
    driven.follow(&planned.plan.schedules[0]).unwrap();
    let analysis = &project.analyses()[0];
    let expected =
        planned.plan.schedules[0].decided(&planned.plan.kinds, &given(&project, analysis));
    for generation in 0..2 {
        let feeds = Feeds::new(analysis, 0, STEPS);
        for step in 0..STEPS {
            let inputs = feeds.step(step).unwrap();
            let counted = counting.run(&borrowed(&inputs)).unwrap();
            let named = driven.run(&borrowed(&inputs)).unwrap();
            assert!(counted[0].1.bit_equal(&named[0].1), "{generation} {step}");
        }
        let ran = driven
            .ran()
            .iter()
            .map(|k| planned.plan.kinds[*k].name.clone());
        assert_eq!(ran.collect::<Vec<_>>(), expected.kinds);
        counting.reset().unwrap();
        driven.reset().unwrap();
    }
}
