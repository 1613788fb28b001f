//! The proofs of the rewrite, run on every fixture and every policy; and proof that
//! they catch a rewrite that is wrong.

#![allow(clippy::unwrap_used)]

#[path = "../common/fixtures.rs"]
mod fixtures;

mod adaptive;
mod broken;
mod caches;
mod changed;
mod fitted;
mod fixed;
mod forms;
mod joined;
mod own_policy;
mod policies;
mod residuals;
mod support;
mod tuned;
mod unusual;
