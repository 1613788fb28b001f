//! Tensors that stay where a session left them.

use hgc::unstable::engine::{DeviceTensor, EngineError, EngineKind, Feed};

use crate::{SCHEDULE, engine, filled, load, models, open};

#[test]
fn outputs_stay_on_the_device_and_go_back_in() {
    let (mut host, mut device) = (
        open(&models::gated(&SCHEDULE)),
        open(&models::gated(&SCHEDULE)),
    );
    let (mut x, text) = (filled(2, 4, 1.0), filled(2, 2, 1.0));
    let mut kept = device.session().upload(&x).unwrap();
    for _ in SCHEDULE {
        let inputs = [("x", Feed::Device(&kept)), ("text", Feed::from(&text))];
        let found = device.run_on_device(&inputs);
        kept = found.unwrap().remove(0).1;
        x = host.run(&[("x", &x), ("text", &text)]).unwrap().remove(0).1;
        assert_eq!((kept.dtype(), kept.shape()), (x.dtype(), x.shape()));
        assert_eq!(kept.to_tensor().unwrap(), x);
    }
    let mut plain = load(&models::original());
    let inputs = [("x", Feed::from(&kept)), ("text", Feed::from(&text))];
    let found = plain.run_on_device(&inputs).unwrap().remove(0).1;
    let expected = plain.run(&[("x", &x), ("text", &text)], None).unwrap();
    assert_eq!(found.to_tensor().unwrap(), expected[0].1);
    let error = plain.run_on_device(&inputs[..1]).unwrap_err();
    assert!(matches!(error, EngineError::MissingInput { .. }), "{error}");
}

/// A constant that is left on the device must stay the same tensor: its content is not read.
#[test]
fn a_constant_on_the_device_is_the_same_tensor_on_every_step() {
    let mut maker = load(&models::text());
    let mut text = || {
        let seed = filled(2, 2, 1.0);
        let made = maker.run_on_device(&[("seed", (&seed).into())]);
        made.unwrap().remove(0).1
    };
    let (first, second) = (text(), text());
    let mut session = open(&models::gated(&SCHEDULE));
    let x = filled(2, 4, 1.0);
    let mut run = |text: &DeviceTensor| {
        session
            .run_on_device(&[("x", (&x).into()), ("text", text.into())])
            .map(drop)
    };
    run(&first).unwrap();
    run(&first.clone()).unwrap();
    let other = run(&second);
    // The embedded engine has everything in host memory, where equal tensors are equal.
    match engine().kind() {
        EngineKind::Embedded => other.unwrap(),
        EngineKind::OnnxRuntime => {
            let error = other.unwrap_err();
            assert!(
                matches!(error, EngineError::ConstantChanged { .. }),
                "{error}"
            );
        }
    }
}
