//! Graphs: every name defined once and before its use, every result computed.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::cycle::node_on_cycle;
use super::graph_error::GraphError;
use super::scope::{Lookup, Scope, View};
use crate::onnx::is_standard_domain;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, ModelProto, NodeProto};

/// Checks names, order and references of the graph, the graphs nested in it, and functions.
///
/// # Errors
/// The first thing found wrong.
pub fn validate_graphs(model: &ModelProto, file: &Path) -> Result<(), GraphError> {
    let mut check = Check {
        model,
        file,
        in_function: false,
    };
    let graph = model.graph.as_ref().ok_or_else(|| GraphError::NoGraph {
        file: file.to_owned(),
    })?;
    check.opsets(&graph.node)?;
    check.view(&View::of_graph(graph), None)?;
    check.in_function = true;
    let functions = model.functions.iter().map(View::of_function);
    functions.into_iter().try_for_each(|f| check.view(&f, None))
}

struct Check<'a> {
    model: &'a ModelProto,
    file: &'a Path,
    /// Attributes may stand for those of a call.
    in_function: bool,
}

impl<'a> Check<'a> {
    fn opsets(&self, nodes: &[NodeProto]) -> Result<(), GraphError> {
        let imports = &self.model.opset_import;
        let file = self.file.to_owned();
        if imports.is_empty() {
            return Err(GraphError::NoOpsets { file });
        }
        if let Some(bad) = imports.iter().find(|i| i.version() < 1) {
            return Err(GraphError::BadOpset {
                file,
                domain: bad.domain().to_owned(),
                version: bad.version(),
            });
        }
        if imports.iter().any(|i| is_standard_domain(i.domain())) {
            return Ok(());
        }
        // Other sets have a default version in every engine that has them.
        match nodes.iter().find(|n| n.in_standard_domain()) {
            Some(node) => Err(GraphError::NoOpset {
                file,
                node: node.label(),
            }),
            None => Ok(()),
        }
    }

