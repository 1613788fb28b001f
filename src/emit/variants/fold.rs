//! A gated graph with its gates decided: the branch that runs stands in the place of each `If`.

use std::collections::{HashMap, HashSet};

use crate::analysis::shapes::declare;
use crate::convention::{PAST_PREFIX, PREFIX, PRESENT_PREFIX, ROW, STEP, key};
use crate::emit::RewriteError;
use crate::emit::gated::rename::{self, Renames};
use crate::emit::gated::{CHECK, dtype};
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto};
use crate::onnx::tensor_i64;

/// Values of the gates' flags by name.
pub type Flags = HashMap<String, bool>;

/// Gives the constant that takes the place of a value, by its name.
pub type Constants<'c> = &'c dyn Fn(&str) -> Option<TensorProto>;

/// What a folded graph has.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// All sizes declared, so that the runtime checks them.
    pub sized: bool,
    /// Inputs of the original that nothing reads.
    pub idle: bool,
}

/// The graph that is left of `graph` where the flags are so.
///
/// # Errors
/// [`RewriteError::ControlFlow`] naming a node of the original that decides for itself.
pub fn fold(
    graph: &GraphProto,
    flags: &Flags,
    constants: Constants<'_>,
    Keep { sized, idle }: Keep,
) -> Result<GraphProto, RewriteError> {
    let mut folder = Folder {
        flags,
        constants,
        sized,
        nodes: Vec::new(),
        initializers: Vec::new(),
        value_info: Vec::new(),
        same: Renames::new(),
    };
    folder.scope(graph)?;
    let outputs = folder.bind_outputs(graph);
    Ok(folder.finish(graph, outputs, !idle))
}

struct Folder<'f> {
    flags: &'f Flags,
    constants: Constants<'f>,
    sized: bool,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    value_info: Vec<ValueInfoProto>,
    /// What a name stands for, where that is another value.
    same: Renames,
}

