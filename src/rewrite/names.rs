//! Names that a rewritten model shows to its callers.

use crate::onnx::proto::NodeProto;

/// Prefix of everything the compiler inserts.
pub const PREFIX: &str = "hgc.";
/// Input: number of evaluations since the generation began, int64 scalar.
pub const STEP: &str = "hgc.step";
/// Cache of the guidance difference.
pub const GUIDANCE: &str = "guidance";

/// Input that carries the cache `name`.
#[must_use]
pub fn past(name: &str) -> String {
    format!("hgc.past.{name}")
}

/// Output that carries the cache `name`.
#[must_use]
pub fn present(name: &str) -> String {
    format!("hgc.present.{name}")
}

/// Cache of the slope beside the cache `name`.
#[must_use]
pub fn slope(name: &str) -> String {
    format!("{name}.slope")
}

/// Prefix of the names that original nodes without one get, so that a profile can tell them
/// apart.
const GIVEN: &str = "hgc.node.";

/// The name of the original node at `index`; one is given where it has none.
#[must_use]
pub fn of_node(node: &NodeProto, index: usize) -> String {
    match node.name.as_deref() {
        None => format!("{GIVEN}{index}"),
        Some("") => format!("{GIVEN}{index}.empty"),
        Some(name) => name.to_owned(),
    }
}

/// Takes back a name that [`of_node`] gave.
pub fn take_back(node: &mut NodeProto) {
    if let Some(rest) = node.name().strip_prefix(GIVEN) {
        node.name = rest.ends_with(".empty").then(String::new);
    }
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
    /// Where each original node, initializer and declaration went, JSON.
    pub const LAYOUT: &str = "hgc.layout";
    /// On an inserted node: the site that it belongs to.
    pub const SITE: &str = "hgc.site";
}
