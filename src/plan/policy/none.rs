//! `none`: cache nothing.

use super::{Decision, Given, Policy, Use};

/// Cache nothing.
pub struct Nothing;

impl Policy for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn about(&self) -> &'static str {
        "cache nothing"
    }

    fn uses(&self) -> &'static [Use] {
        &[]
    }

    fn decide(&self, given: &Given<'_>) -> Decision {
        given.nothing()
    }
}
