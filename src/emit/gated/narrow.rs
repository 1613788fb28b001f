//! Caches in a smaller type than what they cache: converted where they come in and where they go out.

use crate::onnx::proto::{GraphProto, type_proto};
use crate::plan::CacheType;
use crate::plan::layout::Layout;

use super::rename::{self, Renames};
use super::scribe::{Scribe, dtype};
use super::site::{elem_type, is_linear};
use crate::convention::{past, present, slope};

/// Names of the caches that a plan keeps in half precision, of values in single precision.
#[must_use]
pub fn narrowed(layout: &Layout) -> Vec<String> {
    let mut names = Vec::new();
    for placed in &layout.sites {
        for tensor in &placed.tensors {
            if !placed.site.narrows(elem_type(tensor)) {
                continue;
            }
            names.push(tensor.name.clone());
            if is_linear(placed, tensor) {
                names.push(slope(&tensor.name));
            }
        }
    }
    names
}

/// The type that caches called so have, of a value of type `elem_type`.
#[must_use]
pub fn stored(names: &[String], name: &str, elem_type: i32) -> i32 {
    match names.iter().any(|n| n == name) {
        true => CacheType::HALF,
        false => elem_type,
    }
}

/// Narrows the caches of a finished graph. Inside of it they stay as wide as they are.
pub fn narrow(graph: &mut GraphProto, names: &[String], scribe: Scribe<'_>) {
    let (mut renames, mut before, mut after) = (Renames::new(), Vec::new(), Vec::new());
    for name in names {
        let (old, new) = (past(name), present(name));
        if let Some(info) = graph.input.iter_mut().find(|i| i.name() == old) {
            set_type(info);
            let wide = format!("hgc.wide.{old}");
            before.push(scribe.cast(&old, &wide, dtype::F32));
            renames.insert(old, wide);
        }
        if let Some(info) = graph.output.iter_mut().find(|o| o.name() == new) {
            set_type(info);
            let wide = format!("hgc.wide.{new}");
            after.push(scribe.cast(&wide, &new, CacheType::HALF));
            renames.insert(new, wide);
        }
    }
    for node in &mut graph.node {
        rename::node(node, &renames);
    }
    graph.node.splice(0..0, before);
    graph.node.extend(after);
}

fn set_type(info: &mut crate::onnx::proto::ValueInfoProto) {
    let value = info.r#type.as_mut().and_then(|t| t.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = value {
        tensor.elem_type = Some(CacheType::HALF);
    }
}
