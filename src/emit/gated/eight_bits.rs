//! Values in 8 bits, with a scale for each row of the batch and channel.
//!
//! Scales are powers of two. So both ways are exact in any engine, and what is widened and narrowed again stays
//! bit by bit what it was: an evaluation that only passes a cache on need not know that it does.

use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{attr_int, attr_ints, tensor_f32, tensor_i64};

use super::scribe::{Scribe, dtype};

/// `TensorProto.DataType` of 8 bits with sign.
const INT8: i32 = 3;
/// The largest value in 8 bits; -128 is not used.
const MOST: f32 = 127.0;
/// Exponents of the scales: values whose largest is under 2^-18 become coarser, those over 2^24 are cut off.
const EXPONENTS: std::ops::RangeInclusive<i32> = -24..=17;
/// `ReduceMax` and `ReduceMin` take their axes as an input since this opset.
const AXES_ARE_INPUTS: i64 = 18;

const SCALES: &str = "hgc.scale.all";
const LARGEST: &str = "hgc.scale.largest";
const LAST: &str = "hgc.scale.last";
const LOW: &str = "hgc.scale.low";
const HIGH: &str = "hgc.scale.high";

/// Makes the nodes of one graph, and the constants that they need.
pub struct EightBits<'a> {
    scribe: Scribe<'a>,
    opset: i64,
    /// Shapes and axes by name.
    indices: Vec<(String, Vec<i64>)>,
    narrows: bool,
}

impl<'a> EightBits<'a> {
    pub fn new(scribe: Scribe<'a>, opset: i64) -> Self {
        Self {
            scribe,
            opset,
            indices: Vec::new(),
            narrows: false,
        }
    }

    /// `wide = cache * scale`.
    pub fn widen(&self, [cache, scale, wide]: [&str; 3], elem_type: i32) -> Vec<NodeProto> {
        let s = self.scribe;
        let number = format!("{wide}.number");
        let mut nodes = vec![s.cast(cache, &number, dtype::F32)];
        if elem_type == dtype::F32 {
            nodes.push(s.node("Mul", &[&number, scale], &[wide]));
        } else {
            let product = format!("{wide}.product");
            nodes.push(s.node("Mul", &[&number, scale], &[&product]));
            nodes.push(s.cast(&product, wide, elem_type));
        }
        nodes
    }

    /// The smallest scales that are large enough for `wide`, and `wide` in their multiples.
    pub fn narrow(
        &mut self,
        [wide, cache, scale]: [&str; 3],
        elem_type: i32,
        within: &[usize],
    ) -> Vec<NodeProto> {
        let s = self.scribe;
        self.narrows = true;
        let at = |what: &str| format!("{wide}.{what}");
        let mut nodes = Vec::new();
        let mut value = wide.to_owned();
        if elem_type != dtype::F32 {
            value = at("single");
            nodes.push(s.cast(wide, &value, dtype::F32));
        }
        // One axis of each tensor has the channels, one the rows.
        let rank = within.len() + 2;
        let (sizes, most, each) = (at("size"), at("most"), at("each"));
        nodes.push(s.node("Abs", &[&value], &[&sizes]));
        let axes: Vec<i64> = within.iter().map(|a| as_i64(*a)).collect();
        nodes.push(self.reduce("ReduceMax", &sizes, &most, &axes, true));
        let mut column = vec![0; rank];
        column.push(1);
        let column = self.indices(format!("hgc.scale.column.{rank}"), column);
        nodes.push(s.node("Reshape", &[&most, &column], &[&each]));
        let (small, fitting) = (at("small"), at("fitting"));
        nodes.push(s.node("Less", &[LARGEST, &each], &[&small]));
        nodes.push(s.node("Where", &[&small, LAST, SCALES], &[&fitting]));
        nodes.push(self.reduce("ReduceMin", &fitting, scale, &[as_i64(rank)], false));
        let (number, rounded, cut) = (at("number"), at("rounded"), at("cut"));
        nodes.push(s.node("Div", &[&value, scale], &[&number]));
        nodes.push(s.node("Round", &[&number], &[&rounded]));
        nodes.push(s.node("Clip", &[&rounded, LOW, HIGH], &[&cut]));
        nodes.push(s.cast(&cut, cache, INT8));
        nodes
    }

    fn reduce(
        &mut self,
        op: &str,
        input: &str,
        output: &str,
        axes: &[i64],
        keep: bool,
    ) -> NodeProto {
        let named: Vec<String> = axes.iter().map(i64::to_string).collect();
        let keep = attr_int("keepdims", i64::from(keep));
        if self.opset < AXES_ARE_INPUTS {
            let node = self.scribe.node(op, &[input], &[output]);
            return node.with_attr(attr_ints("axes", axes)).with_attr(keep);
        }
        let name = format!("hgc.scale.axes.{}", named.join("."));
        let axes = self.indices(name, axes.to_vec());
        let node = self.scribe.node(op, &[input, &axes], &[output]);
        node.with_attr(keep)
    }

    fn indices(&mut self, name: String, values: Vec<i64>) -> String {
        if self.indices.iter().all(|(known, _)| *known != name) {
            self.indices.push((name.clone(), values));
        }
        name
    }

    /// Initializers that the nodes read.
    #[must_use]
    pub fn constants(self) -> Vec<TensorProto> {
        if !self.narrows {
            return Vec::new();
        }
        let scales: Vec<f32> = EXPONENTS.map(|e| 2f32.powi(e)).collect();
        let largest: Vec<f32> = scales.iter().map(|s| s * MOST).collect();
        let count = as_i64(scales.len());
        let last = scales.last().copied().unwrap_or_default();
        let indices = self.indices.iter();
        let indices =
            indices.map(|(name, values)| tensor_i64(name, &[as_i64(values.len())], values));
        let mut constants = vec![
            tensor_f32(SCALES, &[count], &scales),
            tensor_f32(LARGEST, &[count], &largest),
            tensor_f32(LAST, &[1], &[last]),
            tensor_f32(LOW, &[], &[-MOST]),
            tensor_f32(HIGH, &[], &[MOST]),
        ];
        constants.extend(indices);
        constants
    }
}

fn as_i64(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
