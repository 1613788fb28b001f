//! Calls into libraries that may panic on models that are damaged or hostile.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread is about to become an error of one model: a panic hook
/// need not tell of it.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// Runs `call`; a panic inside gives its message.
///
/// What `call` was changing may be half changed then: drop it.
///
/// # Errors
/// The message of the panic.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CONTAINED.set(outer);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        text.unwrap_or("no message").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_a_message() {
        let index = 7;
        let error = contained(|| panic!("no row {index}"));
        assert_eq!(error, Err::<(), _>("no row 7".to_owned()));
        assert_eq!(contained(is_contained), Ok(true));
        assert!(!is_contained());
    }
}
