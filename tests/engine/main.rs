//! Sessions and cache state on whichever engine `HGC_ENGINE` selects: `cargo xtask
//! test` runs this file once with each.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod device;
mod models;
mod refused;

use std::time::{Duration, Instant};

use hgc::unstable::engine::{
    CachedSession, Engine, EngineError, EngineKind, EngineRequest, ModelSource, Optimization,
    Session, SessionOptions, Tensor,
};
use tract_onnx::pb::ModelProto;

fn engine() -> &'static Engine {
    Engine::start(&EngineRequest::from_env(None).unwrap()).unwrap()
}

fn memory(name: &str, model: &ModelProto) -> ModelSource {
    ModelSource::Memory {
        name: name.to_owned(),
        bytes: models::bytes(model).into(),
        folder: None,
    }
}

fn load(model: &ModelProto) -> Session {
    Session::load(
        engine(),
        memory("test.onnx", model),
        &SessionOptions::default(),
    )
    .unwrap()
}

fn open(model: &ModelProto) -> CachedSession {
    let source = memory("test.onnx", model);
    CachedSession::open(engine(), source, &SessionOptions::default()).unwrap()
}

fn open_error(model: &ModelProto) -> EngineError {
    let source = memory("test.onnx", model);
    CachedSession::open(engine(), source, &SessionOptions::default()).unwrap_err()
}

fn filled(batch: usize, width: usize, v: f32) -> Tensor {
    Tensor::from_f32(&[batch, width], &vec![v; batch * width]).unwrap()
}

/// One evaluation on `x` filled with `v`; the first element of `y`.
fn step(session: &mut CachedSession, v: f32) -> f32 {
    let (x, text) = (filled(2, 4, v), filled(2, 2, 1.0));
    let out = session.run(&[("x", &x), ("text", &text)]).unwrap();
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].0, "y");
    assert_eq!(out[0].1.shape(), [2, 4]);
    out[0].1.to_f32()[0]
}

const SCHEDULE: [bool; 5] = [true, false, false, true, false];

#[test]
fn a_plain_session_reports_and_runs_its_model() {
    let mut session = load(&models::original());
    let names: Vec<_> = session.inputs().iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["x", "text"]);
    assert_eq!(session.outputs()[0].name, "y");
    assert_eq!(session.inputs()[0].dims[0].to_string(), "batch");
    let (x, text) = (filled(3, 4, 1.5), filled(3, 2, 0.0));
    let out = session.run(&[("x", &x), ("text", &text)], None).unwrap();
    assert_eq!(out[0].1.to_f32(), [4.5; 12]);
    let out = session
        .run(&[("text", &text), ("x", &x)], Some(&["y"]))
        .unwrap();
    assert_eq!(out.len(), 1);
}

#[test]
fn wrong_inputs_are_named() {
    let mut session = load(&models::original());
    let (x, text) = (filled(1, 4, 1.0), filled(1, 2, 0.0));
    let error = session.run(&[("x", &x)], None).unwrap_err();
    assert!(
        matches!(&error, EngineError::MissingInput { name, .. } if name == "text"),
        "{error}"
    );
    let error = session
        .run(&[("x", &x), ("text", &text), ("z", &x)], None)
        .unwrap_err();
    assert!(
        matches!(&error, EngineError::UnknownInput { name, .. } if name == "z"),
        "{error}"
    );
    let error = session
        .run(&[("x", &x), ("x", &x), ("text", &text)], None)
        .unwrap_err();
    assert!(
        matches!(error, EngineError::DuplicateInput { .. }),
        "{error}"
    );
    let error = session
        .run(&[("x", &text), ("text", &text)], None)
        .unwrap_err();
    assert!(error.to_string().contains("shape [1, 2]"), "{error}");
    let ids = Tensor::from_i64(&[1, 4], &[0; 4]).unwrap();
    let error = session
        .run(&[("x", &ids), ("text", &text)], None)
        .unwrap_err();
    assert!(matches!(error, EngineError::WrongType { .. }), "{error}");
    let inputs = [("x", &x), ("text", &text)];
    let error = session.run(&inputs, Some(&["q"])).unwrap_err();
    assert!(
        matches!(error, EngineError::UnknownOutput { .. }),
        "{error}"
    );
}

