//! Reading and writing ONNX files without losing a field or touching a weight.

mod attr;
mod digest;
mod encode;
mod external;
mod linked;
mod map;
mod read;
mod tensor;
mod validate;
mod walk;
mod wire;
mod write;

pub use attr::{
    STANDARD_DOMAIN, attr_float, attr_graph, attr_int, attr_ints, attr_str, attr_tensor,
    is_standard_domain, make_node,
};
pub use digest::{graph_hash, hexadecimal};
pub use encode::encode_model;
pub use external::{External, folder_of};
pub use linked::without_links;
pub use map::map_file;
pub use read::{Model, ReadError};
pub use tensor::{tensor_bool, tensor_f16, tensor_f32, tensor_i32, tensor_i64};
pub use validate::{
    ExternalError, GraphError, TensorError, ValidateError, validate, validate_graphs,
    validate_tensors,
};
pub use walk::{Place, each_tensor, each_tensor_mut};
pub use write::{MAX_INLINE, Transaction, WriteError, abandon_transactions};

/// The messages of the format, generated from `proto/onnx.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[allow(rustdoc::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
