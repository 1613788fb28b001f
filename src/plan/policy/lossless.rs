//! `lossless`: cache only what is the same on every step.

use super::{Decision, Given, Policy, Use};

/// Cache only what is the same on every step.
pub struct Lossless;

impl Policy for Lossless {
    fn name(&self) -> &'static str {
        "lossless"
    }

    fn about(&self) -> &'static str {
        "cache only what is the same on every step"
    }

    fn uses(&self) -> &'static [Use] {
        &[]
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        Decision {
            invariant: true,
            ..given.nothing()
        }
    }
}
