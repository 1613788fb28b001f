//! Reuse by weights: slopes that are followed a part of the way, another part on each evaluation.

use hgc::unstable::compile::{Inputs, OutputForm, Planned, Project};
use hgc::unstable::engine::{CachedSession, EngineError, SessionOptions};
use hgc::unstable::measure::Feeds;
use hgc::unstable::measure::verify::{Verdict, borrowed};
use hgc::unstable::onnx::{Model, tensor_f32, tensor_i64};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Point;
use hgc::unstable::plan::{Plan, Reuse};

use crate::fixtures::fixture;
use crate::forms::{check_files, write};
use crate::support::{SIZES, engine, prove, store};

const STEPS: usize = 8;
const FORECASTS: &str = "hgc:lambda-inter=0.5,lambda-intra=0.5,lambda-guidance=0.9,reuse=linear";

/// The same plan with a weight in the place of every forecast: from -0.5 to 1.5, another on every
/// evaluation of every site.
fn fitted(mut plan: Plan) -> Plan {
    for site in plan.models.iter_mut().flat_map(|m| &mut m.sites) {
        if site.reuse == Reuse::Linear {
            site.reuse = Reuse::Fitted;
        }
    }
    plan.guidance.reuse = Reuse::Fitted;
    let names: Vec<String> = plan.weighed().collect();
    assert!(names.len() > 1, "{names:?}");
    for (number, name) in names.into_iter().enumerate() {
        let weight = |row: usize| ((number + 3 * row) % 5) as f32 / 2.0 - 0.5;
        plan.weights
            .0
            .insert(name, (0..STEPS).map(weight).collect());
    }
    // The difference begins without a slope, now that it has one.
    plan.kinds.clear();
    plan.schedules.clear();
    plan.settle();
    plan.schedules[0].rows = (0..STEPS).collect();
    // The same evaluations with other weights, and with none.
    let mut other = plan.schedules[0].clone();
    other.sampler = Some("euler".to_owned());
    other.rows.reverse();
    let mut held = plan.schedules[0].clone();
    held.sampler = Some("ddim".to_owned());
    held.rows.clear();
    plan.schedules.extend([other, held]);
    plan
}

fn planned(project: &Project<'_>) -> Planned {
    let point = Point::one(FORECASTS, &Parameters::new(STEPS)).unwrap();
    let plan = project.plan(point.policy, &point.parameters).unwrap().plan;
    let text = toml::to_string(&fitted(plan)).unwrap();
    project.adopt(toml::from_str(&text).unwrap()).unwrap()
}

fn passes(name: &str, form: OutputForm) {
    let inputs = Inputs::read(&fixture(name), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project);
    let folder = tempfile::tempdir().unwrap();
    for (original, model) in write(&project, (&inputs, &planned), form, folder.path()) {
        if form != OutputForm::Gated {
            check_files(&model);
        }
        let verdict = prove(&original, &model);
        assert!(verdict.pass, "{name} {form:?}: {verdict:#?}");
        let schedules = verdict.checks.iter().filter(|c| c.name == "schedule");
        assert_eq!(schedules.count(), 2);
    }
}

const FIXED: OutputForm = OutputForm::Variants { fixed: true };

#[test]
fn weights_with_controlnet() {
    passes("sd15-ts17", OutputForm::Gated);
    passes("sd15-ts17", FIXED);
}

#[test]
fn weights_in_half_precision() {
    passes("sd15-fp16", OutputForm::Gated);
}

#[test]
fn weights_in_a_merged_graph() {
    passes("sd15-merged", FIXED);
}

#[test]
fn weights_of_two_controlnets() {
    passes("sd15-two-controlnets", OutputForm::Gated);
}

#[test]
fn weights_of_xl() {
    passes("sdxl-ts17", FIXED);
}

#[test]
fn variants_of_open_sizes_weigh() {
    passes("sd15-unet-only", OutputForm::Variants { fixed: false });
}

