//! Stopping an evaluation from another thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ort::session::RunOptions;

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
    options: Option<RunOptions>,
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

impl CancelHandle {
    pub(super) fn new(options: Option<RunOptions>) -> Self {
        Self(Arc::new(Shared {
            requested: AtomicBool::new(false),
            options,
        }))
    }

    /// Cancels the evaluation that is running, or else the next one.
    pub fn cancel(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        if let Some(options) = &self.0.options
            && let Err(error) = options.terminate()
        {
            tracing::warn!(%error, "the run cannot be interrupted; it stops at its end");
        }
    }

    /// Whether [`cancel`](Self::cancel) was called since the last reset.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    pub(super) fn clear(&self) -> ort::Result<()> {
        self.0.requested.store(false, Ordering::SeqCst);
        self.0
            .options
            .as_ref()
            .map_or(Ok(()), RunOptions::unterminate)
    }

    pub(super) fn options(&self) -> Option<&RunOptions> {
        self.0.options.as_ref()
    }
}
