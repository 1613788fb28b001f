//! The fixtures' ControlNets matter: their zero convolutions are filled, and each residual
//! changes what the UNet predicts. A rewrite that lost one would be seen.

use hgc::unstable::analysis::Analysis;
use hgc::unstable::analysis::inputs::InputKind;
use hgc::unstable::engine::{Session, SessionOptions, Tensor};
use hgc::unstable::measure::Feeds;
use hgc::unstable::measure::verify::borrowed;
use hgc::unstable::onnx::Model;

use crate::fixtures::fixture;
use crate::support::{SIZES, engine};

/// The first output of a model on its inputs, with one of them replaced by zeros.
fn output(session: &mut Session, feeds: &[(String, Tensor)], zeroed: Option<usize>) -> Tensor {
    let mut feeds = feeds.to_vec();
    if let Some(index) = zeroed {
        let tensor = &mut feeds[index].1;
        *tensor = Tensor::zeros(tensor.dtype(), tensor.shape()).unwrap();
    }
    session.run(&borrowed(&feeds), None).unwrap().remove(0).1
}

#[test]
fn every_residual_changes_the_prediction() {
    for name in [
        "sd15-ts17",
        "sd21-ts17",
        "sdxl-ts17",
        "inpaint-ts17",
        "distilled-ts17",
    ] {
        let file = fixture(name).join("unet/model.onnx");
        let model = Model::read(&file).unwrap();
        let analysis = Analysis::of(&model.proto, SIZES).unwrap();
        let feeds = Feeds::new(&analysis, 3, 4).step(0).unwrap();
        let options = SessionOptions::default();
        let mut session = Session::load(engine(), file.as_path(), &options).unwrap();
        let whole = output(&mut session, &feeds, None);
        let kinds = analysis.kinds.iter().enumerate();
        let residuals: Vec<usize> = kinds
            .filter(|(_, kind)| **kind == InputKind::Residual)
            .map(|(i, _)| i)
            .collect();
        assert!(residuals.len() > 5, "{name}: {}", residuals.len());
        for index in residuals {
            let without = output(&mut session, &feeds, Some(index));
            let difference = whole.max_abs_diff(&without).unwrap();
            assert!(difference > 1e-4, "{name}: {} does nothing", feeds[index].0);
        }
    }
}

#[test]
fn every_output_of_a_controlnet_follows_its_image() {
    for name in ["sd15-ts17", "sdxl-ts17", "distilled-ts17"] {
        let file = fixture(name).join("controlnet/model.onnx");
        let model = Model::read(&file).unwrap();
        let analysis = Analysis::of(&model.proto, SIZES).unwrap();
        let feeds = Feeds::new(&analysis, 3, 4).step(0).unwrap();
        let image = analysis
            .kinds
            .iter()
            .position(|k| *k == InputKind::ControlImage);
        let image = image.unwrap();
        let mut dark = feeds.clone();
        let tensor = &mut dark[image].1;
        *tensor = Tensor::zeros(tensor.dtype(), tensor.shape()).unwrap();
        let options = SessionOptions::default();
        let mut session = Session::load(engine(), file.as_path(), &options).unwrap();
        let (whole, without) = (
            session.run(&borrowed(&feeds), None).unwrap(),
            session.run(&borrowed(&dark), None).unwrap(),
        );
        for ((output, a), (_, b)) in whole.iter().zip(&without) {
            let difference = a.max_abs_diff(b).unwrap();
            assert!(difference > 1e-5, "{name}: {output} ignores the image");
        }
    }
}
