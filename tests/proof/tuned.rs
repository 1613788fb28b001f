//! What a tuner runs and what it writes: every kind of evaluation of a lab is proved, and a search
//! keeps to its budget, finds what is hidden, and finds it again.

use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::schedule::GuidanceStep;
use hgc::unstable::plan::{Plan, Reuse, Schedule};
use hgc::unstable::tune::search::{Scored, SearchOptions, anneal, formulas};
use hgc::unstable::tune::{Columns, DEEPEST, Lab, Setting};

use crate::fixtures::fixture;
use crate::support::{SIZES, prove};

/// A step on which everything is read that can be.
const READ: Setting = Setting {
    depth: 0,
    control: false,
    cross: false,
    guidance: GuidanceStep::Held,
};

fn with_lab(name: &str, check: impl Fn(&Project<'_>, &Inputs, &Lab)) {
    with_cuts(name, 0, check);
}

fn with_cuts(name: &str, inner: usize, check: impl Fn(&Project<'_>, &Inputs, &Lab)) {
    let inputs = Inputs::read(&fixture(name), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let cuts = project.inner_cuts(&Parameters::new(1), inner);
    let lab = Lab::new(&project, &Parameters::new(1), &cuts).unwrap();
    check(&project, &inputs, &lab);
}

/// Every kind runs after a step that refreshed everything, and gives what its plan says.
#[test]
fn every_kind_of_a_lab_is_proved() {
    for (name, inner) in [
        ("sd15-ts17", 0),
        ("sd15-merged", 0),
        ("sd15-unet-only", 3),
        ("sd15-merged", 2),
        ("sdxl-ts17", 2),
    ] {
        with_cuts(name, inner, |project, inputs, lab| {
            assert!(lab.planned.plan.kinds.len() >= 12, "{name}");
            assert_eq!(lab.inner.len(), inner, "{name}");
            // Each part is a cache of its own, within that of the part around it.
            let sites = &lab.planned.plan.models[0].sites;
            let deep = sites.iter().filter(|s| s.name.starts_with("deep"));
            assert_eq!(deep.count(), 1 + inner, "{name}: {sites:#?}");
            let compiled = project.compile(&lab.planned).unwrap();
            let folder = tempfile::tempdir().unwrap();
            compiled
                .write(folder.path(), false, &mut |_, _| {})
                .unwrap();
            for (source, model) in inputs.sources.iter().zip(&compiled.models) {
                let written = folder.path().join(model.destination());
                let verdict = prove(&source.model.path, &written);
                assert!(verdict.pass, "{name}: {verdict:#?}");
            }
        });
    }
}

/// A score that rewards what no formula gives: refreshes on odd steps, and on no even one.
fn hidden(lab: &Lab, schedule: &Schedule) -> f64 {
    let settings = lab.settings(schedule);
    let score = |(step, s): (usize, &Setting)| match (s.deep(), step % 2) {
        (true, 1) => 1.0,
        (true, _) => -1.0,
        (false, _) => 0.0,
    };
    settings.iter().enumerate().map(score).sum()
}

/// The best formula, and the best schedule.
fn found(lab: &Lab, budget: f64, seed: u64) -> Option<(Scored, Scored)> {
    let options = SearchOptions {
        steps: 10,
        full: Vec::new(),
        budget,
        effort: 60.0,
        seed,
    };
    let mut score = |s: &Schedule| Ok::<f64, ()>(hidden(lab, s));
    let first = formulas(lab, &options, &mut score, &mut |_| {}).unwrap();
    let starts: Vec<&Scored> = first.iter().collect();
    let all = anneal(lab, &options, &starts, &mut score, &mut |_, _| {}).unwrap();
    assert!(all.is_sorted_by(|a, b| a.score >= b.score));
    Some((first.first()?.clone(), all.first()?.clone()))
}

#[test]
fn a_search_finds_what_is_hidden_within_the_budget() {
    with_lab("sd15-ts17", |_, _, lab| {
        let (start, best) = found(lab, 0.5, 1).unwrap();
        assert!(lab.cost(&best.schedule) <= 0.5);
        assert!(
            best.score >= 2.0 && best.score > start.score,
            "{start:?} {best:?}"
        );
        let again = found(lab, 0.5, 1).unwrap();
        assert_eq!(best.schedule, again.1.schedule);
        // The first evaluation alone costs a tenth.
        assert!(found(lab, 0.05, 1).is_none());
    });
}

/// A kind that would read what no evaluation left gives way to one that refreshes it.
#[test]
fn a_lab_repairs_what_cannot_follow() {
    with_lab("sd15-ts17", |_, _, lab| {
        let half = Setting {
            guidance: GuidanceStep::Held,
            ..Setting::FULL
        };
        let whole = Setting {
            guidance: GuidanceStep::Full,
            ..READ
        };
        // What ran half of the batch left half; a whole step cannot read it.
        let schedule = lab.schedule(&[Setting::FULL, half, whole, READ]);
        let settings = lab.settings(&schedule);
        assert_eq!(settings[..2], [Setting::FULL, half]);
        assert!(settings[2].deep(), "{settings:?}");
        assert_eq!(settings[3], READ);
    });
}

/// Parts of the blocks run without those below them, which costs what lies between.
#[test]
fn parts_of_the_blocks_cost_what_they_run() {
    with_cuts("sd15-unet-only", 3, |_, _, lab| {
        let cost = |depth: u8| {
            let part = Setting {
                depth,
                control: depth > 0,
                ..Setting::FULL
            };
            let schedule = lab.schedule(&[Setting::FULL, part]);
            assert_eq!(lab.settings(&schedule)[1].depth, depth);
            lab.cost(&schedule)
        };
        let costs = [0, 1, 2, 3, DEEPEST].map(cost);
        assert!(costs.is_sorted_by(|a, b| a < b), "{costs:?}");
    });
}

/// What was found becomes a plan like any other, which can be written and read.
#[test]
fn what_is_found_is_a_plan() {
    with_lab("sd15-ts17", |project, _, lab| {
        let best = found(lab, 0.4, 2).unwrap().1;
        let columns = Columns {
            settings: best.settings.clone(),
            inner: lab.inner.clone(),
            reuse: Reuse::Hold,
        };
        let parameters = columns.parameters(&Parameters::new(1));
        let planned = project.plan(&columns, &parameters).unwrap();
        let text = toml::to_string(&planned.plan).unwrap();
        let read: Plan = toml::from_str(&text).unwrap();
        assert_eq!(read, planned.plan);
        assert_eq!(read.steps, 10);
        let costs = planned.costs.iter();
        let (after, before) = costs.fold((0, 0), |(a, b), c| {
            (a + c.after().weights, b + c.before().weights)
        });
        // Sites that would save nothing are left out, and rows fitted: never dearer than the lab says.
        #[allow(clippy::cast_precision_loss)]
        let share = after as f64 / before as f64;
        assert!(share <= 0.4 + 1e-9, "{share}");
    });
}
