//! Caches in half precision, and as many of them as a budget allows.

use hgc::unstable::compile::{Caches, Inputs, OutputForm, Planned, Project};
use hgc::unstable::convention::key;
use hgc::unstable::measure::verify::Verdict;
use hgc::unstable::onnx::Model;
use hgc::unstable::plan::CacheType;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Point;

use crate::fixtures::fixture;
use crate::forms::{check_files, write};
use crate::support::{SIZES, prove, store};

const STEPS: usize = 8;
const HALF: Caches = Caches {
    cache: CacheType::F16,
    budget: None,
};

fn planned(project: &Project<'_>, policy: &str, caches: Caches) -> Planned {
    let point = Point::one(policy, &Parameters::new(STEPS)).unwrap();
    let planned = project.plan(point.policy, &point.parameters).unwrap();
    project.keep(planned, caches).unwrap()
}

fn bytes(planned: &Planned) -> u64 {
    planned.costs.iter().map(|c| c.cache_bytes).sum()
}

fn passes(name: &str, policy: &str, form: OutputForm) {
    let inputs = Inputs::read(&fixture(name), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let wide = planned(&project, policy, Caches::default());
    let planned = planned(&project, policy, HALF);
    assert!(
        2 * bytes(&planned) < bytes(&wide) + bytes(&wide) / 4,
        "{name}"
    );
    let folder = tempfile::tempdir().unwrap();
    for (original, model) in write(&project, (&inputs, &planned), form, folder.path()) {
        if form != OutputForm::Gated {
            check_files(&model);
        }
        let verdict = prove(&original, &model);
        assert!(verdict.pass, "{name} {policy} {form:?}: {verdict:#?}");
        // Rounded as it must be, not merely within the tolerance.
        assert!(
            verdict.max_abs_diff < 0.1 * verdict.tolerance,
            "{name}: {verdict:#?}"
        );
    }
}

const FIXED: OutputForm = OutputForm::Variants { fixed: true };
const FORECASTS: &str = "hgc:lambda-inter=0.5,lambda-intra=0.5,reuse=linear";

#[test]
fn held_values_in_half_precision() {
    passes("sd15-ts17", "hgc", OutputForm::Gated);
    passes("sd15-ts17", "hgc", FIXED);
    passes("sd15-merged", "hgc", FIXED);
}

#[test]
fn forecasts_in_half_precision() {
    passes("sd15-ts17", FORECASTS, OutputForm::Gated);
    passes("sdxl-ts17", FORECASTS, FIXED);
}

#[test]
fn whole_batches_and_means_in_half_precision() {
    passes("sd15-unet-only", "deepcache", OutputForm::Gated);
    passes("sd15-unet-only", "tgate", OutputForm::Gated);
    passes("sd15-two-controlnets", "hgc:whole-batch=true", FIXED);
}

/// What is in half precision already stays as it is.
#[test]
fn models_in_half_precision_stay() {
    let inputs = Inputs::read(&fixture("sd15-fp16"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let wide = bytes(&planned(&project, "hgc", Caches::default()));
    assert_eq!(bytes(&planned(&project, "hgc", HALF)), wide);
}

fn claimed(cache: &str) -> Verdict {
    let inputs = Inputs::read(&fixture("sd15-unet-only"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project, "deepcache", HALF);
    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Gated;
    let (original, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    let mut proto = Model::read(&model).unwrap().proto;
    for entry in &mut proto.metadata_props {
        if entry.key() == key::PLAN {
            entry.value = Some(entry.value().replace("cache = \"f16\"", cache));
        }
    }
    store(proto, &model, &model);
    prove(&original, &model)
}

/// A file that rounds where its plan does not say so differs by what rounding loses.
#[test]
fn rounding_that_is_not_planned_is_seen() {
    let (right, wrong) = (claimed("cache = \"f16\""), claimed("cache = \"same\""));
    assert!(right.pass, "{right:#?}");
    assert!(
        wrong.max_abs_diff > 20.0 * right.max_abs_diff,
        "{right:#?} {wrong:#?}"
    );
}

/// Over a budget the largest caches become smaller, then what saves least goes; what is left is a plan.
#[test]
fn a_budget_is_kept() {
    let inputs = Inputs::read(&fixture("sd15-ts17"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let within = |share: u64| {
        let wide = planned(&project, FORECASTS, Caches::default());
        let budget = bytes(&wide) * share / 100;
        let caches = Caches {
            cache: CacheType::Same,
            budget: Some(budget),
        };
        (project.keep(wide, caches), budget)
    };
    let (planned, budget) = within(80);
    let planned = planned.unwrap();
    assert!(bytes(&planned) <= budget);
    let sites = || planned.plan.models.iter().flat_map(|m| &m.sites);
    assert!(
        sites().any(|s| s.cache == CacheType::F16) && sites().any(|s| s.cache == CacheType::Same)
    );
    let (planned, budget) = within(30);
    let planned = planned.unwrap();
    assert!(bytes(&planned) <= budget);
    let refusals = planned.plan.models.iter().flat_map(|m| &m.refusals);
    assert!(
        refusals
            .filter(|r| r.reason.contains("--cache-budget"))
            .count()
            > 0
    );
    let folder = tempfile::tempdir().unwrap();
    for (original, model) in write(&project, (&inputs, &planned), FIXED, folder.path()) {
        let verdict = prove(&original, &model);
        assert!(verdict.pass, "{verdict:#?}");
    }
    let error = within(0).0.map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("--cache-budget") && error.contains("guidance"),
        "{error}"
    );
}
