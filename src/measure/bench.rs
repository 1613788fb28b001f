//! The denoising loop on random latents, original and rewritten interleaved.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::pairs::{Pair, carrier, find_pairs, plan_in};
use super::profile::{self, Ledger};
pub use super::timings::{FileReport, KindTimes, StepTimes, Timings};
use super::verify::{borrowed, decided};
use super::{Feeds, MeasureError, check_batch};
use crate::analysis::Analysis;
use crate::analysis::macs::Macs;
use crate::analysis::shapes::Sizes;
use crate::engine::{
    CachedSession, DeviceTensor, Engine, EngineError, Feed, Provider, Session, SessionOptions,
    Tensor,
};
use crate::onnx::Model;
use crate::plan::Plan;
use crate::plan::cost::Cost;
use crate::plan::layout::Layout;

/// How to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Sizes of the made-up inputs.
    pub sizes: Sizes,
    /// Steps to run; all of the plan where none.
    pub steps: Option<usize>,
    /// Seed of the made-up inputs.
    pub seed: u64,
    /// Where to run.
    pub provider: Provider,
    /// Options of the provider.
    pub provider_options: Vec<(String, String)>,
    /// Bytes of memory that sessions may take together; from the machine where none.
    pub memory: Option<u64>,
}

/// Told of runs done so far and in all.
pub type Progress<'p> = &'p mut dyn FnMut(u64, u64, &str);

/// Benches `originals` against the files in `folder` that were compiled from them.
///
/// # Errors
/// [`MeasureError`] if a file is missing, does not belong, or a run is refused.
pub fn bench(
    engine: &'static Engine,
    originals: &[PathBuf],
    folder: &Path,
    settings: &BenchOptions,
    progress: Progress<'_>,
) -> Result<Timings, MeasureError> {
    let pairs = find_pairs(originals, folder)?;
    let memory = settings.memory.unwrap_or_else(available_memory);
    let interleaved = pairs.iter().map(needs).sum::<u64>() < memory;
    let mut report = Timings {
        steps: 0,
        interleaved,
        files: Vec::new(),
        seconds_original: 0.0,
        seconds_rewritten: 0.0,
        speed_up: 0.0,
        speed_up_macs: 0.0,
        efficiency: 0.0,
        macs_match: None,
    };
    let groups: Vec<&[Pair]> = if interleaved {
        vec![&pairs]
    } else {
        pairs.chunks(1).collect()
    };
    for group in groups {
        let models: Vec<(Model, Model)> = group
            .iter()
            .map(|p| Ok((Model::read(&p.original)?, carrier(&p.rewritten)?.0)))
            .collect::<Result<_, MeasureError>>()?;
        let mut runs = Vec::new();
        for (pair, (source, compiled)) in group.iter().zip(&models) {
            runs.push(Subject::new(pair, source, compiled, settings)?);
        }
        measure(engine, &mut runs, settings, &mut report, progress)?;
    }
    report.summarise();
    Ok(report)
}

/// Memory that both sessions of a pair need, from the size of the weights: a session
/// takes up to three times its weights once it has run (full-size SD1.5 UNet and
/// ControlNet: 14.2 GB for 4.9 GB).
fn needs(pair: &Pair) -> u64 {
    let size = |path: &Path| {
        let files = Model::read(path).map(|m| m.files()).unwrap_or_default();
        files
            .iter()
            .filter_map(|f| f.metadata().ok())
            .map(|m| m.len())
            .sum::<u64>()
    };
    (size(&pair.original) + size(&pair.rewritten)) * 3
}

/// `MemAvailable` of the machine; unlimited where it cannot be read.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(u64::MAX, |k| k * 1024)
}

/// One pair with all that is known of it.
struct Subject<'a> {
    pair: &'a Pair,
    analysis: Analysis<'a>,
    plan: Plan,
    cost: Cost,
}

impl<'a> Subject<'a> {
    fn new(
        pair: &'a Pair,
        source: &'a Model,
        compiled: &Model,
        settings: &BenchOptions,
    ) -> Result<Self, MeasureError> {
        let file = pair.rewritten.display().to_string();
        let plan = plan_in(compiled)?;
        let analysis = Analysis::of(&source.proto, settings.sizes).map_err(|source| {
            MeasureError::Analysis {
                file: pair.original.display().to_string(),
                source,
            }
        })?;
        // What is decided while it runs follows from the inputs.
        let plan = decided(&plan, &analysis, settings.seed)?;
        let model_plan = plan.models.iter().find(|m| m.name == pair.name);
        let model_plan = model_plan.ok_or_else(|| MeasureError::MissingFile {
            rewritten: file.clone(),
            name: pair.name.clone(),
        })?;
        check_batch(&plan, model_plan, &file, settings.sizes.batch)?;
        let layout = Layout::new(&analysis, &plan, model_plan)
            .map_err(|source| MeasureError::Layout { file, source })?;
        let cost = Cost::new(&analysis, &plan, model_plan, &layout);
        Ok(Self {
            pair,
            analysis,
            plan,
            cost,
        })
    }
}

