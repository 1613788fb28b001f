//! Tells a cycle from nodes that are merely out of order, and brings those into order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::onnx::proto::{GraphProto, NodeProto};

/// A node on a cycle, if there is one. `defs` gives, by value, one more than the index of the
/// node that defines it, and zero for values no node defines.
pub(super) fn node_on_cycle(nodes: &[NodeProto], defs: &HashMap<&str, usize>) -> Option<usize> {
    let order = Order::of(nodes, defs);
    // Nodes still waiting are on a cycle or behind one; going upstream ends on it.
    let mut at = order.waiting.iter().position(|w| *w > 0)?;
    let mut seen = vec![false; nodes.len()];
    while !seen[at] {
        seen[at] = true;
        at = *order.needs[at].iter().find(|n| order.waiting[**n] > 0)?;
    }
    Some(at)
}

/// Brings nodes into topological order, the earlier one first where both could be next.
/// Nodes that form a cycle are left as they are.
pub fn sort(nodes: &mut Vec<NodeProto>) {
    let outputs = nodes.iter().enumerate();
    let defs: HashMap<&str, usize> = outputs
        .flat_map(|(i, n)| n.output.iter().map(move |name| (name.as_str(), i + 1)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let sorted = Order::of(nodes, &defs).sorted;
    if sorted.len() == nodes.len() {
        let mut taken: Vec<NodeProto> = std::mem::take(nodes);
        nodes.extend(sorted.into_iter().map(|n| std::mem::take(&mut taken[n])));
    }
}

/// Kahn's algorithm over nodes, the earliest that is ready first.
struct Order {
    /// By node, those whose results it reads.
    needs: Vec<Vec<usize>>,
    /// By node, how many of these could not be ordered.
    waiting: Vec<usize>,
    /// The nodes that could, in order.
    sorted: Vec<usize>,
}

impl Order {
    fn of(nodes: &[NodeProto], defs: &HashMap<&str, usize>) -> Self {
        let needs: Vec<Vec<usize>> = nodes.iter().map(|n| producers(n, defs)).collect();
        let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
        let mut users = vec![Vec::new(); nodes.len()];
        for (node, needs) in needs.iter().enumerate() {
            for need in needs {
                users[*need].push(node);
            }
        }
        let free = (0..nodes.len()).filter(|n| waiting[*n] == 0);
        let mut ready: BinaryHeap<_> = free.map(Reverse).collect();
        let mut sorted = Vec::with_capacity(nodes.len());
        while let Some(Reverse(node)) = ready.pop() {
            sorted.push(node);
            for user in &users[node] {
                waiting[*user] -= 1;
                if waiting[*user] == 0 {
                    ready.push(Reverse(*user));
                }
            }
        }
        Self {
            needs,
            waiting,
            sorted,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{attr_graph, make_node};

    fn sorted(mut nodes: Vec<NodeProto>) -> Vec<String> {
        sort(&mut nodes);
        nodes.iter().map(|n| n.name().to_owned()).collect()
    }

    #[test]
    fn readers_follow_what_they_read() {
        let branch = GraphProto {
            node: vec![make_node("Neg", "inner", ["late"], ["t"])],
            ..GraphProto::default()
        };
        let gate = make_node("If", "if", ["x"], ["y"]).with_attr(attr_graph("then_branch", branch));
        let last = make_node("Neg", "last", ["y"], ["z"]);
        let late = make_node("Neg", "late", ["x"], ["late"]);
        let free = make_node("Neg", "free", ["x"], ["w"]);
        assert_eq!(
            sorted(vec![last, gate, free, late]),
            ["free", "late", "if", "last"]
        );
    }

    #[test]
    fn a_cycle_stays() {
        let (a, b) = (["a"], ["b"]);
        let nodes = vec![make_node("Neg", "1", a, b), make_node("Neg", "2", b, a)];
        assert_eq!(sorted(nodes), ["1", "2"]);
    }
}
