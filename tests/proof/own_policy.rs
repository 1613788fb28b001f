//! A policy that hgc does not know: one type, used like those that it does.

use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::SessionOptions;
use hgc::unstable::eval::{EvalOptions, Evaluation, Scene, Set, Subject};
use hgc::unstable::pipeline::{self, Folder, picture};
use hgc::unstable::plan::Reuse;
use hgc::unstable::plan::parameter::{INTERVAL, Parameters, Value};
use hgc::unstable::plan::policy::{Coarse, Decision, Given, Point, Policy, Use};

use crate::fixtures::fixture;
use crate::support::{compile, engine, prove};

/// The blocks below the outermost skip are kept for `interval` steps; nothing else is.
struct Outermost;

static USES: [Use; 1] = [Use::value(&INTERVAL, "2")];

impl Policy for Outermost {
    fn name(&self) -> &'static str {
        "outermost"
    }

    fn about(&self) -> &'static str {
        "keep all but the outermost blocks"
    }

    fn uses(&self) -> &'static [Use] {
        &USES
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        let at: Vec<usize> = (0..given.steps()).step_by(given.count(&INTERVAL)).collect();
        let deep = Coarse::Deep { run: 1 };
        Decision {
            coarse: vec![(deep, given.refresh(&at), Reuse::Hold)],
            ..given.nothing()
        }
    }
}

#[test]
fn is_planned_compiled_and_proved() {
    let folder = tempfile::tempdir().unwrap();
    let parameters = Parameters::new(6).with(&INTERVAL, Value::Count(3));
    let source = fixture("sd15-unet-only");
    for (original, rewritten) in compile(&source, &Outermost, &parameters, folder.path()) {
        let verdict = prove(&original, &rewritten);
        assert!(verdict.pass, "{verdict:#?}");
    }
    let plan = std::fs::read_to_string(folder.path().join("plan.toml")).unwrap();
    for part in [
        "policy = \"outermost\"",
        "interval = \"3\"",
        "[\"full\", \"reuse\", \"reuse\", \"full\", ",
    ] {
        assert!(plan.contains(part), "no {part} in:\n{plan}");
    }
}

#[test]
fn is_evaluated() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/shapes");
    let folder = Folder::read(&root.join("pipeline")).unwrap();
    let control = picture::read(&root.join("heldout/000.png")).unwrap();
    let run = pipeline::Drawing {
        steps: 4,
        guidance: 5.0,
        control_scale: 1.0,
        control_window: (0.0, 1.0),
        size: folder.size_for(Some(&control)),
    };
    let set = Set {
        scenes: vec![Scene {
            prompt: "a plain orange cross on striped red".to_owned(),
            negative_prompt: String::new(),
            controls: vec![control],
            seed: 0,
            truth: None,
        }],
        appearance: None,
    };
    let inputs = Inputs::read(&folder.path, &[]).unwrap();
    let sizes = folder.sizes(run.size, run.rows(), folder.tokens().unwrap());
    let project = Project::new(&inputs, sizes).unwrap();
    let point = Point::new(&Outermost, run.parameters());
    let settings = EvalOptions {
        run,
        batch: 1,
        timed: 0,
    };
    let options = SessionOptions::default();
    let sampler = folder.sampler(None).unwrap();
    let mut evaluation = Evaluation::new(
        engine(),
        &folder,
        &project,
        sampler,
        &options,
        &set,
        settings,
        &mut |_| {},
    )
    .unwrap();
    let originals = evaluation.original(&mut || {}).unwrap();
    let subject = Subject::of_policy(point);
    let planned = evaluation.plan(&subject).unwrap();
    let measured = evaluation
        .point((&subject, &planned), &originals, &mut || {})
        .unwrap();
    assert!(measured.reduction() > 0.3, "{}", measured.reduction());
    // Of four steps two are reused: other pictures than the original's, of the same scene.
    let psnr = measured.quality.psnr[0];
    assert!((8.0..60.0).contains(&psnr), "{psnr}");
    assert_eq!(measured.subject.label, "outermost");
}
