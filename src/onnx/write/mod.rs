//! Writing: all files of a run appear together or not at all, and inputs stay as they are.

mod appear;
mod copy;
mod error;
mod guard;
mod open;
mod relocate;
mod spill;
mod transaction;

pub use error::WriteError;
pub use open::abandon_transactions;
pub use transaction::{MAX_INLINE, Transaction};
