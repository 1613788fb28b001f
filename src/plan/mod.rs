//! What to cache where and when, as data that a person can read and edit.
//!
//! A [`policy`] turns analysed graphs into a [`Plan`]; a [`Layout`](layout::Layout)
//! places the plan on a graph and checks it; [`cost`] counts what it saves.

pub mod cost;
pub mod data;
pub mod layout;
pub mod parameter;
pub mod policy;
pub mod region;
pub mod schedule;
mod text;

pub use data::{Gate, Guidance, ModelPlan, Plan, Prompted, Refusal, Reuse, Rows, Site};
