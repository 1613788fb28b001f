//! A cache is read with the rows and tokens that it was computed for; others are refused by the graph
//! itself, in the hands of any caller.

use std::collections::BTreeMap;
use std::path::Path;

use hgc::unstable::analysis::Analysis;
use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::engine::{CachedSession, Dim, Session, SessionOptions, Tensor};
use hgc::unstable::measure::Feeds;
use hgc::unstable::onnx::Model;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Point;

use crate::fixtures::fixture;
use crate::support::{SIZES, compile, engine};

const STEPS: usize = 4;

/// A loop as a caller would write it, who feeds every present back.
struct Caller {
    session: Session,
    pasts: BTreeMap<String, Tensor>,
}

impl Caller {
    fn new(model: &Path) -> Self {
        let session = Session::load(engine(), model, &SessionOptions::default()).unwrap();
        let is_past = |name: &str| name.starts_with("hgc.past.");
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            _ => 0,
        };
        let inputs = session.inputs().iter().filter(|i| is_past(&i.name));
        let pasts = inputs.map(|input| {
            let shape: Vec<usize> = input.dims.iter().map(size).collect();
            (
                input.name.clone(),
                Tensor::zeros(input.dtype, &shape).unwrap(),
            )
        });
        let pasts = pasts.collect();
        Self { session, pasts }
    }

    /// Step `step`, with other sizes than the one before, perhaps; what the runtime says.
    fn step(&mut self, feeds: &[(String, Tensor)], step: i64) -> Result<(), String> {
        let step = Tensor::scalar_i64(step);
        let mut given: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        given.push(("hgc.step", &step));
        given.extend(self.pasts.iter().map(|(n, t)| (n.as_str(), t)));
        let results = self
            .session
            .run(&given, None)
            .map_err(|e| format!("{:?}", e))?;
        for (name, value) in results {
            if let Some(state) = name.strip_prefix("hgc.present.") {
                self.pasts.insert(format!("hgc.past.{state}"), value);
            }
        }
        Ok(())
    }
}

/// Inputs of the original at some sizes.
fn inputs(original: &Path, sizes: Sizes) -> Vec<(String, Tensor)> {
    let model = Model::read(original).unwrap();
    let analysis = Analysis::of(&model.proto, sizes).unwrap();
    Feeds::new(&analysis, 3, STEPS).step(0).unwrap()
}

const TWICE: Sizes = Sizes { batch: 4, ..SIZES };

/// Two steps at the usual sizes, then, for each of `others`, a step at these; says whether the graph
/// refused, and by name.
fn changed(text: &str, others: &[(i64, Sizes)]) -> Vec<Result<(), String>> {
    let source = fixture("sd15-ts17");
    let point = Point::one(text, &Parameters::new(STEPS)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let models = compile(&source, point.policy, &point.parameters, folder.path());
    let (original, model) = &models[0];
    let usual = inputs(original, TWICE);
    let mut caller = Caller::new(model);
    caller.step(&usual, 0).unwrap();
    // The same sizes go on.
    caller.step(&usual, 1).unwrap();
    let before = caller.pasts.clone();
    let after = |(step, sizes): &(i64, Sizes)| {
        caller.pasts.clone_from(&before);
        caller.step(&inputs(original, *sizes), *step)
    };
    others.iter().map(after).collect()
}

const HELD: &str = "hgc:key-steps=0,lambda-guidance=0";

fn is_named(refused: &Result<(), String>) -> bool {
    let text = refused.as_ref().unwrap_err();
    text.contains("hgc.check/") && text.contains("other_rows_or_tokens")
}

#[test]
fn other_rows_are_refused() {
    for text in [
        "lossless",
        "deepcache:interval=4",
        HELD,
        "tgate:gate-step=1",
    ] {
        // A refresh reads nothing.
        let found = changed(text, &[(2, TWICE), (2, SIZES), (-1, SIZES)]);
        assert_eq!((&found[0], &found[2]), (&Ok(()), &Ok(())), "{text}");
        assert!(is_named(&found[1]), "{text}: {found:?}");
    }
}

#[test]
fn other_tokens_are_refused() {
    let with = |tokens| Sizes { tokens, ..TWICE };
    let found = changed("lossless", &[(2, with(60)), (2, with(154)), (-1, with(60))]);
    assert!(is_named(&found[0]) && is_named(&found[1]), "{found:?}");
    assert_eq!(found[2], Ok(()));
    // What is held there does not depend on them.
    assert_eq!(changed("deepcache:interval=4", &[(2, with(60))]), [Ok(())]);
}

/// A driver looks at the values: another scale of control makes everything new, and so does whoever
/// asks for it, with another prompt.
#[test]
fn what_changed_is_computed_anew() {
    let source = fixture("sd15-ts17");
    let point = Point::one("deepcache:interval=4", &Parameters::new(STEPS)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let models = compile(&source, point.policy, &point.parameters, folder.path());
    let (original, model) = &models[1];
    let options = SessionOptions::default().to_compare();
    let mut cached = CachedSession::open(engine(), model.as_path(), &options).unwrap();
    let mut plain = Session::load(engine(), original.as_path(), &options).unwrap();

    let read = Model::read(original).unwrap();
    let analysis = Analysis::of(&read.proto, SIZES).unwrap();
    let feeds = Feeds::new(&analysis, 3, STEPS);
    let mut inputs = feeds.step(0).unwrap();
    let is_same = |one: &[(String, Tensor)], other: &[(String, Tensor)]| {
        one.iter().zip(other).all(|(a, b)| a.1.bit_equal(&b.1))
    };
    let mut both = |inputs: &[(String, Tensor)], forced: bool| {
        let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let expected = plain.run(&given, None).unwrap();
        let found = match forced {
            true => cached.run_forced_refresh(&given).unwrap(),
            false => cached.run(&given).unwrap(),
        };
        is_same(&expected, &found)
    };
    assert!(both(&inputs, false));
    inputs[0] = feeds.step(1).unwrap().swap_remove(0);
    assert!(!both(&inputs, false), "a reuse gives what it held");

    let scale = |inputs: &mut Vec<(String, Tensor)>| {
        let found = inputs.iter_mut().find(|(n, _)| n == "conditioning_scale");
        found.unwrap().1 = Tensor::from_f32(&[], &[0.25]).unwrap();
    };
    scale(&mut inputs);
    assert!(both(&inputs, false), "another scale");

    let other = Feeds::new(&analysis, 4, STEPS).step(2).unwrap();
    let text = inputs
        .iter()
        .position(|(n, _)| n == "encoder_hidden_states");
    let text = text.unwrap();
    inputs[text] = other[text].clone();
    assert!(both(&inputs, true), "another prompt");
}
