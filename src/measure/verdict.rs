//! What is asked of a verification and what it answers.

use serde::Serialize;

use crate::analysis::shapes::Sizes;
use crate::engine::Provider;

/// How to verify.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Sizes of the made-up inputs.
    pub sizes: Sizes,
    /// Seed of the made-up inputs.
    pub seed: u64,
    /// Where to run.
    pub provider: Provider,
    /// Options of the provider.
    pub provider_options: Vec<(String, String)>,
}

/// One proof.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was proved.
    pub name: &'static str,
    /// Whether it holds.
    pub pass: bool,
    /// What was seen.
    pub detail: String,
}

/// The verdict on one file.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The rewritten file.
    pub file: String,
    /// Whether all checks hold.
    pub pass: bool,
    /// All gates on refresh give the original's bits; none where a tolerance applies.
    pub refresh_bitwise: Option<bool>,
    /// Reuse on unchanged inputs gives the original's bits; none where a tolerance applies.
    pub reuse_bitwise: Option<bool>,
    /// Just the planned nodes run, by the runtime's profile; none where the engine gives no
    /// profile of nodes, and so no proof.
    pub executed: Option<bool>,
    /// Largest difference to the expected outputs over a generation; infinite (null in JSON)
    /// where the rewritten model does not run.
    pub max_abs_diff: f64,
    /// Allowed difference.
    pub tolerance: f64,
    /// All checks.
    pub checks: Vec<Check>,
}
