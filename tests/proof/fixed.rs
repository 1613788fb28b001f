//! Variants whose values lie at addresses that stay, as captured graphs need them, compute the same; and
//! what a caller holds does not change.

use std::path::Path;

use hgc::unstable::analysis::Analysis;
use hgc::unstable::compile::{Inputs, OutputForm, Project};
use hgc::unstable::engine::{
    CachedSession, DeviceTensor, EngineError, Feed, Provider, Session, SessionOptions, Tensor,
};
use hgc::unstable::measure::Feeds;
use hgc::unstable::measure::verify::borrowed;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Point;

use crate::fixtures::fixture;
use crate::forms::write;
use crate::support::{SIZES, engine};

type Held = Vec<(String, DeviceTensor)>;

fn options(fixed_buffers: bool) -> SessionOptions {
    SessionOptions {
        fixed_buffers,
        ..SessionOptions::default().to_compare()
    }
}

fn given(inputs: &[(String, Tensor)]) -> Vec<(&str, Feed<'_>)> {
    inputs
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.into()))
        .collect()
}

/// Two generations of a model, and evaluations of its original, in buffers that stay. All outputs are held to the end and
/// must be what they would be otherwise.
pub fn check(analysis: &Analysis<'_>, original: &Path, model: &Path, steps: usize) {
    let feeds = Feeds::new(analysis, 5, steps);
    let mut plain = CachedSession::open(engine(), model, &options(false)).unwrap();
    let mut fixed = CachedSession::open(engine(), model, &options(true)).unwrap();
    let mut loose = Session::load(engine(), original, &options(false)).unwrap();
    let mut whole = Session::load(engine(), original, &options(true)).unwrap();
    let mut wanted: Vec<Vec<(String, Tensor)>> = Vec::new();
    let mut held: Vec<Held> = Vec::new();
    for generation in 0..2 {
        plain.reset().unwrap();
        fixed.reset().unwrap();
        for step in 0..steps {
            let inputs = feeds.step(step).unwrap();
            let feeds = given(&inputs);
            let host = borrowed(&inputs);
            wanted.push(plain.run(&host).unwrap());
            held.push(fixed.run_on_device(&feeds).unwrap());
            if generation == 0 && step < 3 {
                wanted.push(loose.run(&host, None).unwrap());
                held.push(whole.run_on_device(&feeds).unwrap());
            }
        }
    }
    for (wanted, held) in wanted.iter().zip(&held) {
        for ((name, wanted), (_, held)) in wanted.iter().zip(held) {
            let found = held.to_tensor().unwrap();
            assert!(wanted.bit_equal(&found), "{} {name}", model.display());
        }
    }
}

/// A kind that reads and writes the same caches (forecasts), and outputs that go in again where they lie.
#[test]
fn what_lies_in_a_buffer_goes_in_where_it_lies() {
    let form = OutputForm::Variants { fixed: true };
    with_unet("hgc:reuse=linear", form, carried_on);
}

fn carried_on(analysis: &Analysis<'_>, model: &Path) {
    let made = Feeds::new(analysis, 5, 8);
    let run = |fixed: bool| -> Vec<Tensor> {
        let mut session = CachedSession::open(engine(), model, &options(fixed)).unwrap();
        let mut outputs = Vec::new();
        let mut last: Option<DeviceTensor> = None;
        for step in 0..8 {
            let inputs = made.step(step).unwrap();
            let mut feeds = given(&inputs);
            if let Some(last) = &last {
                // The noise that was predicted is the next latent.
                for (name, feed) in &mut feeds {
                    if *name == "sample" {
                        *feed = Feed::from(last);
                    }
                }
            }
            let output = session.run_on_device(&feeds).unwrap().remove(0).1;
            outputs.push(output.to_tensor().unwrap());
            last = Some(output);
        }
        outputs
    };
    let (plain, fixed) = (run(false), run(true));
    assert!(plain.iter().zip(&fixed).all(|(a, b)| a.bit_equal(b)));
}

/// Branches cannot be captured: that is said before the runtime refuses in words of its own.
#[test]
fn branches_are_not_captured() {
    with_unet("deepcache", OutputForm::Gated, |_, model| {
        let capture = [("enable_cuda_graph".to_owned(), "1".to_owned())];
        let options = SessionOptions::on(Provider::Cuda, &capture);
        let error = CachedSession::open(engine(), model, &options).unwrap_err();
        assert!(
            matches!(error, EngineError::CapturesBranches { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("--form variants"), "{error}");
    });
}

/// A UNet that is compiled for eight evaluations.
fn with_unet(policy: &str, form: OutputForm, check: impl Fn(&Analysis<'_>, &Path)) {
    let source = fixture("sd15-unet-only");
    let inputs = Inputs::read(&source, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let point = Point::one(policy, &Parameters::new(8)).unwrap();
    let planned = project.plan(point.policy, &point.parameters).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_, model) = write(&project, (&inputs, &planned), form, folder.path()).remove(0);
    check(&project.analyses()[0], &model);
}
