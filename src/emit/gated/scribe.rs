//! Makes inserted nodes: unique names, marked with policy and site.

use crate::onnx::proto::{
    GraphProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use crate::onnx::{attr_graph, attr_int, attr_tensor, make_node, tensor_f32, tensor_i64};

use crate::analysis::shapes::declare;
use crate::convention::{PREFIX, key};
use crate::onnx::proto::{TensorShapeProto, tensor_shape_proto};

/// `TensorProto.DataType` values used here.
pub mod dtype {
    /// FLOAT.
    pub const F32: i32 = 1;
    /// INT64.
    pub const I64: i32 = 7;
}

/// Makes nodes of one site.
#[derive(Clone, Copy)]
pub struct Scribe<'a> {
    /// Policy of the plan.
    pub policy: &'a str,
    /// Site that the nodes belong to.
    pub site: &'a str,
}

impl Scribe<'_> {
    /// A node whose name is its first output's.
    pub fn node(self, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let name = outputs.first().copied().unwrap_or_default();
        let name = if name.starts_with(PREFIX) {
            name.to_owned()
        } else {
            format!("hgc.to.{name}")
        };
        let mut node = make_node(
            op,
            &name,
            inputs.iter().map(|s| (*s).to_owned()),
            outputs.iter().map(|s| (*s).to_owned()),
        );
        node.metadata_props = vec![entry(key::POLICY, self.policy), entry(key::SITE, self.site)];
        node
    }

    /// A constant that is called as its value.
    pub fn constant(self, value: &TensorProto) -> NodeProto {
        self.node("Constant", &[], &[value.name()])
            .with_attr(attr_tensor("value", value.clone()))
    }

    /// `output = input`, for a branch that returns an outer value.
    pub fn identity(self, input: &str, output: &str) -> NodeProto {
        self.node("Identity", &[input], &[output])
    }

    /// `output = Gather(table, index)` along axis 0.
    pub fn look_up(self, table: &str, index: &str, output: &str) -> NodeProto {
        self.node("Gather", &[table, index], &[output])
            .with_attr(attr_int("axis", 0))
    }

    /// `output = Cast(input)`.
    pub fn cast(self, input: &str, output: &str, elem_type: i32) -> NodeProto {
        self.node("Cast", &[input], &[output])
            .with_attr(attr_int("to", i64::from(elem_type)))
    }

    /// `output = Concat(first, second)` along `axis`.
    pub fn concat(self, first: &str, second: &str, axis: usize, output: &str) -> NodeProto {
        let axis = i64::try_from(axis).unwrap_or_default();
        self.node("Concat", &[first, second], &[output])
            .with_attr(attr_int("axis", axis))
    }

    /// `output = Slice(input, start, end)` along one axis; all three are 1-D names.
    pub fn slice(self, input: &str, span: Span<'_>, axis: usize, output: &str) -> NodeProto {
        let axis = axis_name(axis);
        self.node("Slice", &[input, span.start, span.end, &axis], &[output])
    }

    /// Nodes that make zeros shaped like `like`. Its content does not matter: a
    /// subtraction would turn an infinity into NaN.
    pub fn zeros(self, like: &str, output: &str, elem_type: i32) -> Vec<NodeProto> {
        let shape = format!("{output}.shape");
        let value = TensorProto {
            dims: vec![1],
            data_type: Some(elem_type),
            raw_data: Some(vec![0u8; zero_bytes(elem_type)].into()),
            ..TensorProto::default()
        };
        vec![
            self.node("Shape", &[like], &[&shape]),
            self.node("ConstantOfShape", &[&shape], &[output])
                .with_attr(attr_tensor("value", value)),
        ]
    }

    /// An `If`; its name is unique and non-empty, as TensorRT keys graphs by it.
    pub fn branch(
        self,
        name: &str,
        condition: &str,
        outputs: &[String],
        then_branch: GraphProto,
        else_branch: GraphProto,
    ) -> NodeProto {
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let mut node = self.node("If", &[condition], &outputs);
        node.name = Some(name.to_owned());
        node.with_attr(attr_graph("then_branch", then_branch))
            .with_attr(attr_graph("else_branch", else_branch))
    }
}

/// Start and end of a slice, names of 1-D int64 values.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    /// First row.
    pub start: &'a str,
    /// Past the last row.
    pub end: &'a str,
}

/// A value that a branch returns, with its type.
#[derive(Clone, Debug)]
pub struct Returned {
    /// Name.
    pub name: String,
    /// `TensorProto.DataType`.
    pub elem_type: i32,
    /// Number of dimensions.
    pub rank: Option<usize>,
}

/// A branch body.
#[must_use]
pub fn body(name: &str, nodes: Vec<NodeProto>, returned: &[Returned]) -> GraphProto {
    GraphProto {
        name: Some(name.to_owned()),
        node: nodes,
        output: returned.iter().map(Returned::declare).collect(),
        ..GraphProto::default()
    }
}

impl Returned {
    fn declare(&self) -> ValueInfoProto {
        let dim = vec![tensor_shape_proto::Dimension::default(); self.rank.unwrap_or(0)];
        let mut info = declare(&self.name, self.elem_type, TensorShapeProto { dim });
        if self.rank.is_none() {
            use crate::onnx::proto::type_proto::Value;
            let value = info.r#type.as_mut().and_then(|t| t.value.as_mut());
            if let Some(Value::TensorType(tensor)) = value {
                tensor.shape = None;
            }
        }
        info
    }
}

/// A metadata entry.
#[must_use]
pub fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    }
}

fn zero_bytes(elem_type: i32) -> usize {
    usize::try_from(crate::analysis::dims::elem_size(elem_type)).unwrap_or(4)
}

/// Initializer that holds an axis number.
#[must_use]
pub fn axis_name(axis: usize) -> String {
    format!("hgc.axis.{axis}")
}

/// The initializer of [`axis_name`].
#[must_use]
pub fn axis_tensor(axis: usize) -> TensorProto {
    tensor_i64(
        &axis_name(axis),
        &[1],
        &[i64::try_from(axis).unwrap_or_default()],
    )
}

/// Unused attributes of the standard set are left out; this one is needed for `Mul`
/// by a half.
#[must_use]
pub fn half_constant(output: &str, elem_type: i32, scribe: Scribe<'_>) -> Vec<NodeProto> {
    let wide = format!("{output}.f32");
    let constant = scribe
        .node("Constant", &[], &[&wide])
        .with_attr(attr_tensor("value", tensor_f32("", &[], &[0.5])));
    vec![constant, scribe.cast(&wide, output, elem_type)]
}
