//! Names of nodes, original and given.

use crate::onnx::proto::NodeProto;

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
