//! The gated form: one graph, each region in a branch.
//!
//! A site's region becomes the then-branch of an `If`; the else-branch returns the
//! caches. `hgc.step` picks the row of each gate's small table. Old inputs and outputs
//! keep names, order, types and meaning; new ones come after them.

mod adaptive;
mod checks;
mod eight_bits;
mod emit;
mod guidance;
mod interface;
pub mod names;
mod narrow;
mod record;
pub(super) mod rename;
mod rows;
mod scribe;
mod site;
mod strip;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use checks::CHECK;
pub(super) use rows::constant as row_constant;
pub(super) use scribe::{Scribe, dtype, entry};
pub(super) use tables::{FUSED, GateNames, HALF};

pub use crate::convention::is_compiled;
pub use strip::{StripError, compiled_plan, metadata, strip};

use crate::analysis::Analysis;
use crate::analysis::inputs::{self, InputKind};
use crate::graph::ValueId;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::plan::kinds::gate_name;
use crate::plan::layout::{Layout, LayoutError};
use crate::plan::{KindError, ModelPlan, Plan, Reuse};

use super::{Form, Placement};
use crate::sidecar::SidecarError;
use checks::Checks;
use emit::Emitter;
use guidance::Output;
pub(super) use narrow::{narrow, narrowed};
use record::Positions;
use rows::RowMaker;
use tables::Tables;

/// Smallest opset whose `If` may return values of different sizes from its branches.
pub const MIN_OPSET: i64 = 11;

/// Smallest version of the format in which an initializer need not be an input: branches read
/// those of the graph around them.
const MIN_IR_VERSION: i64 = 4;

