//! A model's plan placed on its graph: regions, nesting, and the proof that they fit.

use std::collections::{BinaryHeap, HashMap};

use super::data::{ModelPlan, Plan, Rows, Site};
pub use super::layout_error::LayoutError;
use super::region;
use super::schedule::{GuidanceStep, Schedule};
use crate::analysis::Analysis;
use crate::analysis::dims::Shape;
use crate::graph::{BitSet, NodeId, ValueId};

/// One value of a site.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The value.
    pub value: ValueId,
    /// Suffix of its cache's name: empty for the only one of a site.
    pub name: String,
    /// Its shape, if known.
    pub shape: Option<Shape>,
    /// Axis that carries the batch; none for a value that does not follow it.
    pub batch_axis: Option<usize>,
    /// Measured sizes rather than data: always held, never forecast or sliced.
    pub measure: bool,
}

/// A site on its graph.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The site as planned.
    pub site: Site,
    /// Its values.
    pub tensors: Vec<Tensor>,
    /// Nodes that run on a refresh only.
    pub region: BitSet,
    /// The innermost site around it.
    pub parent: Option<usize>,
    /// Its gate's schedule.
    pub schedule: Schedule,
}

/// All sites of one model on its graph.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Sites, outer before inner.
    pub sites: Vec<Placed>,
    /// For each node the innermost site whose region it is in.
    pub owner: Vec<Option<usize>>,
}

/// What runs in one scope, in an order that data flow allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A node.
    Node(NodeId),
    /// A gated site.
    Site(usize),
}

impl Layout {
    /// Places the sites of `plan` on the analysed graph and checks every rule.
    ///
    /// # Errors
    /// [`LayoutError`] naming the site, gate or value that does not fit.
    pub fn new(
        analysis: &Analysis<'_>,
        plan: &Plan,
        model: &ModelPlan,
    ) -> Result<Self, LayoutError> {
        check_names(plan, model)?;
        let mut sites = Vec::new();
        for site in &model.sites {
            sites.push(place(analysis, model, site)?);
        }
        check_distinct(analysis, &sites)?;
        check_caches(&sites)?;
        // Outer regions hold more nodes; a stable order keeps the plan's own.
        sites.sort_by_key(|s| std::cmp::Reverse(s.region.count()));
        nest(&mut sites)?;
        let mut owner = vec![None; analysis.graph.node_count()];
        for (i, site) in sites.iter().enumerate() {
            for node in site.region.iter() {
                owner[node] = Some(i);
            }
        }
        let layout = Self { sites, owner };
        layout.check_schedules(plan, model, analysis)?;
        layout.order(analysis, None)?;
        for site in 0..layout.sites.len() {
            layout.order(analysis, Some(site))?;
        }
        Ok(layout)
    }

    /// Whether the region of site `index` could run on `step`: all around it refresh.
    #[must_use]
    pub fn reached(&self, index: usize, step: usize) -> bool {
        let mut outer = self.sites[index].parent;
        while let Some(i) = outer {
            if !self.sites[i].schedule.refreshes(step) {
                return false;
            }
            outer = self.sites[i].parent;
        }
        true
    }

    /// Sites that are read on `step`: reached and not refreshed.
    #[must_use]
    pub fn reused(&self, step: usize) -> Vec<usize> {
        let read = |i: &usize| self.reached(*i, step) && !self.sites[*i].schedule.refreshes(step);
        (0..self.sites.len()).filter(read).collect()
    }

    /// Whether a node runs on `step`.
    #[must_use]
    pub fn runs(&self, node: NodeId, step: usize) -> bool {
        match self.owner[node.index()] {
            None => true,
            Some(site) => self.reached(site, step) && self.sites[site].schedule.refreshes(step),
        }
    }

    /// Sites directly inside `scope` (the main graph where none).
    pub fn children(&self, scope: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        (0..self.sites.len()).filter(move |i| self.sites[*i].parent == scope)
    }

    /// Nodes and gated sites of a scope in an order that data flow allows, as close
    /// to the original as possible.
    ///
    /// # Errors
    /// [`LayoutError::Cycle`] where a site cannot be computed in one piece.
    pub fn order(
        &self,
        analysis: &Analysis<'_>,
        scope: Option<usize>,
    ) -> Result<Vec<Item>, LayoutError> {
        Order::new(self, analysis, scope).sort()
    }

