//! Caches in smaller types, and as many of them as a budget allows.

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

const EIGHT_BITS: Caches = Caches {
    cache: CacheType::Int8,
    budget: None,
};

fn passes(name: &str, policy: &str, form: OutputForm) {
    passes_in(HALF, name, policy, form);
}

/// Proves a plan whose caches are smaller.
fn passes_in(caches: Caches, name: &str, policy: &str, form: OutputForm) {
    let inputs = Inputs::read(&fixture(name), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let wide = planned(&project, policy, Caches::default());
    let planned = planned(&project, policy, caches);
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
        // Rounded as it must be, not merely within the tolerance. Half precision may differ by its last
        // bit, which another of the 255 levels can follow from.
        let share = if name.contains("fp16") { 1.0 } else { 0.1 };
        assert!(
            verdict.max_abs_diff < share * verdict.tolerance,
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

#[test]
fn held_values_in_eight_bits() {
    passes_in(EIGHT_BITS, "sd15-ts17", "hgc:reuse=hold", OutputForm::Gated);
    passes_in(EIGHT_BITS, "sd15-merged", "hgc:reuse=hold", FIXED);
}

#[test]
fn forecasts_in_eight_bits() {
    passes_in(EIGHT_BITS, "sd15-ts17", FORECASTS, OutputForm::Gated);
    passes_in(EIGHT_BITS, "sdxl-ts17", "hgc", FIXED);
    passes_in(EIGHT_BITS, "sd15-two-controlnets", "hgc", OutputForm::Gated);
}

#[test]
fn whole_batches_and_means_in_eight_bits() {
    passes_in(EIGHT_BITS, "sd15-unet-only", "deepcache", FIXED);
    passes_in(EIGHT_BITS, "sd15-unet-only", "tgate", OutputForm::Gated);
    passes_in(
        EIGHT_BITS,
        "sd15-two-controlnets",
        "hgc:whole-batch=true",
        OutputForm::Gated,
    );
}

#[test]
fn half_precision_in_eight_bits() {
    passes_in(EIGHT_BITS, "sd15-fp16", "hgc", OutputForm::Gated);
    passes_in(EIGHT_BITS, "sd15-fp16", "hgc:reuse=hold", FIXED);
}

/// What is in half precision already stays as it is.
#[test]
fn models_in_half_precision_stay() {
    let inputs = Inputs::read(&fixture("sd15-fp16"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let wide = bytes(&planned(&project, "hgc", Caches::default()));
    assert_eq!(bytes(&planned(&project, "hgc", HALF)), wide);
}

/// The verdict on a file that keeps its caches as `wrote`, and says that it does as `says`.
fn claimed(wrote: Caches, says: CacheType) -> Verdict {
    let inputs = Inputs::read(&fixture("sd15-unet-only"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let planned = planned(&project, "deepcache", wrote);
    let folder = tempfile::tempdir().unwrap();
    let form = OutputForm::Gated;
    let (original, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    let mut proto = Model::read(&model).unwrap().proto;
    let (old, new) = (entry_of(wrote.cache), entry_of(says));
    for entry in &mut proto.metadata_props {
        if entry.key() == key::PLAN {
            assert!(entry.value().contains(old));
            entry.value = Some(entry.value().replace(old, new));
        }
    }
    store(proto, &model, &model);
    prove(&original, &model)
}

/// How a plan says it.
fn entry_of(cache: CacheType) -> &'static str {
    match cache {
        CacheType::Same => "cache = \"same\"",
        CacheType::F16 => "cache = \"f16\"",
        CacheType::Int8 => "cache = \"int8\"",
    }
}

/// A file that rounds where its plan does not say so differs by what rounding loses.
#[test]
fn rounding_that_is_not_planned_is_seen() {
    for (wrote, says) in [(HALF, CacheType::Same), (EIGHT_BITS, CacheType::F16)] {
        let (right, wrong) = (claimed(wrote, wrote.cache), claimed(wrote, says));
        assert!(right.pass, "{right:#?}");
        assert!(
            wrong.max_abs_diff > 20.0 * right.max_abs_diff,
            "{right:#?} {wrong:#?}"
        );
    }
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
    let (planned, budget) = within(40);
    let planned = planned.unwrap();
    assert!(bytes(&planned) <= budget);
    let mut sites = planned.plan.models.iter().flat_map(|m| &m.sites);
    assert!(sites.any(|s| s.cache == CacheType::Int8));
    let (planned, budget) = within(15);
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

/// A plan with a schedule for each kind of samplers loses sites for both.
#[test]
fn a_budget_is_kept_by_every_schedule() {
    let inputs = Inputs::read(&fixture("sd15-ts17"), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let point = Point::one("hgc", &Parameters::new(STEPS)).unwrap();
    let planned = project.plan(point.policy, &point.parameters).unwrap();
    let budget = bytes(&planned) * 15 / 100;
    let planned = project.for_both_solvers(planned, point.policy, &point.parameters);
    let planned = planned.unwrap();
    assert_eq!(planned.plan.schedules.len(), 2);
    let caches = Caches {
        cache: CacheType::Same,
        budget: Some(budget),
    };
    let planned = project.keep(planned, caches).unwrap();
    assert!(bytes(&planned) <= budget);
    assert_eq!(planned.plan.schedules.len(), 2);
    let refusals = planned.plan.models.iter().flat_map(|m| &m.refusals);
    let dropped = refusals.filter(|r| r.reason.contains("--cache-budget"));
    assert!(dropped.count() > 0);
    let folder = tempfile::tempdir().unwrap();
    for (original, model) in write(&project, (&inputs, &planned), FIXED, folder.path()) {
        let verdict = prove(&original, &model);
        assert!(verdict.pass, "{verdict:#?}");
    }
}