#[test]
fn a_cached_session_refreshes_and_reuses_by_schedule() {
    let mut session = open(&models::gated(&SCHEDULE));
    assert_eq!((session.steps(), session.next_step()), (5, 0));
    // y = x + 12 * (x of the last refresh)
    assert_eq!(step(&mut session, 1.0), 13.0);
    assert_eq!(step(&mut session, 2.0), 14.0);
    assert_eq!(step(&mut session, 3.0), 15.0);
    assert_eq!(step(&mut session, 4.0), 52.0);
    assert_eq!(step(&mut session, 5.0), 53.0);
    assert_eq!(session.next_step(), 5);
}

#[test]
fn held_values_survive_with_optimisation_off() {
    let options = SessionOptions {
        optimization: Optimization::Off,
        ..Default::default()
    };
    let source = memory("test.onnx", &models::gated(&SCHEDULE));
    let mut session = CachedSession::open(engine(), source, &options).unwrap();
    assert_eq!(step(&mut session, 1.0), 13.0);
    assert_eq!(step(&mut session, 2.0), 14.0);
    assert_eq!(step(&mut session, 3.0), 15.0);
}

#[test]
fn steps_may_run_on_fewer_rows_and_with_other_weights() {
    let mut session = open(&models::halved(
        &[false, true, true, false],
        &[1.0, 2.0, 3.0, 4.0],
    ));
    let x = Tensor::from_f32(&[2, 4], &[1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0]).unwrap();
    let mut run = || {
        let out = session.run(&[("x", &x)]).unwrap();
        assert_eq!(out[0].1.shape(), [2, 4]);
        let values = out[0].1.to_f32();
        (values[0], values[4])
    };
    assert_eq!(run(), (1.0, 5.0));
    assert_eq!(run(), (10.0, 10.0));
    assert_eq!(run(), (15.0, 15.0));
    assert_eq!(run(), (4.0, 20.0));
}

#[test]
fn a_forced_refresh_ignores_the_schedule_and_counts() {
    let mut session = open(&models::gated(&SCHEDULE));
    step(&mut session, 1.0);
    let (x, text) = (filled(2, 4, 2.0), filled(2, 2, 1.0));
    let out = session
        .run_forced_refresh(&[("x", &x), ("text", &text)])
        .unwrap();
    assert_eq!(out[0].1.to_f32()[0], 26.0);
    assert_eq!(session.next_step(), 2);
    assert_eq!(step(&mut session, 3.0), 27.0);
}

#[test]
fn the_schedule_ends_and_a_reset_starts_anew() {
    let mut session = open(&models::gated(&[true, false]));
    step(&mut session, 1.0);
    step(&mut session, 2.0);
    let (x, text) = (filled(2, 4, 1.0), filled(2, 2, 1.0));
    let error = session.run(&[("x", &x), ("text", &text)]).unwrap_err();
    assert!(
        matches!(error, EngineError::OutOfSteps { steps: 2, .. }),
        "{error}"
    );
    session.reset().unwrap();
    assert_eq!(session.next_step(), 0);
    assert_eq!(step(&mut session, 5.0), 65.0);
    assert_eq!(step(&mut session, 6.0), 66.0);
}

#[test]
fn size_and_prompt_are_fixed_within_a_generation_only() {
    let mut session = open(&models::gated(&SCHEDULE));
    step(&mut session, 1.0);
    let (wide, wide_text) = (filled(3, 4, 2.0), filled(3, 2, 1.0));
    let error = session
        .run(&[("x", &wide), ("text", &wide_text)])
        .unwrap_err();
    assert!(matches!(error, EngineError::ShapeChanged { .. }), "{error}");
    // The generation has ended, whatever is given now.
    let x = filled(2, 4, 2.0);
    let text = filled(2, 2, 1.0);
    let error = session.run(&[("x", &x), ("text", &text)]).unwrap_err();
    assert!(
        matches!(&error, EngineError::Poisoned { reason, .. } if reason.contains("`x` changed")),
        "{error}"
    );
    session.reset().unwrap();
    step(&mut session, 1.0);
    let other = filled(2, 2, 7.0);
    let error = session.run(&[("x", &x), ("text", &other)]).unwrap_err();
    assert!(
        matches!(&error, EngineError::ConstantChanged { name, .. } if name == "text"),
        "{error}"
    );
    let error = session.run(&[("x", &x), ("text", &text)]).unwrap_err();
    assert!(matches!(error, EngineError::Poisoned { .. }), "{error}");
    session.reset().unwrap();
    let out = session.run(&[("x", &wide), ("text", &wide_text)]).unwrap();
    assert_eq!(out[0].1.to_f32(), [26.0; 12]);
}

