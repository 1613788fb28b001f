//! Renaming of values in nodes, subgraphs included.

use std::collections::HashMap;

use crate::onnx::proto::{GraphProto, NodeProto};

/// New names by old name.
pub type Renames = HashMap<String, String>;

/// Renames what `node` reads and makes.
pub fn node(node: &mut NodeProto, renames: &Renames) {
    if renames.is_empty() {
        return;
    }
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(new) = renames.get(name) {
            name.clone_from(new);
        }
    }
    captures(node, renames);
}

/// Renames what the subgraphs of `node` take from outside.
fn captures(node: &mut NodeProto, renames: &Renames) {
    for attribute in &mut node.attribute {
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            graph(inner, renames);
        }
    }
}

fn graph(graph: &mut GraphProto, renames: &Renames) {
    // A name that the subgraph defines itself hides the outer one.
    let mut visible = renames.clone();
    let inputs = graph.input.iter().map(|i| i.name());
    for name in inputs.chain(graph.initializer.iter().map(|t| t.name())) {
        visible.remove(name);
    }
    for inner in &graph.node {
        for output in &inner.output {
            visible.remove(output);
        }
    }
    if visible.is_empty() {
        return;
    }
    for inner in &mut graph.node {
        for name in &mut inner.input {
            if let Some(new) = visible.get(name) {
                name.clone_from(new);
            }
        }
        captures(inner, &visible);
    }
    for output in &mut graph.output {
        if let Some(new) = visible.get(output.name()) {
            output.name = Some(new.clone());
        }
    }
}
