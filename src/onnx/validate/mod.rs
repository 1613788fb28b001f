//! Checks of a decoded model. After them no later stage has to doubt names, order, sizes
//! or references.

mod cycle;
mod external;
mod graph;
mod graph_error;
mod scope;
mod tensor;

use std::path::Path;

use super::proto::ModelProto;

pub(super) use cycle::sort;
pub use external::ExternalError;
pub use graph::validate_graphs;
pub use graph_error::GraphError;
pub use tensor::{TensorError, validate_tensors};

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// Names, order or references between nodes.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Shape, type or payload of a tensor.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Reference to data outside of the file.
    #[error(transparent)]
    External(#[from] ExternalError),
}

/// Checks everything: graphs, tensors, and that external data are where they should be.
///
/// `file` is the model's path. It goes into messages, and external data are sought next to it.
/// Data files are looked up, never opened.
///
/// # Errors
/// The first thing found wrong.
pub fn validate(model: &ModelProto, file: &Path) -> Result<(), ValidateError> {
    validate_graphs(model, file)?;
    validate_tensors(model, file)?;
    external::validate_external(model, file)?;
    Ok(())
}
