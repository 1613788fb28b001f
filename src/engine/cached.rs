//! A rewritten model, called like the original.

use super::Engine;
use super::adaptive::Decider;
use super::cancel::CancelHandle;
use std::path::Path;

use super::device::{DeviceTensor, Feed, feeds, to_host};
use super::error::{EngineError, Result, Source};
use super::kinds::KindSessions;
use super::model::ModelSource;
use super::ports::Ports;
use super::session::{Session, SessionOptions};
use super::state::{Generation, REFRESH};
use super::tensor::Tensor;
use crate::onnx::folder_of;
use crate::plan::Schedule;
use crate::sidecar::{FormName, Sidecar};

/// A session of a rewritten model that owns the step counter and the caches.
///
/// A *generation* is a run of evaluations between two resets, at most as many as
/// the model's schedule has steps. Its first evaluation fixes the shapes of all
/// inputs and the values of those that cached values depend on; an evaluation that
/// breaks this is refused without running (a forced refresh may have other values: it reads
/// nothing), and like a failed or cancelled one it ends the generation: until [`reset`](CachedSession::reset) every further one is refused,
/// so that no caller goes on with a prompt that it has replaced. No cache outlives a
/// generation.
#[derive(Debug)]
pub struct CachedSession {
    loaded: Loaded,
    ports: Ports,
    generation: Generation,
    /// What `hgc.step` is on each evaluation, where it is not the model's own schedule that is
    /// counted.
    schedule: Option<Vec<i64>>,
    /// What decides between kinds while a generation runs, where the graph does not.
    decider: Option<Decider>,
    /// Kinds that ran in this generation.
    ran: Vec<usize>,
    /// Whether the next evaluation refreshes everything.
    refresh_next: bool,
    cancel: CancelHandle,
}

/// A rewritten model by its form.
#[derive(Debug)]
enum Loaded {
    Gated(Session),
    Variants(KindSessions),
}

impl CachedSession {
    /// Loads a rewritten model: a gated one, or the `model.onnx` beside whose `hgc.json` its variants
    /// lie.
    pub fn open(
        engine: &Engine,
        source: impl Into<ModelSource>,
        options: &SessionOptions,
    ) -> Result<Self> {
        let options = SessionOptions {
            no_memory_pattern: true,
            ..options.clone()
        };
        let source = source.into();
        let mut beside = None;
        if let ModelSource::File(path) = &source {
            beside = Sidecar::beside(path).map_err(|e| EngineError::Convention {
                file: path.display().to_string(),
                problem: e.to_string(),
            })?;
            if let Some(sidecar) = beside.take_if(|s| s.form == FormName::Variants) {
                return Self::open_variants(engine, path, sidecar, &options);
            }
        }
        if options.captures_graphs() {
            return Err(EngineError::CapturesBranches {
                file: source.name(),
            });
        }
        let mut session = Session::load(engine, source, &options)?;
        let ports = Ports::of(&session, beside)?;
        let interrupt = session
            .model
            .keep_caches()
            .map_err(|source| EngineError::Load {
                file: session.file().to_owned(),
                source,
            })?;
        let mut cached = Self::new(Loaded::Gated(session), ports, CancelHandle::new(interrupt));
        if !engine.abilities().decides_while_running {
            cached.decider = cached.sidecar().and_then(|sidecar| {
                let first = sidecar.schedules.first()?;
                Decider::of(first, sidecar)
            });
        }
        Ok(cached)
    }

    fn open_variants(
        engine: &Engine,
        path: &Path,
        sidecar: Sidecar,
        options: &SessionOptions,
    ) -> Result<Self> {
        let sessions = KindSessions::open(engine, &folder_of(path), &sidecar, options)?;
        let first = sidecar.schedules.first();
        let decider = first.and_then(|schedule| Decider::of(schedule, &sidecar));
        let ports = Ports::of_variants(&sessions, sidecar);
        // A run of one kind ends before another could be stopped.
        let cancel = CancelHandle::new(None);
        let mut cached = Self::new(Loaded::Variants(sessions), ports, cancel);
        cached.decider = decider;
        Ok(cached)
    }

    fn new(loaded: Loaded, ports: Ports, cancel: CancelHandle) -> Self {
        Self {
            loaded,
            ports,
            generation: Generation::default(),
            schedule: None,
            decider: None,
            ran: Vec::new(),
            refresh_next: false,
            cancel,
        }
    }