fn measure(
    engine: &'static Engine,
    subjects: &mut [Subject<'_>],
    settings: &BenchOptions,
    report: &mut Timings,
    progress: Progress<'_>,
) -> Result<(), MeasureError> {
    let timed = SessionOptions::on(settings.provider, &settings.provider_options);
    let planned = subjects.first().map_or(0, |s| s.plan.steps);
    let steps = settings.steps.unwrap_or(planned);
    if steps == 0 || steps > planned {
        return Err(MeasureError::Steps {
            planned,
            asked: steps,
        });
    }
    let mut sessions = Vec::new();
    for subject in subjects.iter() {
        let original = Session::load(engine, &subject.pair.original, &timed)?;
        let cached = match CachedSession::open(engine, &subject.pair.rewritten, &timed) {
            // The original is measured at its best, and what has branches as it can run.
            Err(EngineError::CapturesBranches { .. }) => {
                let options = timed.clone().uncaptured();
                CachedSession::open(engine, &subject.pair.rewritten, &options)?
            }
            other => other?,
        };
        sessions.push((original, cached));
    }
    // CUDA chooses algorithms, TensorRT and the embedded engine build programs at the first run.
    if !engine.abilities().prepares_at_load || settings.provider != Provider::Cpu {
        // What is captured is captured at the second run, once the sizes of outputs are known.
        for _ in 0..1 + usize::from(timed.captures_graphs()) {
            warm_up(subjects, &mut sessions, (settings.seed, steps))?;
        }
    }
    report.steps = steps;
    let total = (steps * subjects.len() * 2) as u64;
    let mut done = 0;
    let mut files: Vec<FileReport> = Vec::new();
    for subject in subjects.iter() {
        files.push(FileReport {
            name: subject.pair.name.clone(),
            steps: Vec::new(),
            macs_original: subject.cost.original.all,
        });
    }
    let mut uploads: Vec<Uploads> = subjects.iter().map(|_| Uploads::default()).collect();
    for step in 0..steps {
        for (i, subject) in subjects.iter().enumerate() {
            let inputs = Feeds::new(&subject.analysis, settings.seed, steps).step(step)?;
            let (original, cached) = &mut sessions[i];
            let inputs = uploads[i].place(original, inputs)?;
            // Turn and turn about, so that a slow spell hits both.
            let mut seconds = [0.0, 0.0];
            for turn in 0..2 {
                let which = (turn + step) % 2;
                seconds[which] = if which == 0 {
                    time(&inputs, |given| {
                        Ok(original.run_on_device(given).map(drop)?)
                    })?
                } else {
                    time(&inputs, |given| {
                        Ok(cached.run_on_device(given).map(drop)?)
                    })?
                };
                done += 1;
                progress(done, total, &subject.pair.name);
            }
            let kinds = subject.plan.schedules.first().map(|s| &s.kinds);
            files[i].steps.push(StepTimes {
                step,
                kind: kinds.and_then(|k| k.get(step)).cloned().unwrap_or_default(),
                original: seconds[0],
                rewritten: seconds[1],
                macs_planned: subject.cost.steps.get(step).map_or(0, |m| m.all),
                macs_executed: None,
            });
        }
    }
    drop(sessions);
    for (subject, file) in subjects.iter().zip(&mut files) {
        executed(engine, subject, settings, file)?;
    }
    report.files.extend(files);
    Ok(())
}

/// Runs a generation for nothing: what comes first on a step with another pattern of gates, or
/// with another batch, is prepared then.
fn warm_up(
    subjects: &[Subject<'_>],
    sessions: &mut [(Session, CachedSession)],
    (seed, steps): (u64, usize),
) -> Result<(), MeasureError> {
    for (subject, (original, cached)) in subjects.iter().zip(sessions) {
        for step in 0..steps {
            let inputs = Feeds::new(&subject.analysis, seed, steps).step(step)?;
            let given = borrowed(&inputs);
            if step == 0 {
                original.run(&given, None)?;
            }
            cached.run(&given)?;
        }
        cached.reset()?;
    }
    Ok(())
}

/// Inputs on the device: a pipeline has the residuals there, and the constants since its first step.
#[derive(Default)]
struct Uploads(HashMap<String, (Tensor, DeviceTensor)>);

impl Uploads {
    fn place(
        &mut self,
        session: &Session,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Vec<(String, DeviceTensor)>, MeasureError> {
        let mut placed = Vec::new();
        for (name, tensor) in inputs {
            let before = self.0.get(&name).filter(|(host, _)| *host == tensor);
            let device = match before {
                Some((_, device)) => device.clone(),
                None => session.upload(&tensor)?,
            };
            self.0.insert(name.clone(), (tensor, device.clone()));
            placed.push((name, device));
        }
        Ok(placed)
    }
}

fn time(
    inputs: &[(String, DeviceTensor)],
    run: impl FnOnce(&[(&str, Feed<'_>)]) -> Result<(), MeasureError>,
) -> Result<f64, MeasureError> {
    let given: Vec<_> = inputs
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.into()))
        .collect();
    let start = Instant::now();
    run(&given)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Runs the rewritten model once more with a profile, unfused, and counts what ran.
fn executed(
    engine: &'static Engine,
    subject: &Subject<'_>,
    settings: &BenchOptions,
    file: &mut FileReport,
) -> Result<(), MeasureError> {
    if !engine.abilities().profiles || !settings.provider.profiles_nodes() {
        return Ok(());
    }
    let profile = Some(profile::prefix(&subject.pair.name));
    let traced = SessionOptions {
        profile,
        ..SessionOptions::on(settings.provider, &settings.provider_options)
            .to_compare()
            .uncaptured()
    };
    let mut cached = CachedSession::open(engine, &subject.pair.rewritten, &traced)?;
    let feeds = Feeds::new(&subject.analysis, settings.seed, file.steps.len());
    for step in &file.steps {
        cached.run(&borrowed(&feeds.step(step.step)?))?;
    }
    let profiles = cached.end_profiling()?;
    let runs = profile::runs(&profiles, &subject.plan)?;
    profiles
        .iter()
        .for_each(|path| drop(std::fs::remove_file(path)));
    let ledger = Ledger::new(&subject.analysis);
    for (step, run) in file.steps.iter_mut().zip(&runs) {
        let macs: Macs = ledger.macs(run);
        step.macs_executed = Some(macs.all);
    }
    Ok(())
}
