//! Why a plan does not fit a graph.

/// A plan that does not fit its graph, or contradicts itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum LayoutError {
    #[error("site {site:?}: the graph has no value {tensor:?}")]
    UnknownTensor { site: String, tensor: String },
    #[error("site {site:?}: value {tensor:?} is an input or a constant; there is nothing to cache")]
    NotComputed { site: String, tensor: String },
    #[error("site {site:?}: the shape or type of {tensor:?} could not be inferred")]
    UnknownShape { site: String, tensor: String },
    #[error("site {site:?}: there is no gate {gate:?}")]
    UnknownGate { site: String, gate: String },
    #[error("two sites or gates of one model are called {name:?}")]
    DuplicateName { name: String },
    #[error(
        "name {name:?} of a site or gate: use letters, digits, '.', '_' and '-', not \
             \"guidance\", which is taken, and for a gate no ending \".table\" or \".t1\""
    )]
    BadName { name: String },
    #[error("sites {first:?} and {second:?} would both have a cache called {cache:?}; rename one")]
    DuplicateCache {
        cache: String,
        first: String,
        second: String,
    },
    #[error("the plan has no steps")]
    NoSteps,
    #[error("value {tensor:?} is cached by both {first:?} and {second:?}")]
    DuplicateTensor {
        tensor: String,
        first: String,
        second: String,
    },
    #[error("site {site:?}: everything it needs is needed elsewhere too; nothing is saved")]
    EmptyRegion { site: String },
    #[error("sites {first:?} and {second:?} overlap without one lying inside the other")]
    Overlap { first: String, second: String },
    #[error(
        "site {site:?}: one of its values is needed to compute another one of them from \
             outside; cache them as two sites"
    )]
    Cycle { site: String },
    #[error("gate {gate:?} has {found} steps, the plan {expected}")]
    ScheduleLength {
        gate: String,
        expected: usize,
        found: usize,
    },
    #[error("gate {gate:?} reuses on step 0, where there is nothing to reuse")]
    FirstStep { gate: String },
    #[error("guidance on step 0 must be full")]
    FirstGuidance,
    #[error("site {site:?} refreshes on step {step}, but the site {outer:?} around it does not")]
    InnerRefresh {
        site: String,
        outer: String,
        step: usize,
    },
    #[error(
        "site {site:?} is read on step {step}, which runs the whole batch, but keeps the \
             prompted half only; refresh it there, or keep more with rows = \"all\""
    )]
    ReadOnFull { site: String, step: usize },
    #[error(
        "site {site:?} takes a slope on step {step}, which runs the whole batch, from a refresh \
             that ran half of it; write N for that step in the gate's schedule"
    )]
    SlopeOfHalf { site: String, step: usize },
    #[error(
        "site {site:?}: shape of {tensor:?} is unknown or its batch axis cannot be told; \
             half-batch steps need it"
    )]
    BatchAxis { site: String, tensor: String },
    #[error("the batch of this model is fixed; it cannot run half of it on step {step}")]
    FixedBatch { step: usize },
}