    /// What takes and gives as the original does.
    fn face(&self) -> &Session {
        match &self.loaded {
            Loaded::Gated(session) => session,
            Loaded::Variants(sessions) => sessions.start(),
        }
    }

    /// Evaluations of the schedule that is followed.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.schedule.as_ref().map_or(self.ports.steps, Vec::len)
    }

    /// What the model says of itself: its kinds, schedules and cached values; none where it was
    /// compiled before it had kinds.
    #[must_use]
    pub fn sidecar(&self) -> Option<&Sidecar> {
        self.ports.description.as_ref().map(|d| &d.sidecar)
    }

    /// From the next generation on, follows this schedule in place of the one that the model counts.
    ///
    /// # Errors
    /// [`EngineError::UnknownKind`], and [`EngineError::InGeneration`] before a
    /// [`reset`](Self::reset).
    pub fn follow(&mut self, schedule: &Schedule) -> Result<()> {
        if self.generation.step() > 0 {
            let file = self.face().file().to_owned();
            return Err(EngineError::InGeneration { file });
        }
        let rows = self.sidecar().map_or(0, |s| s.weights);
        if let Some(&row) = schedule.rows.iter().find(|row| **row > rows) {
            let file = self.face().file().to_owned();
            return Err(EngineError::UnknownRow { file, row, rows });
        }
        let kinds = schedule.kinds.iter().enumerate();
        let steps = kinds.map(|(evaluation, name)| self.naming(name, schedule.row(evaluation)));
        let steps = steps.collect::<Result<_>>()?;
        let sidecar = self.sidecar();
        self.decider = sidecar.and_then(|sidecar| Decider::of(schedule, sidecar));
        self.schedule = Some(steps);
        Ok(())
    }

    /// Kinds of the evaluations of this generation so far, by position in the sidecar. Of a gated graph
    /// that counts and decides by itself they are those of its schedule: [`follow`](Self::follow) one to
    /// know.
    #[must_use]
    pub fn ran(&self) -> &[usize] {
        &self.ran
    }

    /// The value of `hgc.step` that names a kind, with a row of the weights.
    fn naming(&self, name: &str, row: usize) -> Result<i64> {
        let sidecar = self.sidecar();
        let step = sidecar.and_then(|s| Some(s.step(s.kind(name)?, row)));
        step.ok_or_else(|| {
            let kinds = sidecar.iter().flat_map(|s| &s.kinds);
            let known: Vec<&str> = kinds.map(|k| k.name.as_str()).collect();
            EngineError::UnknownKind {
                file: self.face().file().to_owned(),
                kind: name.to_owned(),
                known: match known.is_empty() {
                    true => "none: compile it again".to_owned(),
                    false => known.join(", "),
                },
            }
        })
    }

    /// The step the next evaluation has.
    #[must_use]
    pub fn next_step(&self) -> usize {
        self.generation.step()
    }

    /// The loaded model, for its inputs, outputs and metadata.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.face()
    }

    /// A handle to cancel evaluations from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Evaluates the next step on the inputs of the original model and returns its
    /// outputs, in order.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>> {
        let inputs = feeds(inputs);
        let step = self.step(&inputs);
        to_host(self.evaluate(&inputs, (step, false), self.steps())?)
    }

    /// Like [`run`](Self::run), but the outputs stay where the provider has them, and inputs may
    /// lie there already: a ControlNet's residuals reach the UNet without a way through the host.
    ///
    /// An input that cached values depend on must be the same [`DeviceTensor`] on every step.
    pub fn run_on_device(
        &mut self,
        inputs: &[(&str, Feed<'_>)],
    ) -> Result<Vec<(String, DeviceTensor)>> {
        let step = self.step(inputs);
        self.evaluate(inputs, (step, true), self.steps())
    }

    /// What `hgc.step` is given: the count, or the kind of a schedule that the model does not count.
    fn step(&mut self, inputs: &[(&str, Feed<'_>)]) -> i64 {
        let step = self.generation.step();
        if self.refresh_next || self.generation.asks_for_refresh(inputs) {
            return REFRESH;
        }
        let instead = self.decider.as_mut().and_then(|d| d.instead(step, inputs));
        let instead = instead.map(str::to_owned);
        if let Some(Ok(code)) = instead.map(|kind| self.naming(&kind, 0)) {
            return code;
        }
        let named = self.schedule.as_ref().and_then(|s| s.get(step));
        named.map_or(i64::try_from(step).unwrap_or(i64::MAX), |step| *step)
    }

    /// Like [`run`](Self::run), but as the kind of that name, whatever the schedule says. It counts
    /// as one evaluation.
    pub fn run_as(
        &mut self,
        kind: &str,
        inputs: &[(&str, &Tensor)],
    ) -> Result<Vec<(String, Tensor)>> {
        let step = self.naming(kind, 0)?;
        // A caller that names kinds needs no schedule.
        to_host(self.evaluate(&feeds(inputs), (step, false), usize::MAX)?)
    }

    /// Like [`run`](Self::run), but recomputes everything whatever the schedule says.
    /// It counts as one evaluation, and may be given another prompt or control image.
    pub fn run_forced_refresh(
        &mut self,
        inputs: &[(&str, &Tensor)],
    ) -> Result<Vec<(String, Tensor)>> {
        to_host(self.evaluate(&feeds(inputs), (REFRESH, false), self.steps())?)
    }

    /// Makes the next evaluation recompute everything, whatever the schedule says: for one on which
    /// an input jumps.
    pub fn refresh_next(&mut self) {
        self.refresh_next = true;
    }

    /// Starts another generation: drops all caches, a failure and a cancellation,
    /// and goes back to step 0.
    pub fn reset(&mut self) -> Result<()> {
        self.generation = Generation::default();
        self.refresh_next = false;
        self.ran.clear();
        if let Some(decider) = &mut self.decider {
            decider.begin();
        }
        self.forget();
        self.cancel.clear().map_err(|source| EngineError::Run {
            file: self.face().file().to_owned(),
            source,
        })
    }

    /// Ends profiling and returns the profile, or, of variants, one a kind.
    pub fn end_profiling(&mut self) -> Result<Vec<std::path::PathBuf>> {
        match &mut self.loaded {
            Loaded::Gated(session) => Ok(vec![session.end_profiling()?]),
            Loaded::Variants(sessions) => sessions.end_profiling(),
        }
    }

    fn evaluate(
        &mut self,
        given: &[(&str, Feed<'_>)],
        (step, stay): (i64, bool),
        most: usize,
    ) -> Result<Vec<(String, DeviceTensor)>> {
        self.face().check_inputs(&self.ports.inputs, given)?;
        let file = self.face().file().to_owned();
        let admitted = self
            .generation
            .admit(&file, (step, most), given)
            .and_then(|()| self.generation.admit_kind(&file, &self.ports, step));
        if let Err(error) = admitted {
            if let Some(reason) = error.change() {
                self.end(reason);
            }
            return Err(error);
        }
        if self.cancel.is_cancelled() {
            return Err(self.stop(None));
        }
        let outputs = match &mut self.loaded {
            Loaded::Gated(session) => session.model.evaluate(&self.ports, given, step, stay),
            Loaded::Variants(sessions) => {
                let description = self.ports.description.as_ref();
                let named = description.and_then(|d| d.named(step));
                sessions.evaluate(named.unwrap_or_default(), given)
            }
        };
        match outputs {
            Ok(outputs) => {
                self.refresh_next = false;
                let description = self.ports.description.as_ref();
                let kind = description.and_then(|d| d.kind(step)).unwrap_or_default();
                if let Some(decider) = &mut self.decider {
                    decider.advance(kind, given);
                }
                self.ran.push(kind);
                self.generation.advance(&self.ports, step, given);
                Ok(outputs)
            }
            Err(source) => Err(self.stop(Some(source))),
        }
    }

    /// Ends the generation after a failure or, without one, a cancellation.
    fn stop(&mut self, failure: Option<Source>) -> EngineError {
        match failure {
            Some(source) if !self.cancel.is_cancelled() => {
                self.end(format!("an evaluation failed: {source}"));
                self.face().failed(source)
            }
            _ => {
                self.end("an evaluation was cancelled");
                let file = self.face().file().to_owned();
                EngineError::Cancelled { file }
            }
        }
    }

    fn forget(&mut self) {
        match &mut self.loaded {
            Loaded::Gated(session) => session.model.forget(),
            Loaded::Variants(sessions) => sessions.forget(),
        }
    }

    fn end(&mut self, reason: impl Into<String>) {
        self.forget();
        self.generation.end(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_move_between_threads() {
        fn moves<T: Send + 'static>() {}
        moves::<CachedSession>();
        moves::<Session>();
        moves::<CancelHandle>();
    }
}