/// Compiles, breaks a table of the gated UNet, and proves it.
fn broken(break_it: impl Fn(&str, usize) -> bool) -> Verdict {
    let inputs = Inputs::read(&fixture("sd15-unet-only"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project);
    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Gated;
    let (original, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    let mut proto = Model::read(&model).unwrap().proto;
    let mut changed = 0;
    for table in &mut proto.graph.as_mut().unwrap().initializer {
        let (name, dims) = (table.name().to_owned(), table.dims.clone());
        if let Some(mut rows) = table
            .to_i64s()
            .filter(|_| name.starts_with("hgc.row.counted"))
        {
            let turned = (0..rows.len()).filter(|row| break_it(&name, *row));
            turned.for_each(|row| rows[row] = 0);
            changed += 1;
            *table = tensor_i64(&name, &dims, &rows);
        } else if name.starts_with("hgc.weight.") {
            let rows: Vec<f32> = table.to_f32s().unwrap();
            let turn = |(row, weight): (usize, &f32)| match break_it(&name, row) {
                true => weight + 1.0,
                false => *weight,
            };
            let rows: Vec<f32> = rows.iter().enumerate().map(turn).collect();
            changed += 1;
            *table = tensor_f32(&name, &dims, &rows);
        }
    }
    assert!(changed > 2);
    store(proto, &model, &model);
    prove(&original, &model)
}

#[test]
fn a_wrong_weight_is_caught() {
    assert!(broken(|_, _| false).pass, "unbroken, it passes");
    let wrong: [fn(&str, usize) -> bool; 3] = [
        |name, _| name == "hgc.weight.deep.table",
        |name, _| name == "hgc.weight.guidance.table",
        |name, _| name == "hgc.row.counted",
    ];
    for wrong in wrong {
        let verdict = broken(wrong);
        let check = verdict.checks.iter().find(|c| c.name == "generation");
        assert!(!check.unwrap().pass, "{verdict:#?}");
    }
}

/// A row that is not there is an error, in words.
#[test]
fn rows_end() {
    let inputs = Inputs::read(&fixture("sd15-unet-only"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project);
    let mut beyond = planned.plan.clone();
    beyond.schedules[0].rows[3] = STEPS + 1;
    let error = project.adopt(beyond).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("names row 9; the weights have 8"), "{error}");
    let mut short = planned.plan.clone();
    short.schedules[0].rows.pop();
    let text = toml::to_string(&short).unwrap();
    let error = toml::from_str::<Plan>(&text).unwrap_err().to_string();
    assert!(error.contains("8 kinds and 7 rows"), "{error}");
    let mut stray = planned.plan.clone();
    let table = stray.weights.0.get("unet/deep").cloned().unwrap();
    stray.weights.0.insert("unet/dep".to_owned(), table);
    let error = project.adopt(stray).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("did you mean unet/deep?"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Gated;
    let (_, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    let mut cached = CachedSession::open(engine(), model, &SessionOptions::default()).unwrap();
    let analysis = &project.analyses()[0];
    let feeds = Feeds::new(analysis, 0, STEPS);
    let mut schedule = planned.plan.schedules[0].clone();
    schedule.rows = vec![STEPS + 1; STEPS];
    let error = cached.follow(&schedule).unwrap_err();
    assert!(matches!(error, EngineError::UnknownRow { .. }), "{error}");
    cached.run(&borrowed(&feeds.step(0).unwrap())).unwrap();
}

/// A plan that reads by weights and has none yet holds everything.
#[test]
fn without_weights_all_is_held() {
    let inputs = Inputs::read(&fixture("sd15-unet-only"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let mut plan = planned(&project).plan;
    plan.weights.0.clear();
    plan.schedules.truncate(1);
    plan.schedules[0].rows.clear();
    let plan = project.adopt(plan).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Gated;
    for (original, model) in write(&project, (&inputs, &plan), form, folder.path()) {
        let verdict = prove(&original, &model);
        assert!(verdict.pass, "{verdict:#?}");
    }
}
