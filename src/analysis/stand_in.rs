//! Element types that tract does not know, and what stands for them.
//!
//! Shapes do not depend on element types, so a graph in bfloat16 is inferred as if it were in
//! half precision, and 8-bit and narrower floats and integers as if they were `int8`.

use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

const INT8: i32 = 3;
const FLOAT16: i32 = 10;
const DOUBLE: i32 = 11;
const BFLOAT16: i32 = 16;

/// What stands for types in one graph.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandIns {
    /// For bfloat16: half precision, or double where the graph has that itself; none where it has
    /// no bfloat16.
    bfloat: Option<i32>,
    /// Whether `int8` stands for others.
    narrow: bool,
}

/// 8-bit floats, and all that has fewer bits.
fn is_narrow(elem_type: i32) -> bool {
    elem_type > BFLOAT16
}

impl StandIns {
    /// Looks at the types of all weights, inputs, constants and casts.
    pub(super) fn of(graph: &GraphProto) -> Self {
        let attributes = || graph.node.iter().flat_map(|n| &n.attribute);
        let constants = attributes().filter_map(|a| a.t.as_ref());
        let tensors = graph.initializer.iter().chain(constants);
        let inputs = graph.input.iter().map(super::inputs::declared_type);
        let casts = attributes().filter(|a| names_type(a)).map(cast);
        let types = tensors.map(TensorProto::data_type);
        let (mut half, mut bfloat, mut narrow) = (false, false, false);
        for elem_type in types.chain(inputs).chain(casts) {
            half |= elem_type == FLOAT16;
            bfloat |= elem_type == BFLOAT16;
            narrow |= is_narrow(elem_type);
        }
        Self {
            bfloat: bfloat.then_some(if half { DOUBLE } else { FLOAT16 }),
            narrow,
        }
    }

    /// The type that tract is told.
    pub(super) fn told(self, elem_type: i32) -> i32 {
        match self.bfloat {
            Some(stand_in) if elem_type == BFLOAT16 => stand_in,
            _ if is_narrow(elem_type) => INT8,
            _ => elem_type,
        }
    }

    /// The type that is meant by what tract inferred; 0 where it may be one of several.
    pub(super) fn meant(self, elem_type: i32) -> i32 {
        match self.bfloat {
            Some(stand_in) if elem_type == stand_in => BFLOAT16,
            _ if self.narrow && elem_type == INT8 => 0,
            _ => elem_type,
        }
    }

    /// Whether tract can be given the payload of this tensor.
    pub(super) fn reads(tensor: &TensorProto) -> bool {
        !is_narrow(tensor.data_type())
    }

    /// The tensor under the type that tract is told; both have as many bits.
    pub(super) fn tensor(self, mut tensor: TensorProto) -> TensorProto {
        if tensor.data_type() == BFLOAT16 {
            let elements = tensor.elem_count().unwrap_or_default();
            let told = self.told(BFLOAT16);
            let width = if told == DOUBLE { 8 } else { 2 };
            // Numbers of a weight decide no shape.
            let bytes = usize::try_from(elements).unwrap_or_default() * width;
            tensor.int32_data.clear();
            tensor.raw_data = Some(vec![0; bytes].into());
            tensor.data_type = Some(told);
        }
        tensor
    }

    /// The node with types that tract knows.
    pub(super) fn node(self, node: &mut NodeProto) {
        for attribute in &mut node.attribute {
            if names_type(attribute) {
                attribute.i = Some(i64::from(self.told(cast(attribute))));
            }
            if let Some(tensor) = attribute.t.take() {
                attribute.t = Some(self.tensor(tensor));
            }
        }
    }
}

/// Whether the attribute is an element type (`Cast`, `EyeLike`, `QuantizeLinear`, ...).
fn names_type(attribute: &AttributeProto) -> bool {
    matches!(attribute.name(), "to" | "dtype" | "output_dtype") && attribute.i.is_some()
}

fn cast(attribute: &AttributeProto) -> i32 {
    i32::try_from(attribute.i()).unwrap_or_default()
}
