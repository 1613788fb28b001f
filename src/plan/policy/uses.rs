//! The parameters of one policy.

use super::Given;
use crate::plan::parameter::{Parameter, Value};

/// A parameter that a policy takes.
#[derive(Debug)]
pub struct Use {
    /// The parameter.
    pub parameter: &'static Parameter,
    /// What it is where it is not told.
    pub otherwise: Otherwise,
    /// The parameter in whose place it stands when it is told.
    pub replaces: Option<&'static Parameter>,
}

/// What a parameter is where it is not told.
#[derive(Debug)]
pub enum Otherwise {
    /// This value.
    Value(&'static str),
    /// This value, which changes nothing: a plan does not tell it.
    Neutral(&'static str),
    /// What follows from the number of steps or the graph, and how it is told.
    Derived(fn(&Given<'_>) -> Value, &'static str),
    /// Nothing.
    Absent,
}

impl Use {
    /// With a value where it is not told.
    #[must_use]
    pub const fn value(parameter: &'static Parameter, text: &'static str) -> Self {
        Self::new(parameter, Otherwise::Value(text))
    }

    /// With a value that changes nothing.
    #[must_use]
    pub const fn neutral(parameter: &'static Parameter, text: &'static str) -> Self {
        Self::new(parameter, Otherwise::Neutral(text))
    }

    /// With a value that follows from the steps or the graph.
    #[must_use]
    pub const fn derived(
        parameter: &'static Parameter,
        from: fn(&Given<'_>) -> Value,
        doc: &'static str,
    ) -> Self {
        Self::new(parameter, Otherwise::Derived(from, doc))
    }

    /// Nothing where it is not told; it stands in place of `replaced`.
    #[must_use]
    pub const fn instead_of(parameter: &'static Parameter, replaced: &'static Parameter) -> Self {
        Self {
            parameter,
            otherwise: Otherwise::Absent,
            replaces: Some(replaced),
        }
    }

    const fn new(parameter: &'static Parameter, otherwise: Otherwise) -> Self {
        Self {
            parameter,
            otherwise,
            replaces: None,
        }
    }

    /// The default for people; none where there is none.
    #[must_use]
    pub fn default_text(&self) -> Option<&'static str> {
        match self.otherwise {
            Otherwise::Value(text) | Otherwise::Neutral(text) | Otherwise::Derived(_, text) => {
                Some(text)
            }
            Otherwise::Absent => None,
        }
    }
}
