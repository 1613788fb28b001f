//! Values that subgraphs take from the graph around them.

use std::collections::HashSet;

use crate::onnx::proto::{GraphProto, NodeProto};

/// Names that the subgraphs of `node` read but do not define.
#[must_use]
pub fn captured_names(node: &NodeProto) -> Vec<&str> {
    let mut names = Vec::new();
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            free_names(graph, &HashSet::new(), &mut names);
        }
    }
    names
}

fn free_names<'g>(graph: &'g GraphProto, outer: &HashSet<&'g str>, free: &mut Vec<&'g str>) {
    let mut defined = outer.clone();
    defined.extend(graph.input.iter().map(|i| i.name()));
    defined.extend(graph.initializer.iter().map(|t| t.name()));
    defined.extend(
        graph
            .sparse_initializer
            .iter()
            .filter_map(|s| Some(s.values.as_ref()?.name())),
    );
    for node in &graph.node {
        free.extend(
            node.input
                .iter()
                .map(String::as_str)
                .filter(|n| !n.is_empty() && !defined.contains(n)),
        );
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                free_names(inner, &defined, free);
            }
        }
        defined.extend(node.output.iter().map(String::as_str));
    }
    free.extend(
        graph
            .output
            .iter()
            .map(|o| o.name())
            .filter(|n| !defined.contains(n)),
    );
}
