//! hgc

pub mod analysis;
pub mod graph;
pub mod onnx;
