//! The order of nodes and gated sites in a scope.

use std::collections::{BinaryHeap, HashMap};

use super::{Item, Layout, LayoutError};
use crate::analysis::Analysis;
use crate::graph::NodeId;

/// Kahn's algorithm over the items of one scope, smallest original position first.
pub struct Order<'a, 'm> {
    layout: &'a Layout,
    analysis: &'a Analysis<'m>,
    items: Vec<(usize, Item)>,
    item_of: HashMap<NodeId, usize>,
}

impl<'a, 'm> Order<'a, 'm> {
    pub fn new(layout: &'a Layout, analysis: &'a Analysis<'m>, scope: Option<usize>) -> Self {
        let mut items = Vec::new();
        let mut item_of = HashMap::new();
        for (index, owner) in layout.owner.iter().enumerate() {
            if *owner == scope {
                item_of.insert(NodeId::new(index), items.len());
                items.push((index, Item::Node(NodeId::new(index))));
            }
        }
        for child in layout.children(scope) {
            let region = &layout.sites[child].region;
            // A site stands where its first cached value is made.
            let made = layout.sites[child].tensors.iter();
            let position = made.filter_map(|t| analysis.graph.producer(t.value)).min();
            for node in region.iter() {
                item_of.insert(NodeId::new(node), items.len());
            }
            items.push((position.map_or(0, NodeId::index), Item::Site(child)));
        }
        Self {
            layout,
            analysis,
            items,
            item_of,
        }
    }

    pub fn sort(self) -> Result<Vec<Item>, LayoutError> {
        let graph = &self.analysis.graph;
        let mut waiting = vec![0usize; self.items.len()];
        let mut followers: Vec<Vec<usize>> = vec![Vec::new(); self.items.len()];
        for (&node, &item) in &self.item_of {
            for value in graph.inputs_of(node) {
                let producer = graph.producer(*value).and_then(|p| self.item_of.get(&p));
                if let Some(&from) = producer.filter(|from| **from != item) {
                    followers[from].push(item);
                    waiting[item] += 1;
                }
            }
        }
        let mut ready: BinaryHeap<_> = (0..self.items.len())
            .filter(|i| waiting[*i] == 0)
            .map(|i| std::cmp::Reverse((self.items[i].0, i)))
            .collect();
        let mut sorted = Vec::with_capacity(self.items.len());
        while let Some(std::cmp::Reverse((_, item))) = ready.pop() {
            sorted.push(self.items[item].1);
            for &next in &followers[item] {
                waiting[next] -= 1;
                if waiting[next] == 0 {
                    ready.push(std::cmp::Reverse((self.items[next].0, next)));
                }
            }
        }
        if sorted.len() == self.items.len() {
            return Ok(sorted);
        }
        let stuck = self
            .items
            .iter()
            .enumerate()
            .find_map(|(i, (_, item))| match item {
                Item::Site(site) if waiting[i] > 0 => Some(*site),
                _ => None,
            });
        let site = stuck
            .map(|s| self.layout.sites[s].site.name.clone())
            .unwrap_or_default();
        Err(LayoutError::Cycle { site })
    }
}
