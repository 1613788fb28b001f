//! Emission of the gated graph, scope by scope.

use std::collections::HashMap;

use crate::analysis::Analysis;
use crate::graph::ValueId;
use crate::onnx::STANDARD_DOMAIN;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::plan::layout::{Item, Layout, LayoutError};

use super::checks::Checks;
use super::names::of_node;
use super::record::{Positions, Record, ScopeRecord};
use super::rename::{self, Renames};
use super::rows::RowMaker;
use super::scribe::Scribe;
use super::site::{SiteWriter, State, fresh_name, if_name, states};

/// A scope: the main graph or the region of a site.
type Scope = Option<usize>;

/// Writes the nodes of a layout.
pub struct Emitter<'a, 'm> {
    analysis: &'a Analysis<'m>,
    layout: &'a Layout,
    policy: &'a str,
    /// Row arithmetic, where the model runs half-batch steps.
    pub rows: Option<RowMaker<'a>>,
    /// Checks of what is read, where the batch is open.
    pub checks: Option<Checks<'a, 'm>>,
    /// New names of inputs and outputs, everywhere.
    pub renames: Renames,
    /// Record of where everything went.
    pub record: Record,
    contents: HashMap<Scope, Contents>,
}

/// Initializers and declarations of one scope, by position in the original.
#[derive(Default)]
struct Contents {
    initializers: Vec<usize>,
    value_info: Vec<usize>,
}

impl<'a, 'm> Emitter<'a, 'm> {
    /// An emitter for a placed plan.
    #[must_use]
    pub fn new(
        analysis: &'a Analysis<'m>,
        layout: &'a Layout,
        policy: &'a str,
        rows: Option<RowMaker<'a>>,
        checks: Option<Checks<'a, 'm>>,
    ) -> Self {
        let mut emitter = Self {
            analysis,
            layout,
            policy,
            rows,
            checks,
            renames: Renames::new(),
            record: Record::default(),
            contents: HashMap::new(),
        };
        emitter.sort_contents();
        emitter
    }

    fn ancestors(&self, mut scope: Scope) -> Vec<Scope> {
        let mut chain = vec![scope];
        while let Some(site) = scope {
            scope = self.layout.sites[site].parent;
            chain.push(scope);
        }
        chain
    }

    /// The innermost scope around all users of a value.
    fn scope_of_users(&self, value: ValueId) -> Scope {
        if self.analysis.graph.is_output(value) {
            return None;
        }
        let users = self.analysis.graph.consumers(value).iter();
        let mut common: Option<Vec<Scope>> = None;
        for user in users {
            let chain = self.ancestors(self.layout.owner[user.index()]);
            common = Some(match common {
                None => chain,
                Some(before) => before.into_iter().filter(|s| chain.contains(s)).collect(),
            });
        }
        common.and_then(|c| c.first().copied()).flatten()
    }

    /// Gives initializers to the one region that reads them, declarations to the scope
    /// that makes the value.
    fn sort_contents(&mut self) {
        let graph = &self.analysis.graph;
        let proto = graph.proto();
        let declared_input: std::collections::HashSet<&str> =
            proto.input.iter().map(|i| i.name()).collect();
        for (i, tensor) in proto.initializer.iter().enumerate() {
            // An overridable default must stay beside the input of its name.
            let stays = declared_input.contains(tensor.name());
            let value = graph.value(tensor.name()).filter(|_| !stays);
            let scope = value.and_then(|v| self.scope_of_users(v));
            self.contents.entry(scope).or_default().initializers.push(i);
        }
        let cached: std::collections::HashSet<ValueId> = self
            .layout
            .sites
            .iter()
            .flat_map(|s| &s.tensors)
            .map(|t| t.value)
            .collect();
        for (i, info) in proto.value_info.iter().enumerate() {
            let value = graph.value(info.name());
            // A cached value keeps its name outside of its region.
            let owner = value.and_then(|v| graph.producer(v)).and_then(|n| {
                let owner = self.layout.owner[n.index()];
                let is_cached = value.is_some_and(|v| cached.contains(&v));
                if is_cached {
                    owner.and_then(|o| self.layout.sites[o].parent)
                } else {
                    owner
                }
            });
            self.contents.entry(owner).or_default().value_info.push(i);
        }
    }

