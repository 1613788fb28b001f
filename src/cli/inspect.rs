//! `hgc inspect`: what a model is made of.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use hgc::unstable::analysis::attention::AttentionKind;
use hgc::unstable::analysis::blocks::{BlockKind, Stage};
use hgc::unstable::analysis::macs::Macs;
use hgc::unstable::analysis::{Analysis, Role, invariant};
use hgc::unstable::compile::models_of;
use hgc::unstable::emit;
use hgc::unstable::graph::NodeId;
use hgc::unstable::onnx::Model;
use serde::Serialize;

use super::Outcome;
use super::args::{macs, table};
use super::sizes::SizeArgs;
use super::terminal::{print, print_json};

/// Output formats of `inspect`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InspectFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// The block graph for Graphviz
    Dot,
}

/// Options of `hgc inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// ONNX files, or pipeline folders
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: InspectFormat,
    #[command(flatten)]
    sizes: SizeArgs,
}

#[derive(Serialize)]
struct Report {
    file: String,
    role: Role,
    /// Policy of a model that hgc compiled.
    compiled: Option<String>,
    /// Sizes, and where they are from.
    #[serde(skip)]
    sizes: String,
    inputs: Vec<InputReport>,
    blocks: Vec<BlockReport>,
    attention: Vec<AttentionReport>,
    skips: Vec<SkipReport>,
    invariant: InvariantReport,
    totals: TotalReport,
    symbolic_batch: bool,
    /// Why no shape at all could be inferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    unknown_shapes: Vec<String>,
    uncounted: Vec<String>,
}

#[derive(Serialize)]
struct InputReport {
    name: String,
    kind: &'static str,
    invariant: bool,
    shape: Option<String>,
}

#[derive(Serialize)]
struct BlockReport {
    id: String,
    stage: Stage,
    kind: BlockKind,
    label: String,
    nodes: usize,
    macs: u64,
    macs_weights: u64,
    outputs: Vec<String>,
}

#[derive(Serialize)]
struct AttentionReport {
    id: String,
    kind: AttentionKind,
    block: Option<String>,
    output: String,
    macs: u64,
}

#[derive(Serialize)]
struct SkipReport {
    concat: String,
    source: String,
    source_block: Option<String>,
    block: Option<String>,
    residuals: Vec<String>,
}

#[derive(Serialize)]
struct InvariantReport {
    nodes: usize,
    macs: u64,
    macs_weights: u64,
    values: Vec<String>,
}

#[derive(Serialize)]
struct TotalReport {
    macs: u64,
    macs_weights: u64,
}

/// Runs `hgc inspect`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut reports = Vec::new();
    let models = args.models.iter().map(|path| models_of(path));
    for path in models.collect::<Result<Vec<_>, _>>()?.iter().flatten() {
        let mut model = Model::read(path)?;
        // A compiled model is shown as what it was compiled from.
        let compiled = emit::metadata(&model.proto, hgc::unstable::convention::key::POLICY);
        let compiled = compiled.map(str::to_owned);
        if compiled.is_some() {
            model.proto = emit::strip(&model.proto)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        let known = args.sizes.of(path)?;
        let analysis = Analysis::of(&model.proto, known.sizes)
            .with_context(|| format!("cannot analyse {}", path.display()))?;
        let mut found = report(&path.display().to_string(), &analysis);
        found.compiled = compiled;
        found.sizes = known.to_string();
        reports.push(found);
    }
    match args.format {
        InspectFormat::Json => print_json("hgc.inspect.v1", &reports)?,
        InspectFormat::Table => print(reports.iter().map(render).collect::<String>().trim_end())?,
        InspectFormat::Dot => print(&reports.iter().map(dot).collect::<String>())?,
    }
    Ok(Outcome::Done)
}

fn report(file: &str, analysis: &Analysis<'_>) -> Report {
    let batch = analysis.sizes.batch;
    let graph = &analysis.graph;
    let block_id = |n: NodeId| analysis.block_of(n).map(|b| b.id.clone());
    let total: Macs = analysis.macs_of(graph.nodes(), batch);
    let invariant = invariant::find(analysis);
    let fixed = analysis.macs_of(invariant.nodes.iter().map(NodeId::new), batch);
    Report {
        file: file.to_owned(),
        role: analysis.role,
        compiled: None,
        sizes: String::new(),
        inputs: inputs(analysis),
        blocks: blocks(analysis),
        attention: attention(analysis),
        skips: analysis
            .skips
            .iter()
            .map(|s| SkipReport {
                concat: graph.node_label(s.concat).to_owned(),
                source: graph.name(s.source).to_owned(),
                source_block: graph.producer(s.source).and_then(block_id),
                block: block_id(s.concat),
                residuals: s
                    .residuals
                    .iter()
                    .map(|v| graph.name(*v).to_owned())
                    .collect(),
            })
            .collect(),
        invariant: InvariantReport {
            nodes: invariant.nodes.count(),
            macs: fixed.all,
            macs_weights: fixed.weights,
            values: invariant
                .frontier
                .iter()
                .map(|v| graph.name(*v).to_owned())
                .collect(),
        },
        totals: TotalReport {
            macs: total.all,
            macs_weights: total.weights,
        },
        symbolic_batch: analysis.shapes.symbolic_batch,
        refused: analysis.shapes.refused.clone(),
        unknown_shapes: analysis.shapes.unknown.clone(),
        uncounted: analysis
            .uncounted()
            .iter()
            .map(|n| graph.node_label(*n).to_owned())
            .collect(),
    }
}

fn inputs(analysis: &Analysis<'_>) -> Vec<InputReport> {
    let pairs = analysis.graph.inputs().iter().zip(&analysis.kinds);
    pairs
        .map(|(v, kind)| InputReport {
            name: analysis.graph.name(*v).to_owned(),
            kind: kind.label(),
            invariant: kind.is_invariant(),
            shape: analysis.shapes.get(*v).map(ToString::to_string),
        })
        .collect()
}

