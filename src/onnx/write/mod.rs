//! Writing: all files of a run appear together or not at all, and inputs stay as they are.

mod copy;
mod error;
mod guard;
mod relocate;
mod spill;
mod transaction;

pub use error::WriteError;
pub use transaction::{MAX_INLINE, Transaction};
