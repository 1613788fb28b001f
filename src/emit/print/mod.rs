//! A graph as text: stable, one line a node, for people and for `diff`.
//!
//! The text holds names, operators, attributes, types and shapes, and of weights the name and
//! the size. It holds no offset, no path and no version, so two files with the same graph have
//! the same text. What hgc inserted is marked with `*`; the branches of an `If` are blocks below
//! it, with the schedule of their gate.

mod value;

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::analysis::shapes::Shapes;
use crate::graph::Graph;
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use crate::onnx::{STANDARD_DOMAIN, is_standard_domain};

use super::{Form, Gated, Placement, RewriteError};
use crate::convention::PREFIX;
use value::{attribute, declared, escaped, initializer, rows};

/// Version of the text's form, its first line.
pub const FORMAT: u32 = 1;

/// Shapes by the name of a value: `f32[2B, 320, 64, 64]`.
#[derive(Default)]
pub struct Annotations(HashMap<String, String>);

impl Annotations {
    /// The shapes that were inferred for the values of `graph`.
    #[must_use]
    pub fn of(graph: &Graph<'_>, shapes: &Shapes) -> Self {
        let values = graph.nodes().flat_map(|n| graph.outputs_of(n).to_vec());
        let known = values.filter_map(|v| {
            let shape = shapes.get(v)?;
            let text = value::shape(shape.elem_type, &shape.dims);
            Some((graph.name(v).to_owned(), text))
        });
        Self(known.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The gated graph as text.
pub struct Print;

impl Form for Print {
    type Output = String;

    fn name(&self) -> &'static str {
        "print"
    }

    fn emit(&self, placement: &Placement<'_, '_>) -> Result<String, RewriteError> {
        let analysis = placement.analysis;
        let annotations = Annotations::of(&analysis.graph, &analysis.shapes);
        Ok(print(&Gated.emit(placement)?, &annotations))
    }
}

/// The text of a model. Shapes stand at the values that `annotations` knows by name.
#[must_use]
pub fn print(model: &ModelProto, annotations: &Annotations) -> String {
    let mut printer = Printer {
        text: format!("hgc graph {FORMAT}\n"),
        annotations,
        tables: HashMap::new(),
    };
    printer.opsets(model);
    for function in &model.functions {
        let domain = escaped(function.domain());
        let _ = writeln!(
            printer.text,
            "function {domain}.{}",
            escaped(function.name())
        );
        function.node.iter().for_each(|n| printer.node(n, 1));
    }
    if let Some(graph) = &model.graph {
        printer.main(graph);
    }
    printer.text
}

struct Printer<'a> {
    text: String,
    annotations: &'a Annotations,
    /// Look-ups of boolean tables, by the value that they give.
    tables: HashMap<String, String>,
}

impl Printer<'_> {
    fn opsets(&mut self, model: &ModelProto) {
        for import in &model.opset_import {
            let domain = match import.domain() {
                "" => STANDARD_DOMAIN,
                other => other,
            };
            let _ = writeln!(self.text, "opset {} {}", escaped(domain), import.version());
        }
    }

    fn main(&mut self, graph: &GraphProto) {
        self.note_tables(graph);
        self.interface("input", &graph.input);
        self.interface("output", &graph.output);
        self.scope(graph, 0);
    }

    fn interface(&mut self, what: &str, values: &[ValueInfoProto]) {
        for value in values {
            let (mark, name) = (mark(value.name()), escaped(value.name()));
            let _ = writeln!(self.text, "{mark}{what} {name} : {}", declared(value));
        }
    }

    /// Remembers the rows of each table of booleans, to show them where they gate a branch.
    fn note_tables(&mut self, graph: &GraphProto) {
        let tensors = graph.initializer.iter();
        let found: HashMap<&str, String> =
            tensors.filter_map(|t| Some((t.name(), rows(t)?))).collect();
        for node in graph.node.iter().filter(|n| n.op_type() == "Gather") {
            let table = node.input.first().and_then(|t| found.get(t.as_str()));
            if let (Some(table), Some(output)) = (table, node.output.first()) {
                self.tables.insert(output.clone(), table.clone());
            }
        }
    }

    fn scope(&mut self, graph: &GraphProto, depth: usize) {
        for tensor in &graph.initializer {
            self.weight(tensor, depth);
        }
        for sparse in &graph.sparse_initializer {
            if let Some(values) = &sparse.values {
                self.weight(values, depth);
            }
        }
        graph.node.iter().for_each(|n| self.node(n, depth));
    }