    /// All caches inside a site, at any depth, outer before inner.
    fn inner_states(&self, site: usize) -> Vec<State> {
        let mut found = Vec::new();
        for child in self.layout.children(Some(site)) {
            found.extend(states(&self.layout.sites[child]));
            found.extend(self.inner_states(child));
        }
        found
    }

    /// All caches of the model, in the order of its new inputs and outputs.
    #[must_use]
    pub fn all_states(&self) -> Vec<State> {
        self.layout.sites.iter().flat_map(states).collect()
    }

    /// The nodes of a scope at nesting depth `depth`.
    ///
    /// # Errors
    /// [`LayoutError::Cycle`] where the scope has no valid order.
    pub fn scope(
        &mut self,
        scope: Scope,
        depth: usize,
        renames: &Renames,
    ) -> Result<Vec<NodeProto>, LayoutError> {
        let mut nodes = Vec::new();
        let mut moved = Vec::new();
        for item in self.layout.order(self.analysis, scope)? {
            match item {
                Item::Node(id) => {
                    let mut node = self.analysis.graph.node(id).clone();
                    rename::node(&mut node, renames);
                    spell(&mut node);
                    node.name = Some(of_node(&node, id.index()));
                    nodes.push(node);
                    moved.push(id.index());
                }
                Item::Site(site) => nodes.extend(self.site(site, depth, renames)?),
            }
        }
        let contents = self.contents.entry(scope).or_default();
        let record = ScopeRecord {
            nodes: Positions::of(&moved),
            initializers: Positions::of(&contents.initializers),
            value_info: Positions::of(&contents.value_info),
        };
        match scope {
            None => self.record.main = record,
            Some(site) => {
                let name = if_name(&self.layout.sites[site].site.name);
                self.record.scopes.insert(name, record);
            }
        }
        Ok(nodes)
    }

    fn site(
        &mut self,
        site: usize,
        depth: usize,
        renames: &Renames,
    ) -> Result<Vec<NodeProto>, LayoutError> {
        let layout = self.layout;
        let placed = &layout.sites[site];
        let graph = &self.analysis.graph;
        let mut inside = renames.clone();
        let mut used = Vec::new();
        for tensor in &placed.tensors {
            let name = graph.name(tensor.value);
            used.push(
                renames
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| name.to_owned()),
            );
            inside.insert(name.to_owned(), fresh_name(tensor));
            self.record
                .renamed
                .insert(fresh_name(tensor), name.to_owned());
        }
        let region = self.scope(Some(site), depth + 1, &inside)?;
        let inner = self.inner_states(site);
        let scribe = Scribe {
            policy: self.policy,
            site: &placed.site.name,
        };
        let writer = SiteWriter {
            scribe,
            rows: self.rows.as_mut(),
            checks: self.checks.as_mut(),
            placed,
            depth,
            inner,
        };
        let mut nodes = writer.write(region, &used);
        if let Some(branch) = nodes.first_mut().and_then(then_branch) {
            self.fill(branch, Some(site));
        }
        Ok(nodes)
    }

    /// Puts the initializers and declarations of a scope into its graph.
    pub fn fill(&self, graph: &mut GraphProto, scope: Scope) {
        let Some(contents) = self.contents.get(&scope) else {
            return;
        };
        let proto = self.analysis.graph.proto();
        let initializers = contents
            .initializers
            .iter()
            .map(|i| proto.initializer[*i].clone());
        graph.initializer.extend(initializers);
        graph.value_info.extend(
            contents
                .value_info
                .iter()
                .map(|i| proto.value_info[*i].clone()),
        );
    }
}

/// ONNX Runtime knows one spelling of the standard domain in branches.
fn spell(node: &mut NodeProto) {
    if node.domain.as_deref() == Some(STANDARD_DOMAIN) {
        node.domain = None;
    }
}

/// The then-branch of an `If`.
pub fn then_branch(node: &mut NodeProto) -> Option<&mut GraphProto> {
    node.attribute
        .iter_mut()
        .find(|a| a.name() == "then_branch")
        .and_then(|a| a.g.as_mut())
}