#[test]
fn two_sessions_do_not_share_caches() {
    let model = models::gated(&SCHEDULE);
    let (mut one, mut two) = (open(&model), open(&model));
    step(&mut one, 1.0);
    step(&mut two, 10.0);
    assert_eq!(step(&mut one, 2.0), 14.0);
    assert_eq!(step(&mut two, 20.0), 140.0);
}

#[test]
fn a_failed_evaluation_ends_the_generation() {
    let mut model = models::gated(&[true, true]);
    // Gather fails at step 1: the table has a single row.
    let graph = model.graph.as_mut().unwrap();
    let table = graph
        .initializer
        .iter_mut()
        .find(|t| t.name == "table")
        .unwrap();
    table.dims = vec![1];
    table.int32_data.truncate(1);
    let mut session = open(&model);
    step(&mut session, 1.0);
    let (x, text) = (filled(2, 4, 1.0), filled(2, 2, 1.0));
    let inputs = [("x", &x), ("text", &text)];
    let error = session.run(&inputs).unwrap_err();
    let failed = matches!(
        error,
        EngineError::Run { .. } | EngineError::RunEmbedded { .. }
    );
    assert!(failed, "{error}");
    let error = session.run(&inputs).unwrap_err();
    assert!(matches!(error, EngineError::Poisoned { .. }), "{error}");
    session.reset().unwrap();
    assert_eq!(step(&mut session, 3.0), 39.0);
}

#[test]
fn a_cancelled_generation_needs_a_reset() {
    let mut session = open(&models::gated(&SCHEDULE));
    step(&mut session, 1.0);
    session.cancel_handle().cancel();
    let (x, text) = (filled(2, 4, 1.0), filled(2, 2, 1.0));
    let inputs = [("x", &x), ("text", &text)];
    let error = session.run(&inputs).unwrap_err();
    assert!(matches!(error, EngineError::Cancelled { .. }), "{error}");
    let error = session.run(&inputs).unwrap_err();
    assert!(matches!(error, EngineError::Poisoned { .. }), "{error}");
    session.reset().unwrap();
    assert_eq!(step(&mut session, 3.0), 39.0);
}

#[test]
fn a_running_evaluation_stops_when_cancelled() {
    if engine().kind() == EngineKind::Embedded {
        return; // It stops between runs only.
    }
    let mut session = open(&models::slow(600));
    let x = Tensor::from_f32(&[768, 768], &vec![1.0; 768 * 768]).unwrap();
    let handle = session.cancel_handle();
    let started = Instant::now();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        handle.cancel();
        Instant::now()
    });
    let error = session.run(&[("x", &x)]).unwrap_err();
    let ended = Instant::now();
    let cancelled = canceller.join().unwrap();
    assert!(matches!(error, EngineError::Cancelled { .. }), "{error}");
    let (delay, took) = (ended.saturating_duration_since(cancelled), ended - started);
    assert!(
        delay < Duration::from_secs(2),
        "stopped {delay:?} after the request, {took:?} in all"
    );
}

#[test]
fn one_process_has_one_engine() {
    let running = engine();
    assert!(std::ptr::eq(
        running,
        Engine::start(&EngineRequest::default()).unwrap()
    ));
    let other = match running.kind() {
        EngineKind::OnnxRuntime => EngineKind::Embedded,
        EngineKind::Embedded => EngineKind::OnnxRuntime,
    };
    let request = EngineRequest {
        kind: Some(other),
        ..Default::default()
    };
    assert!(matches!(
        Engine::start(&request),
        Err(EngineError::OneEngineOnly { .. })
    ));
    let library = Some("/nonexistent/libonnxruntime.so".into());
    let request = EngineRequest {
        library,
        ..Default::default()
    };
    assert!(matches!(
        Engine::start(&request),
        Err(EngineError::OneEngineOnly { .. })
    ));
}

#[test]
fn profiles_are_written_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let profile = Some(folder.path().join("profile"));
    let options = SessionOptions {
        profile,
        ..Default::default()
    };
    let session = Session::load(engine(), memory("test.onnx", &models::original()), &options);
    if engine().kind() == EngineKind::Embedded {
        assert!(matches!(session, Err(EngineError::NeedsOnnxRuntime { .. })));
        return;
    }
    let mut session = session.unwrap();
    let (x, text) = (filled(1, 4, 1.0), filled(1, 2, 1.0));
    session.run(&[("x", &x), ("text", &text)], None).unwrap();
    let path = session.end_profiling().unwrap();
    assert!(std::fs::read_to_string(path).unwrap().contains("Mul"));
}
