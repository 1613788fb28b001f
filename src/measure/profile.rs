//! What ran, from ONNX Runtime's own profile.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use super::MeasureError;
use crate::analysis::Analysis;
use crate::analysis::macs::Macs;
use crate::emit::names::of_node;
use crate::emit::variants;
use crate::graph::{Graph, NodeId};
use crate::plan::Plan;

/// One kernel execution.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Shapes of its inputs.
    pub inputs: Vec<Vec<u64>>,
    /// Shapes of its outputs.
    pub outputs: Vec<Vec<u64>>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    name: String,
    ts: u64,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    input_type_shape: Vec<HashMap<String, Vec<i64>>>,
    #[serde(default)]
    output_type_shape: Vec<HashMap<String, Vec<i64>>>,
}

/// What the names of one session's profiles begin with: the runtime adds no more than the time, and two
/// sessions may begin within a millisecond.
pub fn prefix(model: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!(
        "hgc-profile-{}-{count}-{model}",
        std::process::id()
    ))
}

/// Executions by run, in order of the runs.
///
/// # Errors
/// [`MeasureError::Profile`] if the file is not a profile.
pub fn read(path: &Path) -> Result<Vec<Vec<Execution>>, MeasureError> {
    let failed = |reason: String| MeasureError::Profile {
        file: path.display().to_string(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let events: Vec<Event> = serde_json::from_str(&text).map_err(|e| failed(e.to_string()))?;
    let mut spans: Vec<(u64, u64)> = events
        .iter()
        .filter(|e| e.cat == "Session" && e.name == "model_run")
        .map(|e| (e.ts, e.ts.saturating_add(e.dur)))
        .collect();
    spans.sort_unstable();
    let mut runs: Vec<Vec<Execution>> = vec![Vec::new(); spans.len()];
    for event in events {
        let Some(node) = event.name.strip_suffix("_kernel_time") else {
            continue;
        };
        let after = spans.partition_point(|(start, _)| *start <= event.ts);
        let Some(index) = after.checked_sub(1) else {
            continue;
        };
        runs[index].push(Execution {
            node: node.to_owned(),
            op: event.args.op_name,
            inputs: event.args.input_type_shape.iter().map(dims).collect(),
            outputs: event.args.output_type_shape.iter().map(dims).collect(),
        });
    }
    Ok(runs)
}

/// What ran, evaluation by evaluation, where the kinds of a plan have a profile each; of a single one,
/// its runs.
///
/// # Errors
/// [`MeasureError::Profile`] if a file is not a profile.
pub fn runs(profiles: &[PathBuf], plan: &Plan) -> Result<Vec<Vec<Execution>>, MeasureError> {
    let read: Result<Vec<_>, _> = profiles.iter().map(|p| self::read(p)).collect();
    let mut read = read?;
    if read.len() == 1 {
        return Ok(read.pop().unwrap_or_default());
    }
    let mut kinds: Vec<_> = read.into_iter().map(Vec::into_iter).collect();
    let mut runs = Vec::new();
    for kind in plan.evaluations()? {
        let Some(mut run) = kinds.get_mut(kind).and_then(Iterator::next) else {
            break;
        };
        for execution in &mut run {
            execution.node = variants::original_name(&execution.node).to_owned();
        }
        runs.push(run);
    }
    Ok(runs)
}

fn dims(shape: &HashMap<String, Vec<i64>>) -> Vec<u64> {
    let dims = shape.values().next().map(Vec::as_slice).unwrap_or_default();
    dims.iter()
        .map(|d| u64::try_from(*d).unwrap_or(0))
        .collect()
}

/// Turns executions of original nodes into MACs and node counts.
pub struct Ledger<'a, 'm> {
    analysis: &'a Analysis<'m>,
    by_name: HashMap<String, NodeId>,
    /// Original nodes whose name is shared cannot be told apart in a profile.
    pub anonymous: usize,
    /// Multiplying nodes of unknown shape: the plan has no MACs for them, so what the profile
    /// has does not count either.
    pub uncounted: BTreeSet<NodeId>,
}

/// What an original node is called in the rewritten model.
fn name_in(graph: &Graph<'_>, node: NodeId) -> String {
    of_node(graph.node(node), node.index())
}

impl<'a, 'm> Ledger<'a, 'm> {
    /// A ledger of the original graph.
    #[must_use]
    pub fn new(analysis: &'a Analysis<'m>) -> Self {
        let graph: &Graph<'m> = &analysis.graph;
        let mut counts: HashMap<String, usize> = HashMap::new();
        for node in graph.nodes() {
            *counts.entry(name_in(graph, node)).or_default() += 1;
        }
        let named = graph.nodes().map(|n| (name_in(graph, n), n));
        let by_name: HashMap<String, NodeId> = named
            .filter(|(name, _)| counts.get(name) == Some(&1))
            .collect();
        let anonymous = graph.node_count() - by_name.len();
        Self {
            analysis,
            by_name,
            anonymous,
            uncounted: analysis.uncounted().into_iter().collect(),
        }
    }

    /// Original nodes that one run executed.
    #[must_use]
    pub fn nodes(&self, run: &[Execution]) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = run
            .iter()
            .filter_map(|e| self.by_name.get(e.node.as_str()))
            .copied()
            .collect();
        nodes.sort_unstable();
        nodes
    }

    /// Nodes that a profile can show: named, and no `Constant`, which the runtime turns
    /// into an initializer.
    #[must_use]
    pub fn is_visible(&self, node: NodeId) -> bool {
        let graph = &self.analysis.graph;
        graph.op(node) != "Constant" && self.by_name.contains_key(&name_in(graph, node))
    }

    /// MACs of one run, from the shapes that the profile recorded.
    #[must_use]
    pub fn macs(&self, run: &[Execution]) -> Macs {
        run.iter().map(|e| self.macs_of(e)).sum()
    }

    fn macs_of(&self, execution: &Execution) -> Macs {
        let node = self.by_name.get(execution.node.as_str()).copied();
        let output = execution.outputs.first().map(|d| d.iter().product::<u64>());
        let (Some(node), Some(output)) = (node, output) else {
            return Macs::default();
        };
        if self.uncounted.contains(&node) {
            return Macs::default();
        }
        let shape = |i: usize| {
            execution
                .inputs
                .get(i)
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        let depth = match execution.op.as_str() {
            "Conv" => {
                let filters = shape(1).first().copied().unwrap_or(1).max(1);
                shape(1).iter().product::<u64>() / filters
            }
            "MatMul" => shape(0).last().copied().unwrap_or(0),
            "Gemm" => {
                let rows = execution.outputs.first().and_then(|d| d.first()).copied();
                shape(0).iter().product::<u64>() / rows.unwrap_or(1).max(1)
            }
            // Fused operators: count as planned, at the rows that the profile shows.
            _ => return self.analysis.macs(node, self.batch_of(execution)),
        };
        let all = output.saturating_mul(depth);
        let weighted = self.analysis.macs(node, 1).weights > 0;
        Macs {
            all,
            weights: if weighted { all } else { 0 },
        }
    }

    fn batch_of(&self, execution: &Execution) -> u64 {
        execution
            .outputs
            .first()
            .and_then(|d| d.first())
            .copied()
            .unwrap_or(1)
    }
}
