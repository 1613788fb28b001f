//! Damage to a model that leaves most of it as it was, so that it gets further than random bytes:
//! into shape inference, analysis, planning and rewriting.

use hgc::unstable::onnx::proto::tensor_shape_proto::dimension::Value as DimValue;
use hgc::unstable::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, type_proto};

/// One damage: what is done, where, and with which number.
#[derive(Clone, Debug)]
pub struct Damage {
    /// What is done.
    pub kind: u8,
    /// Where.
    pub at: usize,
    /// Where else, or with what.
    pub other: usize,
    /// With which number.
    pub number: i64,
}

fn pick<T>(list: &mut [T], at: usize) -> Option<&mut T> {
    let n = list.len();
    list.get_mut(at.checked_rem(n)?)
}

/// The `at`-th name that a node makes.
fn made(graph: &GraphProto, at: usize) -> Option<String> {
    let node = graph.node.get(at.checked_rem(graph.node.len())?)?;
    node.output.first().cloned()
}

/// A small tensor of integers: a shape, axes, or the like.
fn integers(graph: &mut GraphProto, at: usize) -> Option<&mut TensorProto> {
    let inner = graph.node.iter_mut().flat_map(|n| &mut n.attribute);
    let mut all: Vec<&mut TensorProto> = inner
        .filter_map(|a| a.t.as_mut())
        .chain(&mut graph.initializer)
        .filter(|t| t.data_type() == 7)
        .collect();
    let n = all.len();
    Some(all.swap_remove(at.checked_rem(n)?))
}

fn damage_attribute(node: &mut NodeProto, d: &Damage) -> Option<()> {
    let attribute = pick(&mut node.attribute, d.other)?;
    #[allow(clippy::cast_precision_loss)]
    match d.at % 3 {
        0 => {
            attribute.i = attribute.i.map(|_| d.number);
            attribute.f = attribute.f.map(|_| d.number as f32);
            if let Some(i) = pick(&mut attribute.ints, d.other) {
                *i = d.number;
            }
        }
        1 => attribute.ints.push(d.number),
        _ => drop(attribute.ints.pop()),
    }
    Some(())
}

/// Kinds of damage.
pub const KINDS: u8 = 18;

/// Damages a model, if there is what would be damaged.
pub fn apply(model: &mut ModelProto, d: &Damage) -> Option<()> {
    if d.kind == 17 {
        pick(&mut model.opset_import, d.at)?.version = Some(d.number);
        return Some(());
    }
    let graph = model.graph.as_mut()?;
    let (name, op) = (
        made(graph, d.other)?,
        graph.node[d.other % graph.node.len()].op_type.clone(),
    );
    let here = d.at.checked_rem(graph.node.len())?;
    match d.kind {
        0 => drop(graph.node.remove(here)),
        1 => *pick(&mut graph.node[here].input, d.other)? = name,
        2 => pick(&mut graph.node[here].input, d.other)?.clear(),
        3 => drop(graph.node[here].input.pop()),
        4 => graph.node[here].input.push(name),
        5 => drop(graph.node[here].output.pop()),
        6 => graph.node[here].output.push(format!("more_{}", d.other)),
        7 => graph.node[here].op_type = op,
        8 | 9 => damage_attribute(&mut graph.node[here], d)?,
        10 => {
            let node = &mut graph.node[here];
            let n = node.attribute.len();
            node.attribute.remove(d.other.checked_rem(n)?);
        }
        11 => *pick(&mut pick(&mut graph.initializer, d.at)?.dims, d.other)? = d.number,
        12 => pick(&mut graph.initializer, d.at)?.dims.push(1),
        13 => {
            // A payload of the right size with another number in it.
            let tensor = integers(graph, d.at)?;
            if let Some(i) = pick(&mut tensor.int64_data, d.other) {
                *i = d.number;
            }
            let mut raw = tensor.raw_data.take()?.to_vec();
            let place = 8 * d.other.checked_rem(raw.len() / 8)?;
            raw[place..place + 8].copy_from_slice(&d.number.to_le_bytes());
            tensor.raw_data = Some(raw.into());
        }
        14 => {
            let input = pick(&mut graph.input, d.at)?.r#type.as_mut()?;
            let Some(type_proto::Value::TensorType(tensor)) = &mut input.value else {
                return None;
            };
            let shape = tensor.shape.as_mut()?;
            if d.number == 0 {
                shape.dim.pop();
            } else {
                pick(&mut shape.dim, d.other)?.value = Some(DimValue::DimValue(d.number));
            }
        }
        15 => drop(graph.input.remove(d.at.checked_rem(graph.input.len())?)),
        _ => drop(graph.output.remove(d.at.checked_rem(graph.output.len())?)),
    }
    Some(())
}