fn blocks(analysis: &Analysis<'_>) -> Vec<BlockReport> {
    analysis
        .blocks
        .iter()
        .map(|b| {
            let macs = analysis.macs_of(b.nodes.iter().copied(), analysis.sizes.batch);
            BlockReport {
                id: b.id.clone(),
                stage: b.stage,
                kind: b.kind,
                label: label(analysis, &b.nodes),
                nodes: b.nodes.len(),
                macs: macs.all,
                macs_weights: macs.weights,
                outputs: b
                    .outputs
                    .iter()
                    .map(|v| analysis.graph.name(*v).to_owned())
                    .collect(),
            }
        })
        .collect()
}

/// The longest common path prefix of the node names: a hint for people, nothing else
/// depends on it.
fn label(analysis: &Analysis<'_>, nodes: &[NodeId]) -> String {
    let heavy = nodes
        .iter()
        .copied()
        .filter(|n| analysis.macs(*n, 1).weights > 0);
    let mut names = heavy.map(|n| analysis.graph.node(n).name());
    let Some(first) = names.next() else {
        return String::new();
    };
    let common = names.fold(first, |common, name| {
        let same = common
            .bytes()
            .zip(name.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        common.get(..same).unwrap_or("")
    });
    let end = common.rfind(['/', '.']).unwrap_or(0);
    common
        .get(..end)
        .unwrap_or("")
        .trim_matches(['/', '.'])
        .to_owned()
}

fn attention(analysis: &Analysis<'_>) -> Vec<AttentionReport> {
    analysis
        .attention
        .iter()
        .enumerate()
        .map(|(i, a)| AttentionReport {
            id: format!("attention.{i}"),
            kind: a.kind,
            block: a
                .core
                .first()
                .and_then(|n| analysis.block_of(*n))
                .map(|b| b.id.clone()),
            output: analysis.graph.name(a.output).to_owned(),
            macs: analysis.attention_macs(a).all,
        })
        .collect()
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    let count = |kind| report.attention.iter().filter(|a| a.kind == kind).count();
    let _ = writeln!(text, "{}: {}", report.file, report.role.name());
    if let Some(policy) = &report.compiled {
        let _ = writeln!(
            text,
            "compiled by hgc with policy {policy}; shown is the original in it"
        );
    }
    let _ = writeln!(
        text,
        "{}; batch is {}\n",
        report.sizes,
        if report.symbolic_batch {
            "dynamic"
        } else {
            "fixed"
        }
    );
    let mut inputs = table(&["input", "kind", "shape", ""], &[]);
    for input in &report.inputs {
        let note = if input.invariant {
            "constant over a generation"
        } else {
            ""
        };
        let shape = input.shape.as_deref().unwrap_or("?");
        inputs.add_row([input.name.as_str(), input.kind, shape, note]);
    }
    let _ = writeln!(text, "{inputs}\n");
    let mut blocks = table(
        &["block", "nodes", "MACs", "weights only", "label"],
        &[1, 2, 3],
    );
    for b in &report.blocks {
        blocks.add_row([
            b.id.clone(),
            b.nodes.to_string(),
            macs(b.macs),
            macs(b.macs_weights),
            b.label.clone(),
        ]);
    }
    let total = &report.totals;
    let nodes: usize = report.blocks.iter().map(|b| b.nodes).sum();
    blocks.add_row([
        "total".to_owned(),
        nodes.to_string(),
        macs(total.macs),
        macs(total.macs_weights),
        String::new(),
    ]);
    let _ = writeln!(text, "{blocks}\n");
    let _ = writeln!(
        text,
        "{} skip connections; {} self- and {} cross-attentions",
        report.skips.len(),
        count(AttentionKind::SelfAttention),
        count(AttentionKind::Cross)
    );
    let fixed = &report.invariant;
    let _ = writeln!(
        text,
        "step-invariant: {} nodes behind {} values, {} MACs (weights only {})",
        fixed.nodes,
        fixed.values.len(),
        macs(fixed.macs),
        macs(fixed.macs_weights)
    );
    if let Some(reason) = &report.refused {
        let _ = writeln!(text, "shapes could not be inferred: {reason}");
    }
    if !(report.unknown_shapes.is_empty() && report.uncounted.is_empty()) {
        let _ = writeln!(
            text,
            "{} values without a shape, {} multiplying nodes not counted (see --format json)",
            report.unknown_shapes.len(),
            report.uncounted.len()
        );
    }
    text.push('\n');
    text
}

/// Blocks as boxes, the order of the trunk as edges, skips as dashed edges.
fn dot(report: &Report) -> String {
    let mut text = format!(
        "digraph {:?} {{\n  rankdir=LR; node [shape=box];\n",
        report.file
    );
    for b in &report.blocks {
        let _ = writeln!(
            text,
            "  {:?} [label=\"{}\\n{} MACs\"];",
            b.id,
            b.id,
            macs(b.macs)
        );
    }
    let trunk: Vec<&BlockReport> = report
        .blocks
        .iter()
        .filter(|b| !matches!(b.kind, BlockKind::Embedding | BlockKind::Residuals))
        .collect();
    for pair in trunk.windows(2) {
        let _ = writeln!(text, "  {:?} -> {:?};", pair[0].id, pair[1].id);
    }
    for skip in &report.skips {
        if let (Some(from), Some(to)) = (&skip.source_block, &skip.block) {
            let _ = writeln!(
                text,
                "  {from:?} -> {to:?} [style=dashed, constraint=false];"
            );
        }
    }
    text.push_str("}\n");
    text
}
