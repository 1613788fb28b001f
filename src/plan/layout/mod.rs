//! A model's plan placed on its graph: regions, nesting, and the proof that they fit.

mod error;
mod order;
mod place;
mod rules;

pub use error::LayoutError;

use order::Order;
use place::place;

use super::data::{ModelPlan, Plan, Site};
use super::schedule::GateSchedule;
use crate::analysis::Analysis;
use crate::analysis::dims::Shape;
use crate::graph::{BitSet, NodeId, ValueId};

/// One value of a site.
#[derive(Clone, Debug)]
pub struct SiteTensor {
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
    pub tensors: Vec<SiteTensor>,
    /// Nodes that run on a refresh only.
    pub region: BitSet,
    /// The innermost site around it.
    pub parent: Option<usize>,
    /// Its gate's schedule.
    pub schedule: GateSchedule,
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
        rules::check_names(plan, model)?;
        let mut sites = Vec::new();
        for site in &model.sites {
            sites.push(place(analysis, model, site)?);
        }
        rules::check_distinct(analysis, &sites)?;
        rules::check_caches(&sites)?;
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
        rules::check_schedules(&layout, plan, model, analysis)?;
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
