//! Visits every tensor of a model, wherever it is nested.

use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};

/// Where a tensor was found.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Among the initializers of a graph.
    Initializer,
    /// In a sparse tensor: its values or its indices.
    Sparse,
    /// In an attribute of this node.
    Attribute(&'a NodeProto, &'a AttributeProto),
    /// In the default value of an attribute of the function of this name.
    Default(&'a str),
}

impl Place<'_> {
    /// What to call the tensor in a message.
    pub fn label(&self, tensor: &TensorProto) -> String {
        match self {
            Self::Initializer => format!("{:?}", tensor.name()),
            Self::Sparse => format!("{:?} (part of a sparse tensor)", tensor.name()),
            Self::Attribute(node, attr) => {
                format!("in attribute {:?} of node {}", attr.name(), node.label())
            }
            Self::Default(function) => format!("in a default of function {function:?}"),
        }
    }
}

/// Calls `visit` with every tensor of the model, in file order, until it fails.
pub fn each_tensor<'a, E>(
    model: &'a ModelProto,
    visit: &mut dyn FnMut(Place<'a>, &'a TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    let training = model.training_info.iter();
    let training = training.flat_map(|t| t.initialization.iter().chain(&t.algorithm));
    for graph in model.graph.iter().chain(training) {
        in_graph(graph, visit)?;
    }
    for function in &model.functions {
        for attr in &function.attribute_proto {
            in_attribute(attr, Place::Default(function.name()), visit)?;
        }
        for node in &function.node {
            in_node(node, visit)?;
        }
    }
    Ok(())
}

fn in_graph<'a, E>(
    graph: &'a GraphProto,
    visit: &mut dyn FnMut(Place<'a>, &'a TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in &graph.initializer {
        visit(Place::Initializer, tensor)?;
    }
    for sparse in &graph.sparse_initializer {
        in_sparse(sparse, Place::Sparse, visit)?;
    }
    graph.node.iter().try_for_each(|node| in_node(node, visit))
}

fn in_node<'a, E>(
    node: &'a NodeProto,
    visit: &mut dyn FnMut(Place<'a>, &'a TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for attr in &node.attribute {
        in_attribute(attr, Place::Attribute(node, attr), visit)?;
    }
    Ok(())
}

fn in_attribute<'a, E>(
    attr: &'a AttributeProto,
    place: Place<'a>,
    visit: &mut dyn FnMut(Place<'a>, &'a TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in attr.t.iter().chain(&attr.tensors) {
        visit(place, tensor)?;
    }
    for sparse in attr.sparse_tensor.iter().chain(&attr.sparse_tensors) {
        in_sparse(sparse, place, visit)?;
    }
    for graph in attr.g.iter().chain(&attr.graphs) {
        in_graph(graph, visit)?;
    }
    Ok(())
}

fn in_sparse<'a, E>(
    sparse: &'a SparseTensorProto,
    place: Place<'a>,
    visit: &mut dyn FnMut(Place<'a>, &'a TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in sparse.values.iter().chain(&sparse.indices) {
        visit(place, tensor)?;
    }
    Ok(())
}

/// Calls `change` with every tensor of the model, in file order, until it fails. The flag
/// tells whether the tensor is an initializer.
pub fn each_tensor_mut<E>(
    model: &mut ModelProto,
    change: &mut dyn FnMut(bool, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    let training = model.training_info.iter_mut();
    let training = training.flat_map(|t| t.initialization.iter_mut().chain(&mut t.algorithm));
    for graph in model.graph.iter_mut().chain(training) {
        in_graph_mut(graph, change)?;
    }
    for function in &mut model.functions {
        let nodes = function.node.iter_mut().flat_map(|n| &mut n.attribute);
        for attr in function.attribute_proto.iter_mut().chain(nodes) {
            in_attribute_mut(attr, change)?;
        }
    }
    Ok(())
}

fn in_graph_mut<E>(
    graph: &mut GraphProto,
    change: &mut dyn FnMut(bool, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in &mut graph.initializer {
        change(true, tensor)?;
    }
    for sparse in &mut graph.sparse_initializer {
        in_sparse_mut(sparse, change)?;
    }
    for attr in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
        in_attribute_mut(attr, change)?;
    }
    Ok(())
}

fn in_attribute_mut<E>(
    attr: &mut AttributeProto,
    change: &mut dyn FnMut(bool, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in attr.t.iter_mut().chain(&mut attr.tensors) {
        change(false, tensor)?;
    }
    let sparse = attr.sparse_tensor.iter_mut();
    for sparse in sparse.chain(&mut attr.sparse_tensors) {
        in_sparse_mut(sparse, change)?;
    }
    for graph in attr.g.iter_mut().chain(&mut attr.graphs) {
        in_graph_mut(graph, change)?;
    }
    Ok(())
}

fn in_sparse_mut<E>(
    sparse: &mut SparseTensorProto,
    change: &mut dyn FnMut(bool, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in sparse.values.iter_mut().chain(&mut sparse.indices) {
        change(false, tensor)?;
    }
    Ok(())
}
