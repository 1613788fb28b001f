//! Names: what a graph defines, and what a node can see of it and of the graphs around.

use std::collections::HashMap;

use crate::onnx::proto::{FunctionProto, GraphProto, NodeProto};

/// What a graph and a function have in common.
pub(super) struct View<'a> {
    /// What to call it in a message.
    pub label: String,
    pub inputs: Vec<&'a str>,
    pub initializers: Vec<&'a str>,
    pub nodes: &'a [NodeProto],
    pub outputs: Vec<&'a str>,
}

impl<'a> View<'a> {
    pub fn of_graph(graph: &'a GraphProto) -> Self {
        let sparse = graph.sparse_initializer.iter();
        let sparse = sparse.map(|s| s.values.as_ref().map_or("", |v| v.name()));
        let dense = graph.initializer.iter().map(|t| t.name());
        Self {
            label: format!("graph {:?}", graph.name()),
            inputs: graph.input.iter().map(|v| v.name()).collect(),
            initializers: dense.chain(sparse).collect(),
            nodes: &graph.node,
            outputs: graph.output.iter().map(|v| v.name()).collect(),
        }
    }

    pub fn of_function(function: &'a FunctionProto) -> Self {
        Self {
            label: format!("function {:?}", function.name()),
            inputs: function.input.iter().map(String::as_str).collect(),
            initializers: Vec::new(),
            nodes: &function.node,
            outputs: function.output.iter().map(String::as_str).collect(),
        }
    }
}

/// The definitions of one graph while its nodes are visited in order.
pub(super) struct Scope<'a, 'p> {
    pub nodes: &'a [NodeProto],
    /// By name, the number of nodes that must have run before it exists.
    pub defs: HashMap<&'a str, usize>,
    /// The number of nodes before the one visited.
    pub at: usize,
    pub parent: Option<&'p Scope<'a, 'p>>,
}

/// What a name means to the node visited.
pub(super) enum Lookup<'a, 's> {
    Visible,
    /// Defined by the visited node itself or a later one of this scope.
    Later(&'s Scope<'a, 's>),
    Missing,
}

impl<'a> Scope<'a, '_> {
    pub fn look_up(&self, name: &str) -> Lookup<'a, '_> {
        let mut scope = Some(self);
        while let Some(s) = scope {
            match s.defs.get(name) {
                Some(ready) if *ready <= s.at => return Lookup::Visible,
                Some(_) => return Lookup::Later(s),
                None => scope = s.parent,
            }
        }
        Lookup::Missing
    }

    /// Whether `name` means something in this scope or one around it, where they stand.
    pub fn sees(&self, name: &str) -> bool {
        matches!(self.look_up(name), Lookup::Visible)
    }
}
