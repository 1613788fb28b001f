//! What to cache where and when, as data that a person can read and edit.
//!
//! A [`policy`] turns analysed graphs into a [`Plan`]; a [`Layout`](layout::Layout)
//! places the plan on a graph and checks it; [`cost`] counts what it saves.

mod adaptive;
mod choice;
pub mod cost;
pub mod data;
mod fitted;
pub mod flow;
pub mod kinds;
pub mod layout;
pub mod limit;
pub mod parameter;
pub mod policy;
pub mod region;
pub mod schedule;
mod sound;
pub mod storage;
mod text;
mod weights;
mod written;

pub use adaptive::{Adaptive, Given, Memory, told_of_decisions};
pub use choice::choose;
pub use data::{CacheType, Gate, Guidance, ModelPlan, Plan, Prompted, Refusal, Reuse, Rows, Site};
pub use fitted::Fitted;
pub use kinds::{Kind, Schedule};
pub use sound::KindError;
pub use weights::Weights;
