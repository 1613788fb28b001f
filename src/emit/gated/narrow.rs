//! Caches in a smaller type than what they cache: converted where they come in and where they go out.

use crate::convention::{past, present, scale, slope};
use crate::emit::describe::Declared;
use crate::onnx::proto::{GraphProto, TensorShapeProto, ValueInfoProto, type_proto};
use crate::plan::layout::Layout;
use crate::plan::storage::Storage;

use super::eight_bits::EightBits;
use super::rename::{self, Renames};
use super::scribe::{Scribe, dtype};
use super::site::{elem_type, is_linear};

/// A cache that is kept in a smaller type.
#[derive(Clone, Debug)]
pub struct Narrowed {
    /// Its name, without `hgc.past.` and `hgc.present.`.
    name: String,
    /// In what it is kept.
    storage: Storage,
    /// `TensorProto.DataType` of what it caches.
    elem_type: i32,
}

/// The caches that a plan keeps in a smaller type.
#[must_use]
pub fn narrowed(layout: &Layout) -> Vec<Narrowed> {
    let mut found = Vec::new();
    for placed in &layout.sites {
        for tensor in &placed.tensors {
            let storage = Storage::of(placed, tensor);
            if storage == Storage::Same {
                continue;
            }
            let linear = is_linear(placed, tensor).then(|| slope(&tensor.name));
            let names = [tensor.name.clone()].into_iter().chain(linear);
            found.extend(names.map(|name| Narrowed {
                name,
                storage,
                elem_type: elem_type(tensor),
            }));
        }
    }
    found
}

/// Caches as callers see them, from those inside of the graph.
#[must_use]
pub fn shown(states: Vec<Declared>, narrowed: &[Narrowed]) -> Vec<Declared> {
    let mut found = Vec::new();
    for mut state in states {
        let kept = narrowed.iter().find(|n| n.name == state.name);
        let mut scales = None;
        if let Some(Narrowed { storage, .. }) = kept {
            state.elem_type = storage.elem_type(state.elem_type);
            if let Storage::Int8(within) = storage {
                scales = Some(Declared {
                    name: scale(&state.name),
                    elem_type: dtype::F32,
                    shape: collapsed(&state.shape, within),
                    in_place: state.in_place,
                });
            }
        }
        found.push(state);
        found.extend(scales);
    }
    found
}

/// Narrows the caches of a finished graph, whose opset this is. Inside of it they stay as wide as they are.
pub fn narrow(graph: &mut GraphProto, narrowed: &[Narrowed], opset: i64, scribe: Scribe<'_>) {
    let (mut renames, mut before, mut after) = (Renames::new(), Vec::new(), Vec::new());
    let mut eight_bits = EightBits::new(scribe, opset);
    for cache in narrowed {
        let (old, new) = (past(&cache.name), present(&cache.name));
        let (old_scale, new_scale) = (past(&scale(&cache.name)), present(&scale(&cache.name)));
        if let Some(at) = position(&graph.input, &old) {
            let wide = format!("hgc.wide.{old}");
            if let Storage::Int8(within) = cache.storage {
                let scales = scales_of(&graph.input[at], &old_scale, within);
                graph.input.insert(at + 1, scales);
                let names = [old.as_str(), &old_scale, &wide];
                before.extend(eight_bits.widen(names, cache.elem_type));
            } else {
                before.push(scribe.cast(&old, &wide, cache.elem_type));
            }
            set_type(&mut graph.input[at], cache);
            renames.insert(old, wide);
        }
        if let Some(at) = position(&graph.output, &new) {
            let wide = format!("hgc.wide.{new}");
            if let Storage::Int8(within) = cache.storage {
                let scales = scales_of(&graph.output[at], &new_scale, within);
                graph.output.insert(at + 1, scales);
                let names = [wide.as_str(), &new, &new_scale];
                after.extend(eight_bits.narrow(names, cache.elem_type, within));
            } else {
                after.push(scribe.cast(&wide, &new, cache.storage.elem_type(cache.elem_type)));
            }
            set_type(&mut graph.output[at], cache);
            renames.insert(new, wide);
        }
    }
    for node in &mut graph.node {
        rename::node(node, &renames);
    }
    graph.node.splice(0..0, before);
    graph.node.extend(after);
    graph.initializer.extend(eight_bits.constants());
}

fn position(infos: &[ValueInfoProto], name: &str) -> Option<usize> {
    infos.iter().position(|info| info.name() == name)
}

fn tensor(info: &mut ValueInfoProto) -> Option<&mut type_proto::Tensor> {
    match info.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

fn set_type(info: &mut ValueInfoProto, cache: &Narrowed) {
    if let Some(tensor) = tensor(info) {
        tensor.elem_type = Some(cache.storage.elem_type(cache.elem_type));
    }
}

/// The declaration of the scales beside a cache.
fn scales_of(cache: &ValueInfoProto, name: &str, within: &[usize]) -> ValueInfoProto {
    let mut info = cache.clone();
    info.name = Some(name.to_owned());
    if let Some(tensor) = tensor(&mut info) {
        tensor.elem_type = Some(dtype::F32);
        tensor.shape = tensor.shape.as_ref().map(|s| collapsed(s, within));
    }
    info
}

/// A shape that is one long along these axes.
fn collapsed(shape: &TensorShapeProto, within: &[usize]) -> TensorShapeProto {
    let mut shape = shape.clone();
    for axis in within {
        if let Some(dim) = shape.dim.get_mut(*axis) {
            *dim = super::interface::number(1);
        }
    }
    shape
}
