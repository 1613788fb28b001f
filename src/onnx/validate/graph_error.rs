//! What can be wrong with a graph.

use std::path::PathBuf;

/// A graph whose names, order or references are wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The model has no graph.
    #[error("{file}: the model has no graph; is this an ONNX model, and is it complete?")]
    NoGraph {
        /// The model.
        file: PathBuf,
    },
    /// No operator set version for the operators used.
    #[error(
        "{file}: node {node} needs the standard operator set, but the model imports no version \
         of it; export the model again"
    )]
    NoOpset {
        /// The model.
        file: PathBuf,
        /// A node that needs it.
        node: String,
    },
    /// No operator sets at all.
    #[error("{file}: the model imports no operator set; export the model again")]
    NoOpsets {
        /// The model.
        file: PathBuf,
    },
    /// An operator set with an impossible version.
    #[error(
        "{file}: operator set {domain:?} has the version {version}, which cannot be; \
         export the model again"
    )]
    BadOpset {
        /// The model.
        file: PathBuf,
        /// The operator set.
        domain: String,
        /// Its version.
        version: i64,
    },
    /// Two inputs of a graph share a name.
    #[error("{file}: {graph} has two inputs called {value:?}; rename one")]
    DuplicateInput {
        /// The model.
        file: PathBuf,
        /// The graph or function.
        graph: String,
        /// The name.
        value: String,
    },
    /// Two initializers of a graph share a name.
    #[error("{file}: {graph} has two initializers called {value:?}; rename one")]
    DuplicateInitializer {
        /// The model.
        file: PathBuf,
        /// The graph or function.
        graph: String,
        /// The name.
        value: String,
    },
    /// A node defines a value that exists already.
    #[error(
        "{file}: node {node} defines {value:?}, which is defined already; \
         every value needs a name of its own"
    )]
    DuplicateValue {
        /// The model.
        file: PathBuf,
        /// The second definition.
        node: String,
        /// The value.
        value: String,
    },
    /// An attribute takes its value from the call of a function, and there is no function.
    #[error(
        "{file}: node {node}: attribute {attribute:?} refers to an attribute of a function, but \
         the node is in none; export the model again"
    )]
    RefAttribute {
        /// The model.
        file: PathBuf,
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
    },
    /// A nested graph gives a new meaning to a name from around it.
    #[error(
        "{file}: {graph} defines {value:?}, which hides a value of the graph around it; \
         rename the inner one"
    )]
    Shadowed {
        /// The model.
        file: PathBuf,
        /// The nested graph.
        graph: String,
        /// The value.
        value: String,
    },
    /// An input or initializer without a name.
    #[error("{file}: {graph} has an {kind} without a name; export the model again")]
    Unnamed {
        /// The model.
        file: PathBuf,
        /// The graph or function.
        graph: String,
        /// What it is.
        kind: &'static str,
    },
    /// Nodes need each other's results.
    #[error(
        "{file}: node {node} depends on its own result (a cycle); \
         the graph can never run, export the model again"
    )]
    Cycle {
        /// The model.
        file: PathBuf,
        /// A node on the cycle.
        node: String,
    },
    /// A node comes before the one it reads from.
    #[error(
        "{file}: node {node} reads {value:?} before it is computed; \
         the nodes are not in topological order, sort them"
    )]
    Unsorted {
        /// The model.
        file: PathBuf,
        /// The early node.
        node: String,
        /// The value.
        value: String,
    },
    /// A node reads what nothing defines.
    #[error("{file}: node {node} reads {value:?}, which nothing defines; export the model again")]
    Undefined {
        /// The model.
        file: PathBuf,
        /// The node.
        node: String,
        /// The value.
        value: String,
    },
    /// A graph returns what it does not compute.
    #[error(
        "{file}: {graph} returns {value:?}, which it does not compute; \
         remove the output, or add an Identity if the value comes from outside"
    )]
    OutputNotProduced {
        /// The model.
        file: PathBuf,
        /// The graph or function.
        graph: String,
        /// The output.
        value: String,
    },
    /// A node does not say what it computes.
    #[error("{file}: node {node} has no operator; the file is damaged, export the model again")]
    NoOperator {
        /// The model.
        file: PathBuf,
        /// The node.
        node: String,
    },
    /// Two attributes of a node share a name.
    #[error("{file}: node {node} has two attributes called {attribute:?}; remove one")]
    DuplicateAttribute {
        /// The model.
        file: PathBuf,
        /// The node.
        node: String,
        /// The name.
        attribute: String,
    },
    /// An attribute has not the graph or tensor its type promises.
    #[error(
        "{file}: node {node}: attribute {attribute:?} should hold a {kind} but does not; \
         the file is damaged, export the model again"
    )]
    EmptyAttribute {
        /// The model.
        file: PathBuf,
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
        /// What is missing.
        kind: &'static str,
    },
}
