//! Tells a cycle from nodes that are merely out of order.

use std::collections::HashMap;

use crate::onnx::proto::{GraphProto, NodeProto};

/// A node on a cycle, if there is one. `defs` gives, by value, one more than the index of the
/// node that defines it, and zero for values no node defines.
pub(super) fn node_on_cycle(nodes: &[NodeProto], defs: &HashMap<&str, usize>) -> Option<usize> {
    let needs: Vec<Vec<usize>> = nodes.iter().map(|n| producers(n, defs)).collect();
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut users = vec![Vec::new(); nodes.len()];
    for (node, needs) in needs.iter().enumerate() {
        for need in needs {
            users[*need].push(node);
        }
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|n| waiting[*n] == 0).collect();
    while let Some(node) = ready.pop() {
        for user in &users[node] {
            waiting[*user] -= 1;
            if waiting[*user] == 0 {
                ready.push(*user);
            }
        }
    }
    // Nodes still waiting are on a cycle or behind one; going upstream ends on it.
    let mut at = waiting.iter().position(|w| *w > 0)?;
    let mut seen = vec![false; nodes.len()];
    while !seen[at] {
        seen[at] = true;
        at = *needs[at].iter().find(|n| waiting[**n] > 0)?;
    }
    Some(at)
}

/// Indices of the nodes whose values `node` reads, also from within its subgraphs.
fn producers(node: &NodeProto, defs: &HashMap<&str, usize>) -> Vec<usize> {
    let mut found = Vec::new();
    collect(node, defs, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(node: &NodeProto, defs: &HashMap<&str, usize>, found: &mut Vec<usize>) {
    let ready = node.input.iter().filter_map(|name| defs.get(name.as_str()));
    found.extend(ready.filter_map(|ready| ready.checked_sub(1)));
    let inner = node.subgraphs().flat_map(|g: &GraphProto| &g.node);
    inner.for_each(|n| collect(n, defs, found));
}
