//! The calling convention of a compiled model: names and metadata that the compiler writes, that
//! drivers read, and that `strip` takes away.

use crate::onnx::proto::ModelProto;

/// Prefix of everything the compiler inserts.
pub const PREFIX: &str = "hgc.";
/// Input: number of evaluations since the generation began, int64 scalar; -1 - k names the kind k, so
/// -1 forces a refresh. Where a plan has weights, -1 - k - K r names the kind k of K and the row r of
/// the weights.
pub const STEP: &str = "hgc.step";
/// Inputs that take a cached value are called this and the name of the cache.
pub const PAST_PREFIX: &str = "hgc.past.";
/// Outputs that return a cached value are called this and the name of the cache.
pub const PRESENT_PREFIX: &str = "hgc.present.";
/// In a gated graph the row of the tables of weights for this evaluation, int64 scalar: 0 holds. An
/// input of variants that weigh, which have no `hgc.step`.
pub const ROW: &str = "hgc.row";
/// In a gated graph the position of this evaluation's kind, int64 scalar.
pub const KIND: &str = "hgc.kind";
/// Cache of the guidance difference.
pub const GUIDANCE: &str = "guidance";

/// Caches of the latent and the timestep of the last refresh, where a plan decides while the model runs.
pub const ANCHOR_LATENT: &str = "anchor.latent";
/// See [`ANCHOR_LATENT`].
pub const ANCHOR_TIME: &str = "anchor.time";

/// Counts of evaluations since that refresh, and of how often the gate has fired.
pub const ANCHOR: &str = "anchor";
/// See [`ANCHOR`].
pub const FIRED: &str = "fired";

/// Input that carries the cache `name`.
#[must_use]
pub fn past(name: &str) -> String {
    format!("{PAST_PREFIX}{name}")
}

/// Output that carries the cache `name`.
#[must_use]
pub fn present(name: &str) -> String {
    format!("{PRESENT_PREFIX}{name}")
}

/// What the name of a cache of a slope ends with.
pub const SLOPE_SUFFIX: &str = ".slope";

/// Cache of the slope beside the cache `name`.
#[must_use]
pub fn slope(name: &str) -> String {
    format!("{name}{SLOPE_SUFFIX}")
}

/// Cache of the scales beside the cache `name`, where that is kept in 8 bits.
#[must_use]
pub fn scale(name: &str) -> String {
    format!("{name}.scale")
}

/// What the name of a cache of a count begins with.
pub const SINCE_PREFIX: &str = "since.";

/// Cache of the number of evaluations since the gate `gate` refreshed.
#[must_use]
pub fn since(gate: &str) -> String {
    format!("{SINCE_PREFIX}{gate}")
}

/// Symbol of an open dimension of a cache.
#[must_use]
pub fn open_dim(cache: &str, axis: usize) -> String {
    format!("{PREFIX}{cache}.{axis}")
}

/// Whether the model was compiled by hgc.
#[must_use]
pub fn is_compiled(model: &ModelProto) -> bool {
    let ours = [key::LAYOUT, key::PLAN, key::KIND];
    let mut entries = model.metadata_props.iter();
    entries.any(|e| ours.contains(&e.key()))
}

/// Keys of `ModelProto.metadata_props`.
pub mod key {
    /// Version of the compiler.
    pub const VERSION: &str = "hgc.version";
    /// Policy of the plan; also on every inserted node.
    pub const POLICY: &str = "hgc.policy";
    /// Name of the file in the plan.
    pub const NAME: &str = "hgc.name";
    /// `unet`, `controlnet` or `merged`.
    pub const ROLE: &str = "hgc.role";
    /// Number of steps the schedules are for.
    pub const STEPS: &str = "hgc.steps";
    /// The whole plan, TOML.
    pub const PLAN: &str = "hgc.plan";
    /// Caches whose past and present may share one buffer, a name a line.
    pub const IN_PLACE: &str = "hgc.in_place";
    /// Old inputs that must stay the same over a generation, a name a line.
    pub const CONSTANT_INPUTS: &str = "hgc.constant_inputs";
    /// What a driver must know, JSON: see [`Sidecar`](crate::sidecar::Sidecar).
    pub const MODEL: &str = "hgc.model";
    /// The kind that a variant is.
    pub const KIND: &str = "hgc.kind";
    /// Where each original node, initializer and declaration went, JSON.
    pub const LAYOUT: &str = "hgc.layout";
    /// On an inserted node: the site that it belongs to.
    pub const SITE: &str = "hgc.site";
}
