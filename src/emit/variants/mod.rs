//! The variants form: a graph a kind, without control flow, on the weights of the original.
//!
//! A variant reads and writes just the cached values that its kind reads and writes, and has no
//! `hgc.step`: which one runs is decided outside. Providers without control flow run it, and CUDA can
//! capture it.

mod fixed;
mod fold;

use crate::convention::key;
use crate::onnx::graph_hash;
use crate::onnx::proto::{ModelProto, NodeProto};
use crate::plan::flow::Flow;
use crate::plan::schedule::{Gating, GuidanceStep};
use crate::plan::{Kind, ModelPlan};
use crate::sidecar::{FormName, Sidecar};

use super::gated::{self, FUSED, GateNames, HALF, Scribe, entry, narrow, narrowed};
use super::{Form, Placement, RewriteError};
use fixed::Fixed;
use fold::{Flags, Keep, fold};

/// A graph a kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variants {
    /// Whether the sizes that the analysis assumes are written into the graphs; else they stay as
    /// open as in the original.
    pub fixed: bool,
}

/// The graph of one kind.
pub struct Variant {
    /// The kind.
    pub kind: String,
    /// The graph.
    pub model: ModelProto,
}

/// The variants of one model, and their description.
pub struct VariantSet {
    /// In the order of the plan's kinds.
    pub variants: Vec<Variant>,
    /// What drivers must know.
    pub sidecar: Sidecar,
}

impl Form for Variants {
    /// The gated graph that they are folded from, and they.
    type Output = (ModelProto, VariantSet);

    fn name(&self) -> &'static str {
        "variants"
    }

    fn emit(
        &self,
        placement: &Placement<'_, '_>,
    ) -> Result<(ModelProto, VariantSet), RewriteError> {
        // Which kind runs is decided outside, also where a gated graph would decide it.
        let mut fixed = placement.plan.clone();
        fixed.schedules.iter_mut().for_each(|s| s.adaptive = None);
        let full = placement;
        let placement = &Placement {
            plan: &fixed,
            ..*placement
        };
        let gated = gated::emit(placement, false)?;
        let described = Sidecar::inside(&gated, "the gated form")
            .map_err(|e| RewriteError::Sidecar(Box::new(e)))?;
        let mut sidecar = described.ok_or(RewriteError::Compiled)?;
        sidecar.form = FormName::Variants;
        sidecar.schedules.clone_from(&full.plan.schedules);
        let graph = gated.graph.as_ref().ok_or(RewriteError::Compiled)?;
        let mut variants = Vec::new();
        let flow = Flow::new(placement.plan, placement.model_plan, placement.layout);
        for (position, kind) in placement.plan.kinds.iter().enumerate() {
            let sizes = Fixed::new(placement, &flow, position);
            let constant = |name: &str| sizes.constant(name).filter(|_| self.fixed);
            let flags = flags(kind, placement.model_plan);
            let keep = Keep {
                sized: self.fixed,
                // The start takes what the original takes.
                idle: position == 0,
            };
            let mut graph = fold(graph, &flags, &constant, keep)?;
            if self.fixed {
                sizes.declare(&mut graph);
            }
            let scribe = Scribe {
                policy: &placement.plan.policy,
                site: "caches",
            };
            let opset = gated::opset(placement.model);
            narrow(&mut graph, &narrowed(placement.layout), opset, scribe);
            let mut model = ModelProto {
                graph: Some(graph),
                metadata_props: placement.model.metadata_props.clone(),
                ..gated.clone_without_graph()
            };
            name(&mut model, &kind.name);
            model.metadata_props.extend([
                entry(key::VERSION, env!("CARGO_PKG_VERSION")),
                entry(key::NAME, &placement.model_plan.name),
                entry(key::KIND, &kind.name),
            ]);
            if position == 0 {
                let plan = toml::to_string(full.plan)?;
                model.metadata_props.push(entry(key::PLAN, &plan));
            }
            sidecar.files.push(format!("{}.onnx", kind.name));
            variants.push(Variant {
                kind: kind.name.clone(),
                model,
            });
        }
        Ok((gated, VariantSet { variants, sidecar }))
    }
}

/// What a kind makes of the flags in the gated graph of a model.
fn flags(kind: &Kind, model: &ModelPlan) -> Flags {
    let mut flags = Flags::new();
    for gate in &model.gates {
        let names = GateNames::new(&gate.name);
        let gating = kind.gating(&model.name, &gate.name);
        flags.insert(names.refresh, gating != Gating::Reuse);
        flags.insert(names.fresh, gating == Gating::Restart);
    }
    flags.insert(HALF.to_owned(), kind.is_half());
    flags.insert(FUSED.to_owned(), kind.guidance == GuidanceStep::Fused);
    let restarts = kind.guidance == GuidanceStep::Restart;
    flags.insert(GateNames::new(crate::convention::GUIDANCE).fresh, restarts);
    flags
}

/// Names graph and nodes after the kind and the content: TensorRT's engine cache knows graphs by
/// their names alone (onnxruntime issue 32254).
fn name(model: &mut ModelProto, kind: &str) {
    let hash: String = graph_hash(model).chars().take(8).collect();
    let Some(graph) = &mut model.graph else {
        return;
    };
    let own = graph.name.clone().unwrap_or_default();
    graph.name = Some(format!("{own}.{kind}.{hash}"));
    let prefix = |node: &mut NodeProto| {
        let own = node.name.take().unwrap_or_default();
        node.name = Some(format!("{kind}.{hash}/{own}"));
    };
    graph.node.iter_mut().for_each(prefix);
}

/// The name that a node of a variant had before.
#[must_use]
pub fn original_name(node: &str) -> &str {
    node.split_once('/').map_or(node, |(_, name)| name)
}