    fn check_schedules(
        &self,
        plan: &Plan,
        model: &ModelPlan,
        analysis: &Analysis<'_>,
    ) -> Result<(), LayoutError> {
        let guidance = &plan.guidance.schedule;
        let half = |s: usize| model.halves && guidance.is_half(s);
        if let Some(step) = (0..plan.steps).find(|s| half(*s))
            && !analysis.shapes.symbolic_batch
        {
            return Err(LayoutError::FixedBatch { step });
        }
        let any_half = (0..plan.steps).any(half);
        for (i, placed) in self.sites.iter().enumerate() {
            let name = || placed.site.name.clone();
            for step in 1..plan.steps {
                if placed.schedule.refreshes(step) && !self.reached(i, step) {
                    let outer = placed.parent.map(|p| self.sites[p].site.name.clone());
                    let outer = outer.unwrap_or_default();
                    return Err(LayoutError::InnerRefresh {
                        site: name(),
                        outer,
                        step,
                    });
                }
                let read = self.reached(i, step) && !placed.schedule.refreshes(step);
                let stored_half = placed.site.rows != Rows::All
                    || placed.schedule.last_refresh(step).is_some_and(half);
                if any_half && read && !half(step) && stored_half {
                    return Err(LayoutError::ReadOnFull { site: name(), step });
                }
            }
            if any_half {
                check_batch(analysis, placed)?;
            }
        }
        Ok(())
    }
}

fn check_batch(analysis: &Analysis<'_>, placed: &Placed) -> Result<(), LayoutError> {
    for tensor in &placed.tensors {
        let follows = tensor
            .shape
            .as_ref()
            .is_none_or(|s| s.dims.iter().any(|d| d.follows_batch()));
        let measured = tensor.measure && {
            let source = analysis.graph.producer(tensor.value);
            let source = source.and_then(|n| analysis.graph.input_at(n, 0));
            let shape = source.and_then(|v| analysis.shapes.get(v));
            shape.is_none_or(|s| s.dims.iter().any(|d| d.follows_batch()))
        };
        if measured || (!tensor.measure && follows && tensor.batch_axis.is_none()) {
            return Err(LayoutError::BatchAxis {
                site: placed.site.name.clone(),
                tensor: analysis.graph.name(tensor.value).to_owned(),
            });
        }
    }
    Ok(())
}

