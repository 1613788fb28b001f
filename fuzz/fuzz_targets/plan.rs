//! A plan is read or refused; what is read is printed, and adopted or refused.
#![no_main]

use std::sync::LazyLock;

use hgc::unstable::compile::{Inputs, OutputForm, Project};
use hgc::unstable::plan::Plan;
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::Hgc;
use hgc::unstable::sidecar::{Sidecar, schedule_for};
use hgc_fuzz::{SIZES, SOURCES, read};
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// A sound plan with some of its bytes replaced: place, how many go, what comes.
fn edited(data: &[u8]) -> String {
    static SOUND: LazyLock<String> = LazyLock::new(|| {
        let (path, model) = &SOURCES[0];
        let inputs = read(model.encode_to_vec(), path).expect("a sound export");
        let project = Project::new(&inputs, SIZES).expect("a UNet");
        let planned = project.plan(&Hgc, &Parameters::new(6)).expect("a plan");
        toml::to_string(&planned.plan).expect("a text")
    });
    let mut text = SOUND.clone().into_bytes();
    for edit in data.chunks_exact(5).take(12) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % text.len().max(1);
        let end = (place + usize::from(edit[2] % 4)).min(text.len());
        let count = usize::from(edit[3] % 3);
        text.splice(place..end, std::iter::repeat_n(edit[4], count));
    }
    String::from_utf8_lossy(&text).into_owned()
}

fuzz_target!(|data: &[u8]| {
    hgc_fuzz::contain_panics();
    let text = match data {
        [0, text @ ..] => String::from_utf8_lossy(text).into_owned(),
        _ => edited(data),
    };
    let Ok(plan) = toml::from_str::<Plan>(&text) else {
        return;
    };
    assert!(!plan.to_string().is_empty());
    let again = toml::to_string(&plan).expect("what was read is written");
    let again: Plan = toml::from_str(&again).expect("and read again");
    assert_eq!(again, plan);
    // One analysis for all plans.
    thread_local! {
        static INPUTS: &'static Inputs = {
            let (path, model) = &SOURCES[0];
            Box::leak(Box::new(read(model.encode_to_vec(), path).expect("a sound export")))
        };
        static PROJECT: Project<'static> =
            Project::new(INPUTS.with(|i| *i), SIZES).expect("a UNet");
    }
    PROJECT.with(|project| {
        let inputs = INPUTS.with(|i| *i);
        let mut plan = plan;
        // The hash is checked first; what comes after it shall be reached.
        if let Some(model) = plan.models.first_mut() {
            model.hash = hgc::unstable::onnx::graph_hash(&inputs.sources[0].model.proto);
        }
        if let Ok(planned) = project.adopt(plan) {
            let compiled = project.compile(&planned).expect("what fits compiles");
            hgc::unstable::emit::strip(compiled.models[0].graph()).expect("and strips");
            let form = OutputForm::Variants { fixed: true };
            project.compile_as(&planned, form).expect("in any form");
            let few = project.limit(&planned, 2).expect("and with few kinds");
            assert!(few.plan.kinds.len() <= 2);
            let text = hgc::unstable::emit::metadata(compiled.models[0].graph(), "hgc.model");
            let text = text.expect("a description");
            let sidecar = Sidecar::parse(text, "a model").expect("that is read");
            for steps in [1, 2, 17] {
                let schedule = schedule_for(&[&sidecar], steps, None).expect("a schedule");
                assert_eq!(schedule.evaluations(), steps);
            }
        }
    });
});
