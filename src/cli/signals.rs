//! Signals: whatever comes, temporary files go.
//!
//! This module may use `unsafe`: a handler that runs in the place of a fault can do next to
//! nothing, and the standard library has no safe way to install one.
#![allow(unsafe_code)]

use super::terminal::note;

/// Installs the handlers.
pub fn install() {
    let handled = ctrlc::set_handler(|| {
        hgc::unstable::onnx::abandon_transactions();
        note("interrupted");
        std::process::exit(130);
    });
    if let Err(error) = handled {
        tracing::debug!("signals end the process at once: {error}");
    }
    #[cfg(unix)]
    if let Err(error) = faults::install() {
        tracing::debug!("faults end the process at once: {error}");
    }
}

/// Ends the process after a fault: the message, the exit code of bad input.
fn end(message: &str) -> ! {
    hgc::unstable::onnx::abandon_transactions();
    super::terminal::error(&anyhow::anyhow!("{message}"));
    std::process::exit(2);
}

#[cfg(unix)]
mod faults {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::OnceLock;

    use nix::libc;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};

    /// Where the handler says that there was a fault.
    static WRITER: OnceLock<OwnedFd> = OnceLock::new();

    /// Reads of a map whose file has become shorter are a bus error, and writes beyond the limit
    /// of a file's size a signal of their own.
    pub(super) fn install() -> nix::Result<()> {
        let (reader, writer) = nix::unistd::pipe()?;
        let _ = WRITER.set(writer);
        std::thread::spawn(move || {
            let mut byte = [0u8];
            if File::from(reader).read_exact(&mut byte).is_ok() {
                super::end(
                    "a file was cut short or became unreadable while it was read; nothing was \
                     written: try again when nothing else writes to the model's files",
                );
            }
        });
        let action = SigAction::new(
            SigHandler::Handler(on_fault),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler calls nothing but `write` and `pause`, which may be called in a
        // handler; it reads an initialised static.
        unsafe { sigaction(Signal::SIGBUS, &action)? };
        // SAFETY: to ignore a signal runs no code. The write that caused it returns EFBIG.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn)? };
        Ok(())
    }

    /// Wakes the thread that cleans up, and waits for it to end the process.
    extern "C" fn on_fault(_: libc::c_int) {
        if let Some(writer) = WRITER.get() {
            let byte = 0u8;
            // SAFETY: one byte of this frame goes to an open pipe.
            unsafe { libc::write(writer.as_raw_fd(), std::ptr::from_ref(&byte).cast(), 1) };
        }
        loop {
            // SAFETY: waits for a signal, nothing else.
            unsafe { libc::pause() };
        }
    }
}