fn check_names(plan: &Plan, model: &ModelPlan) -> Result<(), LayoutError> {
    if plan.steps == 0 {
        return Err(LayoutError::NoSteps);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bad = |name: &str| name.is_empty() || !name.chars().all(plain) || name == "guidance";
    let mut seen = std::collections::HashSet::new();
    for gate in &model.gates {
        if bad(&gate.name) {
            return Err(LayoutError::BadName {
                name: gate.name.clone(),
            });
        }
        let found = gate.schedule.steps();
        if found != plan.steps {
            let (gate, expected) = (gate.name.clone(), plan.steps);
            return Err(LayoutError::ScheduleLength {
                gate,
                expected,
                found,
            });
        }
        if !gate.schedule.refreshes(0) {
            return Err(LayoutError::FirstStep {
                gate: gate.name.clone(),
            });
        }
        if !seen.insert(("gate", &gate.name)) {
            return Err(LayoutError::DuplicateName {
                name: gate.name.clone(),
            });
        }
    }
    let found = plan.guidance.schedule.steps();
    if found != plan.steps {
        let (gate, expected) = ("guidance".to_owned(), plan.steps);
        return Err(LayoutError::ScheduleLength {
            gate,
            expected,
            found,
        });
    }
    if matches!(
        plan.guidance.schedule.at(0),
        GuidanceStep::Held | GuidanceStep::Fused
    ) {
        return Err(LayoutError::FirstGuidance);
    }
    for site in &model.sites {
        if bad(&site.name) {
            return Err(LayoutError::BadName {
                name: site.name.clone(),
            });
        }
        if !seen.insert(("site", &site.name)) {
            return Err(LayoutError::DuplicateName {
                name: site.name.clone(),
            });
        }
    }
    Ok(())
}

fn place(analysis: &Analysis<'_>, model: &ModelPlan, site: &Site) -> Result<Placed, LayoutError> {
    let graph = &analysis.graph;
    let name = || site.name.clone();
    let Some(gate) = model.gate(&site.gate) else {
        return Err(LayoutError::UnknownGate {
            site: name(),
            gate: site.gate.clone(),
        });
    };
    let mut values = Vec::new();
    for tensor in &site.tensors {
        let tensor = tensor.clone();
        let Some(value) = graph.value(&tensor) else {
            return Err(LayoutError::UnknownTensor {
                site: name(),
                tensor,
            });
        };
        if graph.producer(value).is_none() || graph.is_constant(value) {
            return Err(LayoutError::NotComputed {
                site: name(),
                tensor,
            });
        }
        values.push(value);
    }
    let region = region::derive(graph, &values);
    let made = |v: &ValueId| {
        graph
            .producer(*v)
            .is_some_and(|producer| region.nodes.contains(producer.index()))
    };
    if values.is_empty() || !values.iter().all(made) {
        return Err(LayoutError::EmptyRegion { site: name() });
    }
    let mut tensors: Vec<Tensor> = Vec::new();
    let count = values.len() + region.escapes.len();
    let all = values
        .iter()
        .map(|v| (*v, false))
        .chain(region.escapes.iter().map(|v| (*v, true)));
    for (i, (value, measure)) in all.enumerate() {
        let shape = analysis.shapes.get(value).cloned();
        if !measure && shape.as_ref().is_none_or(|s| s.elem_type == 0) {
            let tensor = graph.name(value).to_owned();
            return Err(LayoutError::UnknownShape {
                site: name(),
                tensor,
            });
        }
        let batch_axis = shape.as_ref().and_then(Shape::batch_axis);
        let suffix = if count == 1 {
            String::new()
        } else {
            format!(".{i}")
        };
        let cache = format!("{}{suffix}", site.name);
        tensors.push(Tensor {
            value,
            name: cache,
            shape,
            batch_axis,
            measure,
        });
    }
    let (region, schedule) = (region.nodes, gate.schedule.clone());
    Ok(Placed {
        site: site.clone(),
        tensors,
        region,
        parent: None,
        schedule,
    })
}

fn check_distinct(analysis: &Analysis<'_>, sites: &[Placed]) -> Result<(), LayoutError> {
    let mut seen: HashMap<ValueId, &str> = HashMap::new();
    for placed in sites {
        for tensor in &placed.tensors {
            if let Some(first) = seen.insert(tensor.value, &placed.site.name) {
                return Err(LayoutError::DuplicateTensor {
                    tensor: analysis.graph.name(tensor.value).to_owned(),
                    first: first.to_owned(),
                    second: placed.site.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// No two caches of a model may share a name: `x.0` of a site with several values is
/// also what a site called `x.0` would get.
fn check_caches(sites: &[Placed]) -> Result<(), LayoutError> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for placed in sites {
        let own = placed.tensors.iter().map(|t| t.name.clone());
        let slopes = placed.tensors.iter().map(|t| format!("{}.slope", t.name));
        for cache in own.chain(slopes) {
            if let Some(first) = seen.insert(cache.clone(), &placed.site.name) {
                let (first, second) = (first.to_owned(), placed.site.name.clone());
                return Err(LayoutError::DuplicateCache {
                    cache,
                    first,
                    second,
                });
            }
        }
    }
    Ok(())
}

/// Finds each site's parent. Sites are sorted by falling size.
fn nest(sites: &mut [Placed]) -> Result<(), LayoutError> {
    for i in 0..sites.len() {
        for j in (0..i).rev() {
            let same = sites[i].region == sites[j].region;
            if !same && sites[i].region.is_subset(&sites[j].region) {
                sites[i].parent = sites[i].parent.or(Some(j));
            } else if sites[i].region.intersects(&sites[j].region) {
                return Err(LayoutError::Overlap {
                    first: sites[j].site.name.clone(),
                    second: sites[i].site.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Kahn's algorithm over the items of one scope, smallest original position first.
struct Order<'a, 'm> {
    layout: &'a Layout,
    analysis: &'a Analysis<'m>,
    items: Vec<(usize, Item)>,
    item_of: HashMap<NodeId, usize>,
}

impl<'a, 'm> Order<'a, 'm> {
    fn new(layout: &'a Layout, analysis: &'a Analysis<'m>, scope: Option<usize>) -> Self {
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

    fn sort(self) -> Result<Vec<Item>, LayoutError> {
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