    fn weight(&mut self, tensor: &TensorProto, depth: usize) {
        let mark = mark(tensor.name());
        let _ = writeln!(
            self.text,
            "{mark}{:indent$}weight {} : {}",
            "",
            escaped(tensor.name()),
            initializer(tensor),
            indent = 2 * depth
        );
    }

    fn node(&mut self, node: &NodeProto, depth: usize) {
        let list = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|n| escaped(n)).collect();
            names.join(", ")
        };
        let domain = match node.domain() {
            domain if is_standard_domain(domain) => String::new(),
            other => format!("{}.", escaped(other)),
        };
        let mut line = format!(
            "{}{:indent$}{} = {domain}{}({})",
            mark(node.name()),
            "",
            list(&node.output),
            escaped(node.op_type()),
            list(&node.input),
            indent = 2 * depth
        );
        let (plain, nested): (Vec<_>, Vec<_>) = node
            .attribute
            .iter()
            .partition(|a| a.g.is_none() && a.graphs.is_empty());
        if !plain.is_empty() {
            let plain: Vec<_> = plain.iter().map(|a| attribute(a)).collect();
            let _ = write!(line, " {{{}}}", plain.join(", "));
        }
        let shapes: Vec<&str> = node
            .output
            .iter()
            .filter_map(|o| self.annotations.get(o))
            .collect();
        if !shapes.is_empty() {
            let _ = write!(line, " -> {}", shapes.join(", "));
        }
        if is_named_otherwise(node) {
            let _ = write!(line, "  # {}", escaped(node.name()));
        }
        self.text.push_str(&line);
        self.text.push('\n');
        for attr in nested {
            self.branches(node, attr, depth + 1);
        }
    }

    fn branches(&mut self, node: &NodeProto, attr: &AttributeProto, depth: usize) {
        let gate = node.input.first().filter(|_| node.op_type() == "If");
        let schedule = gate.and_then(|g| self.tables.get(g)).cloned();
        for graph in attr.g.iter().chain(&attr.graphs) {
            let outputs: Vec<_> = graph.output.iter().map(|o| escaped(o.name())).collect();
            let inputs: Vec<_> = graph.input.iter().map(|i| escaped(i.name())).collect();
            let when = match schedule.as_ref().filter(|_| attr.name() == "then_branch") {
                Some(schedule) => format!(" when {schedule}"),
                None => String::new(),
            };
            let _ = writeln!(
                self.text,
                "{}{:indent$}{}({}){when} -> {}",
                mark(node.name()),
                "",
                escaped(attr.name()),
                inputs.join(", "),
                outputs.join(", "),
                indent = 2 * depth
            );
            self.scope(graph, depth + 1);
        }
    }
}

/// What stands before the line of something that hgc inserted, or did not.
fn mark(name: &str) -> &'static str {
    if name.starts_with(PREFIX) { "* " } else { "  " }
}

/// Whether a node's name says more than the name of its output.
fn is_named_otherwise(node: &NodeProto) -> bool {
    let output = node.output.first().map_or("", String::as_str);
    let of_output = output == node.name()
        || output
            .strip_prefix(node.name())
            .is_some_and(|rest| rest.starts_with("_output_"));
    !of_output && !node.name().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{attr_graph, attr_int, make_node, tensor_bool, tensor_i64};

    #[test]
    fn a_gate_shows_its_schedule_and_names_are_escaped() {
        let then = GraphProto {
            node: vec![make_node("Relu", "relu", ["x\u{1b}[2J"], ["y"])],
            ..GraphProto::default()
        };
        let graph = GraphProto {
            initializer: vec![
                tensor_bool("hgc.refresh.a.table", &[3], &[true, true, false]),
                tensor_i64("k", &[2], &[3, 4]),
            ],
            node: vec![
                make_node(
                    "Gather",
                    "hgc.refresh.a",
                    ["hgc.refresh.a.table", "i"],
                    ["g"],
                )
                .with_attr(attr_int("axis", 0)),
                make_node("If", "hgc.site.a", ["g"], ["z"])
                    .with_attr(attr_graph("then_branch", then)),
            ],
            ..GraphProto::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        let text = print(&model, &Annotations::default());
        let expected = "hgc graph 1\n\
             * weight hgc.refresh.a.table : bool[3] RR.\n\
             \x20 weight k : int64[2] 3 4\n\
             * g = Gather(hgc.refresh.a.table, i) {axis=0}  # hgc.refresh.a\n\
             * z = If(g)  # hgc.site.a\n\
             *   then_branch() when RR. -> \n\
             \x20     y = Relu(x\\u{1b}[2J)  # relu\n";
        assert_eq!(text, expected);
    }
}