/// Why a model cannot be rewritten.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum RewriteError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Kind(#[from] KindError),
    #[error("the model is compiled already; give the original, or `hgc strip` it first")]
    Compiled,
    #[error("a value or node is called {name:?}; names that begin with \"hgc.\" are reserved")]
    ReservedName { name: String },
    #[error("opset {found} is too old for gates; convert the model to opset {MIN_OPSET} or later")]
    Opset { found: i64 },
    #[error(
        "node {node} decides for itself what runs; the form `variants` has no control flow: use \
         `gated`"
    )]
    ControlFlow { node: String },
    #[error("what is cached is decided by latent and timestep, and this model has no {what}")]
    Blind { what: &'static str },
    #[error(transparent)]
    Sidecar(Box<SidecarError>),
    #[error("the plan could not be written as TOML: {0}")]
    Toml(#[from] toml::ser::Error),
    #[error("the layout record could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// One graph with an `If` for each site, for any caller that counts steps.
pub struct Gated;

impl Form for Gated {
    type Output = ModelProto;

    fn name(&self) -> &'static str {
        "gated"
    }

    fn emit(&self, placement: &Placement<'_, '_>) -> Result<ModelProto, RewriteError> {
        emit(placement, true)
    }
}

/// The gated graph; caches are kept as wide as what they cache unless it `narrows` them.
pub(super) fn emit(
    placement: &Placement<'_, '_>,
    narrows: bool,
) -> Result<ModelProto, RewriteError> {
    let &Placement {
        model,
        analysis,
        plan,
        model_plan,
        layout,
    } = placement;
    check(model, analysis)?;
    let halves = model_plan.halves && plan.has_half();
    let scribe = Scribe {
        policy: &plan.policy,
        site: "schedule",
    };
    let rows = halves.then(|| RowMaker::new(scribe, plan.guidance.prompted));
    let checks = Checks::new(analysis, scribe, halves);
    let mut emitter = Emitter::new(analysis, layout, &plan.policy, rows, checks);
    let mut assembly = Assembly::new(analysis, plan, model_plan, layout, scribe);
    assembly.narrows = narrows;
    assembly.rename_io(&mut emitter);
    let renames = emitter.renames.clone();
    let body = emitter.scope(None, 0, &renames)?;
    assembly.finish(emitter, body, model)
}

fn check(model: &ModelProto, analysis: &Analysis<'_>) -> Result<(), RewriteError> {
    if is_compiled(model) {
        return Err(RewriteError::Compiled);
    }
    let graph = &analysis.graph;
    let reserved = |name: &str| name.starts_with(crate::convention::PREFIX);
    let values = (0..graph.value_count()).map(|i| graph.name(crate::graph::ValueId::new(i)));
    let nodes = graph.proto().node.iter().map(|n| n.name());
    if let Some(name) = values.chain(nodes).find(|n| reserved(n)) {
        return Err(RewriteError::ReservedName {
            name: name.to_owned(),
        });
    }
    let found = opset(model);
    if found < MIN_OPSET {
        Err(RewriteError::Opset { found })
    } else {
        Ok(())
    }
}

/// Version of the standard operators.
pub(super) fn opset(model: &ModelProto) -> i64 {
    let mut imports = model.opset_import.iter();
    let standard = imports.find(|o| crate::onnx::is_standard_domain(o.domain()));
    standard.map_or(0, |o| o.version())
}

/// The parts of the main graph around the emitted body.
struct Assembly<'a, 'm> {
    analysis: &'a Analysis<'m>,
    plan: &'a Plan,
    model_plan: &'a ModelPlan,
    layout: &'a Layout,
    scribe: Scribe<'a>,
    prologue: Vec<NodeProto>,
    epilogue: Vec<NodeProto>,
    halves: bool,
    /// Whether caches are kept as small as the plan says.
    narrows: bool,
}

impl<'a, 'm> Assembly<'a, 'm> {
    fn new(
        analysis: &'a Analysis<'m>,
        plan: &'a Plan,
        model_plan: &'a ModelPlan,
        layout: &'a Layout,
        scribe: Scribe<'a>,
    ) -> Self {
        let halves = model_plan.halves && plan.has_half();
        let (prologue, epilogue) = (Vec::new(), Vec::new());
        Self {
            analysis,
            plan,
            model_plan,
            layout,
            scribe,
            prologue,
            epilogue,
            halves,
            narrows: true,
        }
    }

    fn latent(&self) -> Option<(&'m str, usize)> {
        let latent = self.analysis.input(InputKind::Latent)?;
        let axis = self.analysis.shapes.get(latent)?.batch_axis()?;
        Some((self.analysis.graph.name(latent), axis))
    }

    /// On half-batch steps the graph reads sliced inputs and makes raw outputs.
    fn rename_io(&mut self, emitter: &mut Emitter<'_, '_>) {
        if !self.halves {
            return;
        }
        let graph = &self.analysis.graph;
        for (&value, kind) in graph.inputs().iter().zip(&self.analysis.kinds) {
            let vector = *kind == InputKind::Timestep && self.is_open_vector(value);
            let axis = self.analysis.shapes.get(value).and_then(|s| s.batch_axis());
            if let (Some(axis), Some(rows)) = (axis.or(vector.then_some(0)), emitter.rows.as_mut())
            {
                let (name, sliced) = (
                    graph.name(value),
                    format!("hgc.rows.of.{}", graph.name(value)),
                );
                if vector {
                    self.prologue.extend(rows.vector(name, &sliced));
                } else {
                    self.prologue.push(rows.input(name, &sliced, axis));
                }
                emitter
                    .record
                    .renamed
                    .insert(sliced.clone(), name.to_owned());
                emitter.renames.insert(name.to_owned(), sliced);
            }
        }
        for output in self.halved_outputs() {
            emitter
                .record
                .renamed
                .insert(output.raw.clone(), output.name.to_owned());
            emitter.renames.insert(output.name.to_owned(), output.raw);
        }
    }

    /// Whether callers may feed one timestep for all rows as well as one a row.
    fn is_open_vector(&self, value: ValueId) -> bool {
        let declared = self.analysis.graph.input_info(value);
        let declared = declared.and_then(inputs::declared_shape);
        declared.is_some_and(|s| s.dim.len() == 1 && inputs::fixed_dim(s, 0).is_none())
    }

    fn halved_outputs(&self) -> Vec<Output<'m>> {
        let graph = &self.analysis.graph;
        let made = graph
            .outputs()
            .iter()
            .filter(|v| graph.producer(**v).is_some());
        made.filter_map(|v| {
            let shape = self.analysis.shapes.get(*v)?;
            Some(Output {
                name: graph.name(*v),
                raw: format!("hgc.raw.{}", graph.name(*v)),
                elem_type: shape.elem_type,
                rank: shape.dims.len(),
                axis: shape.batch_axis()?,
            })
        })
        .collect()
    }

    /// The prediction whose guidance difference is kept: the deepest output.
    fn prediction(&self) -> Option<&'m str> {
        let keeps = self.plan.keeps_difference(self.analysis.role);
        let deepest = self
            .analysis
            .deepest_output()
            .filter(|_| keeps && self.halves)?;
        Some(self.analysis.graph.name(deepest))
    }

    fn gate_tables(&self) -> Result<Tables<'a>, RewriteError> {
        let mut linear: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        let mut damped: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for placed in &self.layout.sites {
            let forecast = placed.tensors.iter().filter(|t| site::is_linear(placed, t));
            let types: Vec<i32> = forecast.map(site::elem_type).collect();
            let gate = placed.site.gate.as_str();
            linear.entry(gate).or_default().extend(&types);
            if placed.site.reuse == Reuse::Damped {
                damped.entry(gate).or_default().extend(&types);
            }
        }
        let mut tables = Tables::new(self.scribe, self.plan, self.analysis)?;
        for gate in &self.model_plan.gates {
            if let Some(types) = linear.get(gate.name.as_str()) {
                tables.gate(&self.model_plan.name, &gate.name, types);
            }
            if let Some(types) = damped.get(gate.name.as_str()) {
                tables.damp(&gate.name, types);
            }
        }
        for placed in &self.layout.sites {
            if placed.site.reuse == Reuse::Fitted {
                let types = placed.tensors.iter().filter(|t| site::is_linear(placed, t));
                let name = gate_name(&self.model_plan.name, &placed.site.name);
                let types = types.map(site::elem_type).collect();
                tables.weigh(self.plan, &name, &placed.site.name, &types);
            }
        }
        Ok(tables)
    }

    fn finish(
        mut self,
        mut emitter: Emitter<'_, '_>,
        body: Vec<NodeProto>,
        model: &ModelProto,
    ) -> Result<ModelProto, RewriteError> {
        let mut tables = self.gate_tables()?;
        let mut constants: Vec<TensorProto> = Vec::new();
        let mut states = emitter.all_states();
        let mut row_nodes = Vec::new();
        let mut checks = emitter.checks.take();
        if let (Some(mut rows), Some((latent, axis))) = (emitter.rows.take(), self.latent()) {
            let outputs = self.halved_outputs();
            let prediction = self.prediction();
            let elem_type = outputs.first().map_or(1, |o| o.elem_type);
            tables.guidance(self.plan, elem_type, prediction.is_some());
            for output in &outputs {
                let node = if prediction == Some(output.name) {
                    states.extend(guidance::states(self.plan, output.elem_type, output.rank));
                    let makers = (&mut rows, checks.as_mut());
                    guidance::predicted(self.plan, makers, self.scribe, output)
                } else {
                    guidance::doubled(&rows, self.scribe, output)
                };
                self.epilogue.push(node);
            }
            row_nodes = rows.prologue(latent, axis);
            row_nodes.extend(rows.multiples());
            constants = rows.constants(axis);
        }
        if let Some(checks) = checks {
            row_nodes.extend(checks.prologue());
            constants.extend(checks.constants());
        }
        states.extend(tables.states);
        let mut nodes = tables.nodes;
        nodes.extend(row_nodes);
        nodes.append(&mut self.prologue);
        nodes.extend(body);
        nodes.append(&mut self.epilogue);
        let source = self.analysis.graph.proto();
        let mut graph = GraphProto {
            node: nodes,
            ..shell(source)
        };
        emitter.fill(&mut graph, None);
        graph.initializer.extend(tables.tensors);
        graph.initializer.extend(constants);
        let placement = Placement {
            model,
            analysis: self.analysis,
            plan: self.plan,
            model_plan: self.model_plan,
            layout: self.layout,
        };
        let ports = interface::Interface {
            placement: &placement,
        };
        let states = ports.declared(&states);
        ports.declare(&mut graph, &states);
        let narrowed = narrowed(self.layout);
        if self.narrows {
            narrow(&mut graph, &narrowed, opset(model), self.scribe);
        }
        let states = narrow::shown(states, &narrowed);
        let mut record = emitter.record;
        record.metadata = model.metadata_props.len();
        let nodes = source.node.iter().enumerate();
        let spelled =
            nodes.filter(|(_, n)| n.domain.as_deref() == Some(crate::onnx::STANDARD_DOMAIN));
        record.spelled = Positions::of(&spelled.map(|(i, _)| i).collect::<Vec<_>>());
        record.ir_version = model.ir_version.filter(|v| *v < MIN_IR_VERSION);
        let mut compiled = ModelProto {
            graph: None,
            ..model.clone_without_graph()
        };
        compiled.graph = Some(graph);
        if record.ir_version.is_some() {
            compiled.ir_version = Some(MIN_IR_VERSION);
        }
        compiled
            .metadata_props
            .extend(ports.metadata(&record, &states)?);
        Ok(compiled)
    }
}

/// The graph without nodes, initializers and declarations of inner values.
fn shell(source: &GraphProto) -> GraphProto {
    GraphProto {
        name: source.name.clone(),
        doc_string: source.doc_string.clone(),
        input: source.input.clone(),
        output: source.output.clone(),
        sparse_initializer: source.sparse_initializer.clone(),
        quantization_annotation: source.quantization_annotation.clone(),
        metadata_props: source.metadata_props.clone(),
        ..GraphProto::default()
    }
}

impl ModelProto {
    /// Everything but the graph.
    pub(super) fn clone_without_graph(&self) -> Self {
        Self {
            ir_version: self.ir_version,
            opset_import: self.opset_import.clone(),
            producer_name: self.producer_name.clone(),
            producer_version: self.producer_version.clone(),
            domain: self.domain.clone(),
            model_version: self.model_version,
            doc_string: self.doc_string.clone(),
            graph: None,
            metadata_props: self.metadata_props.clone(),
            training_info: self.training_info.clone(),
            functions: self.functions.clone(),
            configuration: self.configuration.clone(),
        }
    }
}
