//! An index over one `GraphProto`: typed handles, producers, consumers.
//!
//! The graph is borrowed, never changed: analyses read it, and a rewrite builds a
//! new `GraphProto` from a plan. A value that is captured by a subgraph (`If`,
//! `Loop`, `Scan` bodies) counts as used by the node that holds the subgraph.

mod bitset;
mod captures;
mod ids;
pub mod operators;
mod view;

use std::collections::HashMap;

pub use bitset::BitSet;
pub use captures::captured_names;
pub use ids::{NodeId, ValueId};
pub use operators::{Family, Operator};
pub use view::{Dominators, View, dominator_chain};

use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A graph input without an initializer, by position in `GraphProto.input`.
    Input(usize),
    /// An initializer, by position in `GraphProto.initializer`.
    Initializer(usize),
    /// A sparse initializer, by position in `GraphProto.sparse_initializer`.
    SparseInitializer(usize),
    /// An output of a node.
    Node(NodeId),
    /// Used, but defined nowhere (a malformed graph; the reader refuses those).
    Undefined,
}

/// Handles, producers and consumers of one graph.
pub struct Graph<'m> {
    proto: &'m GraphProto,
    names: Vec<&'m str>,
    by_name: HashMap<&'m str, ValueId>,
    origins: Vec<Origin>,
    consumers: Vec<Vec<NodeId>>,
    inputs_of: Vec<Vec<ValueId>>,
    outputs_of: Vec<Vec<ValueId>>,
    operators: Vec<Option<&'static Operator>>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    is_output: BitSet,
    constant: BitSet,
}

impl<'m> Graph<'m> {
    /// Indexes `proto`. Nodes must be in topological order, as ONNX demands and
    /// [`Model::read`](crate::onnx::Model::read) checks.
    #[must_use]
    pub fn new(proto: &'m GraphProto) -> Self {
        let mut graph = Self {
            proto,
            names: Vec::new(),
            by_name: HashMap::new(),
            origins: Vec::new(),
            consumers: Vec::new(),
            inputs_of: Vec::with_capacity(proto.node.len()),
            outputs_of: Vec::with_capacity(proto.node.len()),
            operators: proto.node.iter().map(operators::of).collect(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            is_output: BitSet::new(0),
            constant: BitSet::new(0),
        };
        graph.index_sources();
        graph.index_nodes();
        graph.outputs = proto
            .output
            .iter()
            .map(|o| graph.intern(o.name()))
            .collect();
        graph.is_output = graph.outputs.iter().map(|v| v.index()).collect();
        graph.mark_constants();
        graph
    }

    fn intern(&mut self, name: &'m str) -> ValueId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = ValueId::new(self.names.len());
        self.names.push(name);
        self.by_name.insert(name, id);
        self.origins.push(Origin::Undefined);
        self.consumers.push(Vec::new());
        id
    }

    fn index_sources(&mut self) {
        for (i, tensor) in self.proto.initializer.iter().enumerate() {
            let id = self.intern(tensor.name());
            self.origins[id.index()] = Origin::Initializer(i);
        }
        for (i, sparse) in self.proto.sparse_initializer.iter().enumerate() {
            if let Some(values) = &sparse.values {
                let id = self.intern(values.name());
                self.origins[id.index()] = Origin::SparseInitializer(i);
            }
        }
        for (i, input) in self.proto.input.iter().enumerate() {
            let id = self.intern(input.name());
            // An input with an initializer is an overridable default: a constant.
            if self.origins[id.index()] == Origin::Undefined {
                self.origins[id.index()] = Origin::Input(i);
                self.inputs.push(id);
            }
        }
    }

    fn index_nodes(&mut self) {
        for (i, node) in self.proto.node.iter().enumerate() {
            let id = NodeId::new(i);
            let mut used: Vec<ValueId> = Vec::with_capacity(node.input.len());
            let direct = node
                .input
                .iter()
                .map(String::as_str)
                .filter(|n| !n.is_empty());
            for name in direct.chain(captured_names(node)) {
                let value = self.intern(name);
                used.push(value);
                let consumers = &mut self.consumers[value.index()];
                if consumers.last() != Some(&id) {
                    consumers.push(id);
                }
            }
            self.inputs_of.push(used);
            let mut made = Vec::with_capacity(node.output.len());
            for name in node.output.iter().filter(|n| !n.is_empty()) {
                let value = self.intern(name);
                self.origins[value.index()] = Origin::Node(id);
                made.push(value);
            }
            self.outputs_of.push(made);
        }
    }

    fn mark_constants(&mut self) {
        let mut constant = BitSet::new(self.names.len());
        for (i, origin) in self.origins.iter().enumerate() {
            if matches!(
                origin,
                Origin::Initializer(_) | Origin::SparseInitializer(_)
            ) {
                constant.insert(i);
            }
        }
        for i in 0..self.proto.node.len() {
            if self.family(NodeId::new(i)) != Family::Random
                && self.inputs_of[i]
                    .iter()
                    .all(|v| constant.contains(v.index()))
            {
                for value in &self.outputs_of[i] {
                    constant.insert(value.index());
                }
            }
        }
        self.constant = constant;
    }

    /// The graph that is indexed.
    #[must_use]
    pub fn proto(&self) -> &'m GraphProto {
        self.proto
    }

