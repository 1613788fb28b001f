//! Compiling and verifying fixtures.

use std::path::{Path, PathBuf};

use hgc::unstable::analysis::Role;
use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::{Engine, EngineRequest, Provider};
use hgc::unstable::measure::MeasureError;
use hgc::unstable::measure::verify::{Verdict, VerifyOptions, verify};
use hgc::unstable::onnx::proto::ModelProto;
use hgc::unstable::onnx::{Transaction, folder_of};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy::{Point, Policy};

/// Latents of the reduced-width fixtures.
pub const SIZES: Sizes = Sizes {
    batch: 2,
    height: 16,
    width: 16,
    tokens: 77,
};

pub fn engine() -> &'static Engine {
    Engine::start(&EngineRequest::from_env(None).unwrap()).unwrap()
}

/// Compiles all models of a restored fixture; gives original and rewritten files.
pub fn compile(
    fixture: &Path,
    policy: &dyn Policy,
    parameters: &Parameters,
    folder: &Path,
) -> Vec<(PathBuf, PathBuf)> {
    let inputs = Inputs::read(fixture, &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    compile_with(fixture, &inputs, &project, policy, parameters, folder)
}

/// The same for models that are analysed already.
pub fn compile_with(
    fixture: &Path,
    inputs: &Inputs,
    project: &Project<'_>,
    policy: &dyn Policy,
    parameters: &Parameters,
    folder: &Path,
) -> Vec<(PathBuf, PathBuf)> {
    let planned = project.plan(policy, parameters).unwrap();
    // Without a ControlNet there is none to cache.
    let analyses = project.analyses();
    let uncontrolled = policy.name() == "control" && analyses.len() == 1;
    let uncontrolled = uncontrolled && analyses[0].role == Role::Unet;
    assert!(
        policy.name() == "none" || uncontrolled || planned.plan.changes_anything(),
        "{policy} found nothing: {:#?}",
        planned.plan
    );
    let compiled = project.compile(&planned).unwrap();
    compiled.write(folder, false, &mut |_, _| {}).unwrap();
    let relative = inputs.sources.iter().filter_map(|s| s.relative.clone());
    relative
        .map(|r| (fixture.join(&r), folder.join(&r)))
        .collect()
}

#[track_caller]
/// Parameters with which `hgc` uses every kind of cache and of guidance in few steps; at its defaults
/// it does little then.
pub fn busy(steps: usize) -> Parameters {
    let gate = 1.max(9 * steps / 10);
    let text =
        format!("hgc:lambda-inter=0.4,lambda-intra=0.5,lambda-guidance=0.9,gate-step={gate}");
    Point::one(&text, &Parameters::new(steps))
        .unwrap()
        .parameters
}

pub fn prove(original: &Path, rewritten: &Path) -> Verdict {
    try_prove(original, rewritten).unwrap()
}

pub fn try_prove(original: &Path, rewritten: &Path) -> Result<Verdict, MeasureError> {
    let settings = VerifyOptions {
        sizes: SIZES,
        seed: 7,
        provider: Provider::Cpu,
        provider_options: Vec::new(),
    };
    verify(engine(), original, rewritten, &settings, &mut |_, _, _| {})
}

/// Writes a model that a test has changed, with the data files that lie beside another.
pub fn store(proto: ModelProto, beside: &Path, file: &Path) {
    let mut transaction = Transaction::new(true);
    transaction
        .add_model(proto, &folder_of(beside), file, &mut |_, _| {})
        .unwrap();
    transaction.commit().unwrap();
}
