//! Schedules of a compiled folder, and how many evaluations are meant.

use std::fs;

use crate::compile::compile;
use crate::{BAD, Pipeline, hgc};

#[test]
fn schedules_are_added_listed_and_removed() {
    let pipeline = Pipeline::new();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    compile(&pipeline.path(), &out, "").ok();
    let model = fs::read(out.join("unet/model.onnx")).unwrap();
    let schedules = |action: &str, options: &str| {
        hgc(
            "schedule",
            &[action.as_ref(), out.as_os_str()],
            &format!("{options} --format json"),
        )
    };
    let lengths = |run: crate::Run| -> Vec<u64> {
        let json = run.json();
        let all = json["schedules"].as_array().unwrap().iter();
        all.map(|s| s["evaluations"].as_u64().unwrap()).collect()
    };
    let own = lengths(schedules("list", ""));
    // One for each kind of samplers.
    assert!(own.len() == 2 && own[0] == own[1], "{own:?}");
    let with = |more: &[u64]| [&own, more].concat();
    assert_eq!(lengths(schedules("add", "--steps 11")), with(&[11]));
    assert_eq!(
        lengths(schedules("add", "--steps 7 --spread --sampler UniPC")),
        with(&[11, 7])
    );
    // The same again takes its place.
    assert_eq!(
        lengths(schedules("add", "--steps 11 --policy deepcache")),
        with(&[11, 7])
    );
    assert_eq!(fs::read(out.join("unet/model.onnx")).unwrap(), model);
    let plan = fs::read_to_string(out.join("plan.toml")).unwrap();
    assert!(plan.contains("sampler = \"unipc\""), "{plan}");

    let words = ["add".as_ref(), out.as_os_str()];
    let steps = format!("--steps {}", own[0]);
    hgc("schedule", &words, &steps).fails(BAD, &["in the models themselves"]);
    hgc("schedule", &words, "").fails(BAD, &["--steps N"]);
    hgc("schedule", &words, "--steps 0").fails(BAD, &["steps"]);
    let words = ["remove".as_ref(), out.as_os_str()];
    hgc("schedule", &words, "--steps 9").fails(BAD, &["9 evaluations", "11", "unipc"]);
    hgc("schedule", &words, "--steps 7").fails(BAD, &["7 evaluations"]);
    hgc("schedule", &words, "--steps 7 --sampler unipc").ok();
    assert_eq!(lengths(schedules("remove", "--steps 11")), own);
    let other = format!("--steps {} --sampler multistep", own[0]);
    assert_eq!(lengths(schedules("remove", &other)), own[..1]);
    let words = ["list".as_ref(), dir.path().as_os_str()];
    hgc("schedule", &words, "").fails(BAD, &["plan.toml"]);
    fs::remove_file(out.join("unet/hgc.json")).unwrap();
    let words = ["list".as_ref(), out.as_os_str()];
    hgc("schedule", &words, "").fails(BAD, &["unet/model.onnx", "compile the original again"]);
}

#[test]
fn steps_of_a_pipeline_are_counted_as_its_sampler_does() {
    let pipeline = Pipeline::new();
    let scheduler = pipeline.path().join("scheduler");
    fs::create_dir_all(&scheduler).unwrap();
    let file = scheduler.join("scheduler_config.json");
    fs::write(&file, r#"{"_class_name": "HeunDiscreteScheduler"}"#).unwrap();
    let path = pipeline.path();
    let run = hgc(
        "plan",
        &[&path],
        "--inference-steps 10 --height 16 --width 16 --format json",
    );
    let json = run.json();
    let kinds = json["plan"]["schedule"][0]["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 19);
    let run = hgc("plan", &[&path], "--steps 10 --height 16 --width 16");
    assert!(
        run.err.contains("19 evaluations of 10 steps"),
        "{}",
        run.err
    );
    fs::remove_file(&file).unwrap();
    let words = [&path];
    hgc("plan", &words, "--inference-steps 10").fails(BAD, &["scheduler_config.json", "--steps"]);
}
