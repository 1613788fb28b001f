//! The inverse of a rewrite: the original model from a compiled one.

use std::collections::HashMap;

use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::{STANDARD_DOMAIN, graph_hash};
use crate::plan::Plan;

use super::emit::then_branch;
use super::names::take_back;
use super::record::{Positions, Record, ScopeRecord};
use super::rename::{self, Renames};
use crate::convention::{PREFIX, PRESENT_PREFIX, STEP, key};

/// Why a model cannot be stripped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum StripError {
    #[error("the model is not compiled by hgc: it has no {} metadata", key::LAYOUT)]
    NotCompiled,
    #[error("the model is a variant; the original is the model.onnx beside it")]
    Variant,
    #[error("metadata {key} is damaged: {reason}; compile the original again")]
    Metadata { key: &'static str, reason: String },
    #[error(
        "the model was changed after it was compiled: {what}; change the original, then compile it"
    )]
    Changed { what: String },
}

/// The value of a metadata key.
#[must_use]
pub fn metadata<'m>(model: &'m ModelProto, key: &str) -> Option<&'m str> {
    model
        .metadata_props
        .iter()
        .find(|e| e.key() == key)
        .map(|e| e.value())
}

/// The plan inside a compiled model.
///
/// # Errors
/// [`StripError`] if there is none or it cannot be read.
pub fn compiled_plan(model: &ModelProto) -> Result<Plan, StripError> {
    let text = metadata(model, key::PLAN).ok_or(StripError::NotCompiled)?;
    toml::from_str(text).map_err(|e| StripError::Metadata {
        key: key::PLAN,
        reason: e.to_string(),
    })
}

/// Gives the original model back, proved equal by the hash that the plan carries.
///
/// # Errors
/// [`StripError`] if the model is not compiled, or was changed since.
pub fn strip(compiled: &ModelProto) -> Result<ModelProto, StripError> {
    if metadata(compiled, key::KIND).is_some() {
        return Err(StripError::Variant);
    }
    let text = metadata(compiled, key::LAYOUT).ok_or(StripError::NotCompiled)?;
    let record: Record = serde_json::from_str(text).map_err(|e| StripError::Metadata {
        key: key::LAYOUT,
        reason: e.to_string(),
    })?;
    let plan = compiled_plan(compiled)?;
    let name = metadata(compiled, key::NAME).unwrap_or_default();
    let changed = |what: &str| StripError::Changed {
        what: what.to_owned(),
    };
    let mut model = compiled.clone();
    model.metadata_props.truncate(record.metadata);
    if record.ir_version.is_some() {
        model.ir_version = record.ir_version;
    }
    let graph = model
        .graph
        .as_mut()
        .ok_or_else(|| changed("it has no graph"))?;
    let renames: Renames = record.renamed.clone().into_iter().collect();
    let mut found = Collected::default();
    found.scope(graph, &record.main, &record, &renames)?;
    graph.node = in_order(found.nodes).ok_or_else(|| changed("nodes are missing"))?;
    // A hostile record may name any number of nodes.
    let most = graph.node.len();
    for position in record.spelled.iter().take(most) {
        let node = graph.node.get_mut(position);
        let node = node.ok_or_else(|| changed("its record names nodes that are not there"))?;
        node.domain = Some(STANDARD_DOMAIN.to_owned());
    }
    graph.initializer =
        in_order(found.initializers).ok_or_else(|| changed("initializers are missing"))?;
    graph.value_info =
        in_order(found.value_info).ok_or_else(|| changed("declarations are missing"))?;
    let first = graph.input.iter().position(|i| i.name() == STEP);
    graph
        .input
        .truncate(first.ok_or_else(|| changed("hgc.step is missing"))?);
    graph
        .output
        .retain(|o| !o.name().starts_with(PRESENT_PREFIX));
    let expected = plan
        .models
        .iter()
        .find(|m| m.name == name)
        .map(|m| m.hash.clone());
    if expected.as_deref() != Some(&graph_hash(&model)) {
        return Err(changed(
            "the result is not the graph that the plan was made for",
        ));
    }
    Ok(model)
}

/// Original parts with their original positions.
#[derive(Default)]
struct Collected {
    nodes: Vec<(usize, NodeProto)>,
    initializers: Vec<(usize, TensorProto)>,
    value_info: Vec<(usize, ValueInfoProto)>,
}

impl Collected {
    fn scope(
        &mut self,
        graph: &mut GraphProto,
        scope: &ScopeRecord,
        record: &Record,
        renames: &Renames,
    ) -> Result<(), StripError> {
        let mut own = Vec::new();
        for mut node in std::mem::take(&mut graph.node) {
            if !is_inserted(&node) {
                rename::node(&mut node, renames);
                take_back(&mut node);
                own.push(node);
            } else if let Some(inner) = record.scopes.get(node.name())
                && let Some(branch) = then_branch(&mut node)
            {
                self.scope(branch, inner, record, renames)?;
            }
        }
        let tensors = std::mem::take(&mut graph.initializer);
        let own_tensors = tensors
            .into_iter()
            .filter(|t| !t.name().starts_with(PREFIX))
            .collect();
        let infos = std::mem::take(&mut graph.value_info);
        self.nodes.extend(placed(&scope.nodes, own, "nodes")?);
        self.initializers
            .extend(placed(&scope.initializers, own_tensors, "initializers")?);
        self.value_info
            .extend(placed(&scope.value_info, infos, "declarations")?);
        Ok(())
    }
}

fn is_inserted(node: &NodeProto) -> bool {
    node.name().starts_with(PREFIX) && node.metadata_props.iter().any(|e| e.key() == key::POLICY)
}

fn placed<T>(
    positions: &Positions,
    parts: Vec<T>,
    what: &str,
) -> Result<Vec<(usize, T)>, StripError> {
    if positions.count() != parts.len() {
        let what = format!(
            "{} {what} stand where {} stood",
            parts.len(),
            positions.count()
        );
        return Err(StripError::Changed { what });
    }
    Ok(positions.iter().zip(parts).collect())
}

/// The parts by position, if every position occurs once.
fn in_order<T>(parts: Vec<(usize, T)>) -> Option<Vec<T>> {
    let count = parts.len();
    let mut by_position: HashMap<usize, T> = parts.into_iter().collect();
    (0..count).map(|i| by_position.remove(&i)).collect()
}