    /// Number of nodes.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.proto.node.len()
    }

    /// Number of values.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.names.len()
    }

    /// All nodes, in topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.proto.node.len()).map(NodeId::new)
    }

    /// The message of a node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &'m NodeProto {
        &self.proto.node[id.index()]
    }

    /// Operator of a node, without its domain.
    #[must_use]
    pub fn op(&self, id: NodeId) -> &'m str {
        self.proto.node[id.index()].op_type()
    }

    /// What is known of the operator of a node.
    #[must_use]
    pub fn operator(&self, id: NodeId) -> Option<&'static Operator> {
        self.operators[id.index()]
    }

    /// What the operator of a node does.
    #[must_use]
    pub fn family(&self, id: NodeId) -> Family {
        self.operator(id).map_or(Family::Other, |o| o.family)
    }

    /// Name of a node, or of its first output where it has none.
    #[must_use]
    pub fn node_label(&self, id: NodeId) -> &'m str {
        let node = self.node(id);
        if node.name().is_empty() {
            node.output.first().map_or("", String::as_str)
        } else {
            node.name()
        }
    }

    /// Name of a value.
    #[must_use]
    pub fn name(&self, id: ValueId) -> &'m str {
        self.names[id.index()]
    }

    /// The value with this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<ValueId> {
        self.by_name.get(name).copied()
    }

    /// Where a value comes from.
    #[must_use]
    pub fn origin(&self, id: ValueId) -> Origin {
        self.origins[id.index()]
    }

    /// The node that makes a value; none for inputs and initializers.
    #[must_use]
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        match self.origins[id.index()] {
            Origin::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Nodes that read a value, captures included, each once, in order.
    #[must_use]
    pub fn consumers(&self, id: ValueId) -> &[NodeId] {
        &self.consumers[id.index()]
    }

    /// Values a node reads: its inputs without the omitted ones, then what its
    /// subgraphs capture.
    #[must_use]
    pub fn inputs_of(&self, id: NodeId) -> &[ValueId] {
        &self.inputs_of[id.index()]
    }

    /// The `position`-th declared input of a node; none where omitted.
    #[must_use]
    pub fn input_at(&self, id: NodeId, position: usize) -> Option<ValueId> {
        let name = self
            .node(id)
            .input
            .get(position)
            .filter(|n| !n.is_empty())?;
        self.value(name)
    }

    /// Values a node makes, without the omitted ones.
    #[must_use]
    pub fn outputs_of(&self, id: NodeId) -> &[ValueId] {
        &self.outputs_of[id.index()]
    }

    /// First output of a node.
    #[must_use]
    pub fn output_of(&self, id: NodeId) -> Option<ValueId> {
        self.outputs_of[id.index()].first().copied()
    }

    /// Graph inputs that a caller must give (those without an initializer).
    #[must_use]
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Graph outputs.
    #[must_use]
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Whether a value is a graph output.
    #[must_use]
    pub fn is_output(&self, id: ValueId) -> bool {
        self.is_output.contains(id.index())
    }

    /// Whether a value depends on initializers alone.
    #[must_use]
    pub fn is_constant(&self, id: ValueId) -> bool {
        self.constant.contains(id.index())
    }

    /// Declaration of a graph input.
    #[must_use]
    pub fn input_info(&self, id: ValueId) -> Option<&'m ValueInfoProto> {
        match self.origin(id) {
            Origin::Input(i) => self.proto.input.get(i),
            _ => None,
        }
    }

    /// The initializer behind a value, or the tensor of the `Constant` node that
    /// makes it.
    #[must_use]
    pub fn constant_tensor(&self, id: ValueId) -> Option<&'m TensorProto> {
        match self.origin(id) {
            Origin::Initializer(i) => self.proto.initializer.get(i),
            Origin::Node(node) if self.family(node) == Family::Constant => self
                .node(node)
                .attribute
                .iter()
                .find(|a| a.name() == "value")?
                .t
                .as_ref(),
            _ => None,
        }
    }

    /// Nodes from which some value of `targets` can be reached. The walk does not
    /// go past a value of `stop`.
    #[must_use]
    pub fn ancestors(&self, targets: &[ValueId], stop: &BitSet) -> BitSet {
        let mut seen = BitSet::new(self.node_count());
        let mut todo: Vec<ValueId> = targets.to_vec();
        while let Some(value) = todo.pop() {
            if stop.contains(value.index()) {
                continue;
            }
            if let Some(node) = self.producer(value)
                && seen.insert(node.index())
            {
                todo.extend_from_slice(self.inputs_of(node));
            }
        }
        seen
    }

    /// Nodes that can be reached from some value of `sources`.
    #[must_use]
    pub fn descendants(&self, sources: &[ValueId]) -> BitSet {
        let mut seen = BitSet::new(self.node_count());
        let mut todo: Vec<ValueId> = sources.to_vec();
        while let Some(value) = todo.pop() {
            for &node in self.consumers(value) {
                if seen.insert(node.index()) {
                    todo.extend_from_slice(self.outputs_of(node));
                }
            }
        }
        seen
    }
}
