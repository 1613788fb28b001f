//! A plan for one pipeline, one sampler and one number of evaluations, found by runs.
//!
//! A formula does not know which evaluation of which model may read a cache: on one pipeline forecasts
//! win, on another they ruin the picture, and early errors are fed back where late ones are not. So
//! schedules are tried: a [`Lab`] is one compiled pipeline that has every kind of evaluation, and runs
//! any schedule over them without being compiled or loaded again; a [`search`](search::search) looks
//! among schedules under a budget of MACs for the one whose final latents are nearest to those of the
//! original. Last, weights are fitted by which cached values move on between refreshes.

mod case;
mod columns;
mod error;
mod forecast;
mod lab;
mod range;
mod recorder;
pub mod search;
mod starts;
mod timing;
mod tuner;

pub use case::Case;
pub use columns::{Columns, Setting};
pub use error::TuneError;
pub use forecast::Forecast;
pub use lab::Lab;
pub use range::{Allowance, Choice};
pub use timing::Unit;
pub use tuner::{Aim, Fit, Runs, Setup, Tuned, Tuner, TunerOptions};