    fn view<'p>(
        &self,
        view: &View<'a>,
        parent: Option<&'p Scope<'a, 'p>>,
    ) -> Result<(), GraphError> {
        let defs = self.definitions(view)?;
        if let Some(parent) = parent
            && let Some(value) = defs.keys().find(|name| parent.sees(name))
        {
            return Err(GraphError::Shadowed {
                file: self.file.to_owned(),
                graph: view.label.clone(),
                value: (*value).to_owned(),
            });
        }
        let nodes = view.nodes;
        let mut scope = Scope {
            nodes,
            defs,
            at: 0,
            parent,
        };
        for (at, node) in nodes.iter().enumerate() {
            scope.at = at;
            self.node(node, &scope)?;
        }
        match view.outputs.iter().find(|o| !scope.defs.contains_key(**o)) {
            Some(output) => Err(GraphError::OutputNotProduced {
                file: self.file.to_owned(),
                graph: view.label.clone(),
                value: (*output).to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// All names the graph defines, with the number of nodes before they exist.
    fn definitions(&self, view: &View<'a>) -> Result<HashMap<&'a str, usize>, GraphError> {
        let file = || self.file.to_owned();
        let graph = || view.label.clone();
        let mut defs =
            HashMap::with_capacity(view.inputs.len() + view.initializers.len() + view.nodes.len());
        for input in &view.inputs {
            self.named(view, input, "input")?;
            if defs.insert(*input, 0).is_some() {
                return Err(GraphError::DuplicateInput {
                    file: file(),
                    graph: graph(),
                    value: (*input).to_owned(),
                });
            }
        }
        let mut initializers = HashSet::with_capacity(view.initializers.len());
        for name in &view.initializers {
            self.named(view, name, "initializer")?;
            if !initializers.insert(*name) {
                return Err(GraphError::DuplicateInitializer {
                    file: file(),
                    graph: graph(),
                    value: (*name).to_owned(),
                });
            }
            // One with the name of an input is that input's default.
            defs.insert(name, 0);
        }
        for (index, node) in view.nodes.iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                if defs.insert(output, index + 1).is_some() {
                    return Err(GraphError::DuplicateValue {
                        file: file(),
                        node: node.label(),
                        value: output.clone(),
                    });
                }
            }
        }
        Ok(defs)
    }

    fn named(&self, view: &View<'a>, name: &str, kind: &'static str) -> Result<(), GraphError> {
        if !name.is_empty() {
            return Ok(());
        }
        Err(GraphError::Unnamed {
            file: self.file.to_owned(),
            graph: view.label.clone(),
            kind,
        })
    }

    fn node(&self, node: &'a NodeProto, scope: &Scope<'a, '_>) -> Result<(), GraphError> {
        if node.op_type().is_empty() {
            return Err(GraphError::NoOperator {
                file: self.file.to_owned(),
                node: node.label(),
            });
        }
        for name in node.input.iter().filter(|i| !i.is_empty()) {
            match scope.look_up(name) {
                Lookup::Visible => {}
                Lookup::Later(owner) => return Err(self.too_early(node, name, owner)),
                Lookup::Missing => {
                    return Err(GraphError::Undefined {
                        file: self.file.to_owned(),
                        node: node.label(),
                        value: name.clone(),
                    });
                }
            }
        }
        self.attributes(node)?;
        let mut graphs = node.subgraphs().map(View::of_graph);
        graphs.try_for_each(|graph| self.view(&graph, Some(scope)))
    }

    /// The error for a node that reads `value`, which a later node of `owner` defines.
    fn too_early(&self, node: &NodeProto, value: &str, owner: &Scope<'_, '_>) -> GraphError {
        let file = self.file.to_owned();
        match node_on_cycle(owner.nodes, &owner.defs) {
            Some(index) => GraphError::Cycle {
                file,
                node: owner.nodes[index].label(),
            },
            None => GraphError::Unsorted {
                file,
                node: node.label(),
                value: value.to_owned(),
            },
        }
    }

    fn attributes(&self, node: &NodeProto) -> Result<(), GraphError> {
        if let Some(attribute) = repeated_name(&node.attribute) {
            return Err(GraphError::DuplicateAttribute {
                file: self.file.to_owned(),
                node: node.label(),
                attribute: attribute.to_owned(),
            });
        }
        let refers = |a: &&AttributeProto| !self.in_function && !a.ref_attr_name().is_empty();
        if let Some(attribute) = node.attribute.iter().find(refers) {
            return Err(GraphError::RefAttribute {
                file: self.file.to_owned(),
                node: node.label(),
                attribute: attribute.name().to_owned(),
            });
        }
        let mut missing = node.attribute.iter().map(|a| (a, missing_payload(a)));
        match missing.find_map(|(attr, kind)| Some((attr, kind?))) {
            Some((attr, kind)) => Err(GraphError::EmptyAttribute {
                file: self.file.to_owned(),
                node: node.label(),
                attribute: attr.name().to_owned(),
                kind,
            }),
            None => Ok(()),
        }
    }
}

fn repeated_name(attributes: &[AttributeProto]) -> Option<&str> {
    let mut names = attributes.iter().map(|a| a.name());
    // Nodes have a handful of attributes, but a hostile one may have millions.
    if attributes.len() > 16 {
        let mut seen = HashSet::new();
        return names.find(|name| !seen.insert(*name));
    }
    let mut before = 0..;
    names.find(|name| {
        let before = before.next().unwrap_or(0);
        attributes[..before].iter().any(|a| a.name() == *name)
    })
}

/// What the attribute's type promises but the attribute does not have.
fn missing_payload(attr: &AttributeProto) -> Option<&'static str> {
    if !attr.ref_attr_name().is_empty() {
        return None;
    }
    match AttributeType::try_from(attr.r#type?).ok()? {
        AttributeType::Graph if attr.g.is_none() => Some("graph"),
        AttributeType::Tensor if attr.t.is_none() => Some("tensor"),
        AttributeType::SparseTensor if attr.sparse_tensor.is_none() => Some("sparse tensor"),
        _ => None,
    }
}