impl Folder<'_> {
    fn meant(&self, name: &str) -> String {
        let mut name = name;
        while let Some(other) = self.same.get(name) {
            name = other;
        }
        name.to_owned()
    }

    /// Takes over what a scope computes.
    fn scope(&mut self, graph: &GraphProto) -> Result<(), RewriteError> {
        self.initializers.extend(graph.initializer.iter().cloned());
        self.value_info.extend(graph.value_info.iter().cloned());
        graph.node.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), RewriteError> {
        let inserted = node.name().starts_with(PREFIX)
            && node.metadata_props.iter().any(|e| e.key() == key::POLICY);
        let first = node.input.first().map_or("", String::as_str);
        let constant = match node.output.as_slice() {
            [only] if inserted => (self.constants)(only),
            _ => None,
        };
        if let Some(constant) = constant {
            self.initializers.push(constant);
            return Ok(());
        }
        // Which row it is, is told from outside.
        if inserted && node.output.first().is_some_and(|o| o == ROW) {
            return Ok(());
        }
        let flag = self.flags.get(first).copied().filter(|_| inserted);
        match (node.op_type(), flag) {
            ("If", Some(taken)) => {
                let branch = if taken { "then_branch" } else { "else_branch" };
                let Some(branch) = node.attr_graph(branch) else {
                    return Ok(());
                };
                self.scope(branch)?;
                for (output, inner) in node.output.iter().zip(&branch.output) {
                    let inner = self.meant(inner.name());
                    self.same.insert(output.clone(), inner);
                }
                Ok(())
            }
            ("If" | "Loop" | "Scan", _) => Err(RewriteError::ControlFlow { node: node.label() }),
            // What was computed a moment ago has the sizes of the call, and so has what is declared
            // with them.
            ("Reshape", _)
                if inserted
                    && node.name().starts_with(CHECK)
                    && (self.sized || !self.meant(first).starts_with(PAST_PREFIX)) =>
            {
                self.alias(node, first);
                Ok(())
            }
            ("Identity", _) if inserted => {
                self.alias(node, first);
                Ok(())
            }
            ("Where", Some(taken)) => {
                let chosen = node.input.get(if taken { 1 } else { 2 });
                self.alias(node, chosen.map_or("", String::as_str));
                Ok(())
            }
            // The flag as a number of rows to leave out.
            ("Cast", Some(value)) => {
                let name = node.output.first().map_or("", String::as_str);
                self.initializers
                    .push(tensor_i64(name, &[], &[i64::from(value)]));
                Ok(())
            }
            _ => {
                let mut node = node.clone();
                for input in &mut node.input {
                    *input = self.meant(input);
                }
                self.nodes.push(node);
                Ok(())
            }
        }
    }

    fn alias(&mut self, node: &NodeProto, meant: &str) {
        let meant = self.meant(meant);
        if let Some(output) = node.output.first() {
            self.same.insert(output.clone(), meant);
        }
    }

    /// Gives outputs their names, and finds those that are left: a cached value that stays as it
    /// was is none.
    fn bind_outputs(&mut self, graph: &GraphProto) -> Vec<ValueInfoProto> {
        let inputs: HashSet<&str> = graph.input.iter().map(|i| i.name()).collect();
        let own: HashSet<&str> = graph.output.iter().map(|o| o.name()).collect();
        let made: HashSet<String> = self.nodes.iter().flat_map(|n| n.output.clone()).collect();
        let mut names = Renames::new();
        let mut copies = Vec::new();
        let mut kept = Vec::new();
        for output in &graph.output {
            let name = output.name().to_owned();
            let meant = self.meant(&name);
            let stays = name
                .strip_prefix(PRESENT_PREFIX)
                .is_some_and(|state| meant.strip_prefix(PAST_PREFIX) == Some(state));
            if stays {
                continue;
            }
            kept.push(output.clone());
            if meant == name {
                continue;
            }
            let free = made.contains(&meant)
                && !own.contains(meant.as_str())
                && !inputs.contains(meant.as_str())
                && !names.contains_key(&meant);
            if free {
                names.insert(meant, name);
            } else {
                let source = names.get(&meant).cloned().unwrap_or(meant);
                copies.push(crate::onnx::make_node(
                    "Identity",
                    &format!("hgc.to.{name}"),
                    [source],
                    [name],
                ));
            }
        }
        self.nodes
            .iter_mut()
            .for_each(|node| rename::node(node, &names));
        for info in &mut self.value_info {
            if let Some(name) = names.get(info.name()) {
                info.name = Some(name.clone());
            }
        }
        self.nodes.append(&mut copies);
        kept
    }

    /// The graph with what its outputs need.
    fn finish(
        self,
        graph: &GraphProto,
        output: Vec<ValueInfoProto>,
        drop_idle: bool,
    ) -> GraphProto {
        let mut needed: HashSet<String> = output.iter().map(|o| o.name().to_owned()).collect();
        let mut kept = Vec::new();
        for node in self.nodes.into_iter().rev() {
            if node.output.iter().any(|o| needed.contains(o)) {
                needed.extend(node.input.iter().cloned());
                for inner in node.subgraphs() {
                    captured(inner, &mut needed);
                }
                kept.push(node);
            }
        }
        kept.reverse();
        let made: HashSet<&str> = kept
            .iter()
            .flat_map(|n| &n.output)
            .map(String::as_str)
            .collect();
        let shown: HashSet<&str> = output.iter().map(|o| o.name()).collect();
        let used = |name: &str| needed.contains(name);
        let ours = |name: &str| name == STEP || name.starts_with(PAST_PREFIX);
        // OpenVINO (onnxruntime-openvino 1.24.1) mixes up inputs where some of them are not used.
        let idle = |name: &str| !used(name) && (drop_idle || ours(name));
        let input = graph.input.iter().filter(|i| !idle(i.name()));
        let row = used(ROW).then(|| declare(ROW, dtype::I64, TensorShapeProto::default()));
        let input: Vec<&ValueInfoProto> = input.chain(&row).collect();
        let is_input: HashSet<&str> = input.iter().map(|i| i.name()).collect();
        // The default of an input stays beside it.
        let initializer = self
            .initializers
            .into_iter()
            .filter(|t| used(t.name()) || is_input.contains(t.name()));
        let value_info = self.value_info.into_iter();
        let value_info =
            value_info.filter(|v| made.contains(v.name()) && !shown.contains(v.name()));
        GraphProto {
            input: input.into_iter().cloned().collect(),
            initializer: initializer.collect(),
            value_info: value_info.collect(),
            name: graph.name.clone(),
            doc_string: graph.doc_string.clone(),
            sparse_initializer: graph.sparse_initializer.clone(),
            quantization_annotation: graph.quantization_annotation.clone(),
            metadata_props: graph.metadata_props.clone(),
            output,
            node: kept,
        }
    }
}

/// Adds all names that a graph reads, its own among them: those too many do no harm.
fn captured(graph: &GraphProto, names: &mut HashSet<String>) {
    for node in &graph.node {
        names.extend(node.input.iter().cloned());
        node.subgraphs().for_each(|inner| captured(inner, names));
    }
    names.extend(graph.output.iter().map(|o| o.name().to_owned()));
}
