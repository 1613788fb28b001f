//! How far the work is: a bar on a terminal, a line now and then elsewhere.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal::{is_quiet, is_watched, note};

/// Between two lines where nobody watches.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How far the work is.
pub struct Progress {
    /// Hidden where there is no terminal.
    bar: ProgressBar,
    what: RefCell<String>,
    told: Cell<Instant>,
}

impl Progress {
    /// Of `what`, drawn by `template` (see indicatif).
    pub fn new(what: &str, template: &str) -> Self {
        let bar = if is_watched() && !is_quiet() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self {
            bar,
            what: RefCell::new(what.to_owned()),
            told: Cell::new(Instant::now()),
        }
    }

    /// What there is to do in all.
    pub fn set_length(&self, length: u64) {
        self.bar.set_length(length);
    }

    /// More to do.
    pub fn inc_length(&self, more: u64) {
        self.bar.inc_length(more);
    }

    /// What is done.
    pub fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        self.beat();
    }

    /// More is done.
    pub fn inc(&self, more: u64) {
        self.bar.inc(more);
        self.beat();
    }

    /// What goes on now.
    pub fn set_message(&self, what: impl Into<String>) {
        let what = what.into();
        self.bar.set_message(what.clone());
        self.what.replace(what);
    }

    /// Writes around the bar.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Everything is done.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn beat(&self) {
        if is_watched() || self.told.get().elapsed() < HEARTBEAT {
            return;
        }
        self.told.set(Instant::now());
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let percent = done.saturating_mul(100) / all.max(1);
        note(format_args!(
            "{}: {percent} % ({done} of {all})",
            self.what.borrow()
        ));
    }
}
