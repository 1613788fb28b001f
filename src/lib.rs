//! hgc

pub mod analysis;
pub mod compile;
pub mod engine;
pub mod graph;
pub mod measure;
pub mod onnx;
pub mod plan;
pub mod rewrite;
