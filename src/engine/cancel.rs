//! Stopping an evaluation from another thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::backend::Interrupt;
use super::error::Source;

/// Cancels evaluations of one [`CachedSession`](super::CachedSession).
///
/// ONNX Runtime stops within the run, after the node it is at; the embedded engine
/// finishes the run and stops before the next one. The generation has to be reset
/// afterwards, which also clears the request.
#[derive(Clone)]
pub struct CancelHandle(Arc<Shared>);

struct Shared {
    requested: AtomicBool,
    /// `None` where runs cannot be interrupted.
    interrupt: Option<Box<dyn Interrupt>>,
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

impl CancelHandle {
    pub(super) fn new(interrupt: Option<Box<dyn Interrupt>>) -> Self {
        Self(Arc::new(Shared {
            requested: AtomicBool::new(false),
            interrupt,
        }))
    }

    /// Cancels the evaluation that is running, or else the next one.
    pub fn cancel(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        if let Some(interrupt) = &self.0.interrupt
            && let Err(error) = interrupt.interrupt()
        {
            tracing::warn!(%error, "the run cannot be interrupted; it stops at its end");
        }
    }

    /// Whether [`cancel`](Self::cancel) was called since the last reset.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    pub(super) fn clear(&self) -> Result<(), Source> {
        self.0.requested.store(false, Ordering::SeqCst);
        self.0.interrupt.as_ref().map_or(Ok(()), |i| i.clear())
    }
}
