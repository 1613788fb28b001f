//! Models and providers that an engine refuses, by name.

use hgc::unstable::engine::{EngineError, ModelSource, Provider, Session, SessionOptions};
use tract_onnx::pb::ModelProto;

use crate::{SCHEDULE, engine, memory, models, open_error};

#[test]
fn what_is_no_rewritten_model_is_refused() {
    let error = open_error(&models::original());
    assert!(matches!(error, EngineError::NotRewritten { .. }), "{error}");
    let breaks = |change: &dyn Fn(&mut ModelProto), problem: &str| {
        let mut model = models::gated(&SCHEDULE);
        change(&mut model);
        let error = open_error(&model);
        assert!(matches!(error, EngineError::Convention { .. }), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    };
    breaks(
        &|m| m.metadata_props.retain(|e| e.key != "hgc.steps"),
        "hgc.steps",
    );
    breaks(
        &|m| m.metadata_props[1].value = "a\nnosite".to_owned(),
        "nosite",
    );
    breaks(
        &|m| m.metadata_props[2].value = "noinput".to_owned(),
        "noinput",
    );
    breaks(
        &|m| {
            let graph = m.graph.as_mut().unwrap();
            graph.output.retain(|o| o.name != "hgc.present.b");
        },
        "hgc.present.b",
    );
}

#[test]
fn a_model_that_does_not_load_is_named() {
    let options = SessionOptions::default();
    let missing = std::path::Path::new("/nonexistent/unet.onnx");
    let error = Session::load(engine(), missing, &options).unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/unet.onnx"),
        "{error}"
    );
    let junk = ModelSource::Memory {
        name: "junk".into(),
        bytes: "no model"[..].into(),
        folder: None,
    };
    let error = Session::load(engine(), junk, &options).unwrap_err();
    assert!(error.to_string().contains("`junk`"), "{error}");
}

#[test]
fn an_operator_the_engine_lacks_is_named() {
    let mut model = models::original();
    let node = &mut model.graph.as_mut().unwrap().node[0];
    node.op_type = "NoSuchOperator".to_owned();
    let error = Session::load(
        engine(),
        memory("test.onnx", &model),
        &SessionOptions::default(),
    );
    let error = anyhow::Error::from(error.unwrap_err());
    assert!(format!("{error:#}").contains("NoSuchOperator"), "{error:#}");
}

#[test]
fn a_provider_that_is_not_there_is_an_error() {
    if engine().info().providers.contains(&Provider::Cuda) {
        return;
    }
    for provider in [Provider::Cuda, Provider::TensorRt] {
        let options = SessionOptions {
            provider,
            ..Default::default()
        };
        let source = memory("test.onnx", &models::original());
        let error = Session::load(engine(), source, &options).unwrap_err();
        assert!(
            matches!(error, EngineError::ProviderMissing { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(provider.name()), "{error}");
    }
}
