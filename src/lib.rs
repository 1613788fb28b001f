//! hgc

pub mod analysis;
pub mod compile;
pub mod graph;
pub mod onnx;
pub mod plan;
pub mod rewrite;
