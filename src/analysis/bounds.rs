//! Numbers of a model that tract would allocate by, count up to, or compute by while it looks for
//! shapes: an allocation that fails ends the process and cannot be caught. Checked before tract
//! sees a node.

use tract_onnx::pb;
use tract_onnx::tract_hir::internal::*;

/// The most axes of a tensor.
const MOST_AXES: u64 = 64;
/// The largest size or count of a real operator is far below.
const LARGEST: u64 = 1 << 24;

/// Refuses a node with such numbers.
pub(crate) fn check(node: &pb::NodeProto) -> TractResult<()> {
    ensure!(
        node.op_type != "EyeLike",
        "its value is computed with its shape"
    );
    for attribute in &node.attribute {
        let most = match attribute.name.as_str() {
            "axis" | "axes" | "perm" | "batch_dims" => MOST_AXES,
            "num_scan_inputs" => node.input.len() as u64,
            "num_outputs" => node.output.len() as u64,
            // Indices beyond an end mean the end; the others are values, not sizes.
            "starts" | "ends" | "value" | "value_int" | "value_ints" | "seed" => continue,
            _ => LARGEST,
        };
        let mut all = attribute.ints.iter().chain([&attribute.i]);
        let far = all.find(|a| a.unsigned_abs() > most);
        ensure!(far.is_none(), "{} is {far:?}", attribute.name);
        // A count of what is there is not negative.
        let counts = matches!(attribute.name.as_str(), "num_scan_inputs" | "num_outputs");
        ensure!(
            !counts || attribute.i >= 0,
            "{} is {}",
            attribute.name,
            attribute.i
        );
    }
    Ok(())
}
