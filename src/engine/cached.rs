//! A rewritten model, called like the original.

use super::Engine;
use super::cancel::CancelHandle;
use super::device::{DeviceTensor, Feed, feeds, to_host};
use super::error::{EngineError, Result, Source};
use super::model::ModelSource;
use super::session::{Session, SessionOptions};
use super::state::{Generation, Ports};
use super::tensor::Tensor;

/// A session of a rewritten model that owns the step counter and the caches.
///
/// A *generation* is a run of evaluations between two resets, at most as many as
/// the model's schedule has steps. Its first evaluation fixes the shapes of all
/// inputs and the values of those that cached values depend on; an evaluation that
/// breaks this is refused without running, and like a failed or cancelled one it ends
/// the generation: until [`reset`](CachedSession::reset) every further one is refused,
/// so that no caller goes on with a prompt that it has replaced. No cache outlives a
/// generation.
#[derive(Debug)]
pub struct CachedSession {
    session: Session,
    ports: Ports,
    generation: Generation,
    cancel: CancelHandle,
}

impl CachedSession {
    /// Loads a rewritten model.
    pub fn open(
        engine: &Engine,
        source: impl Into<ModelSource>,
        options: &SessionOptions,
    ) -> Result<Self> {
        let options = SessionOptions {
            no_memory_pattern: true,
            ..options.clone()
        };
        let mut session = Session::load(engine, source, &options)?;
        let ports = Ports::of(&session)?;
        let interrupt = session
            .model
            .keep_caches()
            .map_err(|source| EngineError::Load {
                file: session.file().to_owned(),
                source,
            })?;
        Ok(Self {
            session,
            ports,
            generation: Generation::default(),
            cancel: CancelHandle::new(interrupt),
        })
    }

    /// Evaluations of the schedule.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.ports.steps
    }

    /// The step the next evaluation has.
    #[must_use]
    pub fn next_step(&self) -> usize {
        self.generation.step()
    }

    /// The loaded model, for its inputs, outputs and metadata.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A handle to cancel evaluations from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Evaluates the next step on the inputs of the original model and returns its
    /// outputs, in order.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>> {
        let outputs = self.evaluate(&feeds(inputs), (self.step(), false))?;
        to_host(outputs)
    }

    /// Like [`run`](Self::run), but the outputs stay where the provider has them, and inputs may
    /// lie there already: a ControlNet's residuals reach the UNet without a way through the host.
    ///
    /// An input that cached values depend on must be the same [`DeviceTensor`] on every step.
    pub fn run_on_device(
        &mut self,
        inputs: &[(&str, Feed<'_>)],
    ) -> Result<Vec<(String, DeviceTensor)>> {
        self.evaluate(inputs, (self.step(), true))
    }

    fn step(&self) -> i64 {
        i64::try_from(self.generation.step()).unwrap_or(i64::MAX)
    }

    /// Like [`run`](Self::run), but recomputes everything whatever the schedule says.
    /// It counts as one evaluation.
    pub fn run_forced_refresh(
        &mut self,
        inputs: &[(&str, &Tensor)],
    ) -> Result<Vec<(String, Tensor)>> {
        to_host(self.evaluate(&feeds(inputs), (-1, false))?)
    }

    /// Starts another generation: drops all caches, a failure and a cancellation,
    /// and goes back to step 0.
    pub fn reset(&mut self) -> Result<()> {
        self.generation = Generation::default();
        self.session.model.forget();
        self.cancel.clear().map_err(|source| EngineError::Run {
            file: self.session.file().to_owned(),
            source,
        })
    }

    /// Ends profiling and returns the path of the profile.
    pub fn end_profiling(&mut self) -> Result<std::path::PathBuf> {
        self.session.end_profiling()
    }

    fn evaluate(
        &mut self,
        given: &[(&str, Feed<'_>)],
        (step, stay): (i64, bool),
    ) -> Result<Vec<(String, DeviceTensor)>> {
        self.session.check_inputs(&self.ports.inputs, given)?;
        let admitted = self
            .generation
            .admit(self.session.file(), &self.ports, given);
        if let Err(error) = admitted {
            if let Some(reason) = error.change() {
                self.end(reason);
            }
            return Err(error);
        }
        if self.cancel.is_cancelled() {
            return Err(self.stop(None));
        }
        let model = &mut self.session.model;
        match model.evaluate(&self.ports, given, step, stay) {
            Ok(outputs) => {
                self.generation.advance(&self.ports, given);
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
                self.session.failed(source)
            }
            _ => {
                self.end("an evaluation was cancelled");
                let file = self.session.file().to_owned();
                EngineError::Cancelled { file }
            }
        }
    }

    fn end(&mut self, reason: impl Into<String>) {
        self.session.model.forget();
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
