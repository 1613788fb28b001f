//! A plan for one pipeline, one sampler and one number of evaluations, found by runs.
//!
//! A formula does not know which evaluation of which model may read a cache: on one pipeline forecasts
//! win, on another they ruin the picture, and early errors are fed back where late ones are not. So
//! schedules are tried: a [`Lab`] is one compiled pipeline that has every kind of evaluation, and runs
//! any schedule over them without being compiled or loaded again. [Formulas](search::formulas) come first;
//! weights, by which cached values move on between refreshes, are fitted on the best of them; and with
//! these a [search](search::anneal) looks among schedules under a budget of MACs for those whose final
//! latents are nearest to the original's. Last, weights are fitted to the best few, and other pictures decide
//! between them.

mod adaptive;
mod case;
mod columns;
mod damping;
mod effort;
mod error;
mod finish;
mod forecast;
mod lab;
pub mod linear;
mod moves;
mod range;
mod recorder;
pub mod search;
mod starts;
mod surrogate;
mod timing;
mod tuner;

pub use case::Case;
pub use columns::{Columns, DEEPEST, Setting};
pub use error::TuneError;
pub use finish::{Fit, Tuned};
pub use forecast::Forecast;
pub use lab::Lab;
pub use range::{Allowance, Choice};
pub use timing::Unit;
pub use tuner::{Aim, Pictures, Runs, Setup, Tuner, TunerOptions};
