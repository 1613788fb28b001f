//! Nodes and their attributes: look-ups and construction.

use bytes::Bytes;

use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

impl NodeProto {
    /// The attribute called `name`.
    pub fn attr(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|a| a.name() == name)
    }

    /// The integer attribute called `name`.
    pub fn attr_i(&self, name: &str) -> Option<i64> {
        self.attr(name)?.i
    }

    /// The float attribute called `name`.
    pub fn attr_f(&self, name: &str) -> Option<f32> {
        self.attr(name)?.f
    }

    /// The string attribute called `name`; `None` also if it is not UTF-8.
    pub fn attr_s(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attr(name)?.s.as_deref()?).ok()
    }

    /// The integers of the attribute called `name`.
    pub fn attr_ints(&self, name: &str) -> Option<&[i64]> {
        let attr = self.typed(name, AttributeType::Ints)?;
        Some(&attr.ints)
    }

    /// The floats of the attribute called `name`.
    pub fn attr_floats(&self, name: &str) -> Option<&[f32]> {
        let attr = self.typed(name, AttributeType::Floats)?;
        Some(&attr.floats)
    }

    /// The tensor attribute called `name`.
    pub fn attr_t(&self, name: &str) -> Option<&TensorProto> {
        self.attr(name)?.t.as_ref()
    }

    /// The graph attribute called `name`.
    pub fn attr_graph(&self, name: &str) -> Option<&GraphProto> {
        self.attr(name)?.g.as_ref()
    }

    /// Every graph nested directly in this node.
    pub fn subgraphs(&self) -> impl Iterator<Item = &GraphProto> {
        let attributes = self.attribute.iter();
        attributes.flat_map(|a| a.g.iter().chain(&a.graphs))
    }

    /// Every graph nested directly in this node, to change.
    pub fn subgraphs_mut(&mut self) -> impl Iterator<Item = &mut GraphProto> {
        let attributes = self.attribute.iter_mut();
        attributes.flat_map(|a| a.g.iter_mut().chain(&mut a.graphs))
    }

    /// Whether this calls `op` of the standard operator set.
    pub fn is_op(&self, op: &str) -> bool {
        self.in_standard_domain() && self.op_type() == op
    }

    /// Whether the operator is of the standard set, in either of its spellings.
    pub fn in_standard_domain(&self) -> bool {
        is_standard_domain(self.domain())
    }

    /// What to call this node in a message: its name or, without one, its first output.
    pub fn label(&self) -> String {
        let (op, name) = (self.op_type(), self.name());
        if !name.is_empty() {
            return format!("{name:?} ({op})");
        }
        match self.output.iter().find(|o| !o.is_empty()) {
            Some(output) => format!("of {output:?} ({op})"),
            None => format!("without a name ({op})"),
        }
    }

    /// This node with one more attribute.
    #[must_use]
    pub fn with_attr(mut self, attr: AttributeProto) -> Self {
        self.attribute.push(attr);
        self
    }

    /// A list attribute; an empty list counts if the type says it is one.
    fn typed(&self, name: &str, kind: AttributeType) -> Option<&AttributeProto> {
        self.attr(name)
            .filter(|a| a.r#type.is_none_or(|t| t == kind as i32))
    }
}

/// The long spelling of the standard operator set.
pub const STANDARD_DOMAIN: &str = "ai.onnx";

/// Whether `domain` is the standard operator set, which has two spellings.
pub fn is_standard_domain(domain: &str) -> bool {
    domain.is_empty() || domain == STANDARD_DOMAIN
}

/// A node of the standard operator set.
pub fn make_node<I, O>(op: &str, name: &str, inputs: I, outputs: O) -> NodeProto
where
    I: IntoIterator<Item: Into<String>>,
    O: IntoIterator<Item: Into<String>>,
{
    NodeProto {
        op_type: Some(op.to_owned()),
        name: Some(name.to_owned()),
        input: inputs.into_iter().map(Into::into).collect(),
        output: outputs.into_iter().map(Into::into).collect(),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}

/// An integer attribute.
pub fn attr_int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

/// An attribute of integers.
pub fn attr_ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        ints: values.to_vec(),
        ..attribute(name, AttributeType::Ints)
    }
}

/// A float attribute.
pub fn attr_float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        f: Some(value),
        ..attribute(name, AttributeType::Float)
    }
}

/// A string attribute.
pub fn attr_str(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..attribute(name, AttributeType::String)
    }
}

/// A tensor attribute.
pub fn attr_tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto {
        t: Some(value),
        ..attribute(name, AttributeType::Tensor)
    }
}

/// A graph attribute: a branch or a loop body.
pub fn attr_graph(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto {
        g: Some(value),
        ..attribute(name, AttributeType::Graph)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensor::tensor_i64;
    use super::*;

    #[test]
    fn attributes_come_back_by_name_and_kind() {
        let node = make_node("If", "gate", ["c"], ["y"])
            .with_attr(attr_int("axis", -1))
            .with_attr(attr_ints("perm", &[]))
            .with_attr(attr_float("alpha", 0.5))
            .with_attr(attr_str("mode", "linear"))
            .with_attr(attr_tensor("value", tensor_i64("", &[], &[3])))
            .with_attr(attr_graph("then_branch", GraphProto::default()));
        assert_eq!(node.attr_i("axis"), Some(-1));
        assert_eq!(node.attr_ints("perm"), Some(&[][..]));
        assert_eq!(node.attr_ints("axis"), None);
        assert_eq!(node.attr_f("alpha"), Some(0.5));
        assert_eq!(node.attr_s("mode"), Some("linear"));
        assert_eq!(
            node.attr_t("value").and_then(TensorProto::to_i64s),
            Some(vec![3])
        );
        assert!(node.attr_graph("then_branch").is_some());
        assert!(node.attr_graph("else_branch").is_none());
        assert_eq!(node.subgraphs().count(), 1);
        assert!(node.is_op("If") && !node.is_op("Loop"));
    }

    #[test]
    fn a_label_names_the_node_one_way_or_the_other() {
        let mut node = make_node("Add", "sum", ["a", "b"], ["y"]);
        assert_eq!(node.label(), "\"sum\" (Add)");
        node.name = None;
        assert_eq!(node.label(), "of \"y\" (Add)");
        node.output.clear();
        assert_eq!(node.label(), "without a name (Add)");
    }
}
