//! What drivers must know of a compiled model, from the plan that it is written by.

use crate::analysis::dims::elem_name;
use crate::analysis::inputs::InputKind;
use crate::onnx::proto::{TensorShapeProto, tensor_shape_proto};
use crate::plan::Kind;
use crate::plan::cost::Regions;
use crate::plan::flow::{Extent, Flow, Touch};
use crate::sidecar::{FormName, RowRule, SCHEMA, Sidecar, StateEntry};

use super::Placement;

/// A cached value as it is declared.
pub struct Declared {
    /// Name, without `hgc.past.` and `hgc.present.`.
    pub name: String,
    /// `TensorProto.DataType`.
    pub elem_type: i32,
    /// Its shape.
    pub shape: TensorShapeProto,
    /// Whether past and present may share one buffer.
    pub in_place: bool,
}

/// The description of a model with these cached values.
pub fn describe(placement: &Placement<'_, '_>, form: FormName, states: &[Declared]) -> Sidecar {
    let &Placement {
        analysis,
        plan,
        model_plan,
        layout,
        ..
    } = placement;
    let flow = Flow::new(plan, model_plan, layout);
    let graph = &analysis.graph;
    let named = |wanted: &dyn Fn(InputKind) -> bool| -> Vec<String> {
        let inputs = graph.inputs().iter().zip(&analysis.kinds);
        let inputs = inputs.filter(|(_, kind)| wanted(**kind));
        inputs.map(|(v, _)| graph.name(*v).to_owned()).collect()
    };
    let entry = |state: &Declared| {
        let found = flow.states.iter().find(|f| f.name == state.name);
        let touches: &[Touch] = found.map_or(&[], |f| &f.kinds);
        let by_kind = |of: &dyn Fn(&Touch) -> Option<Extent>| {
            let kinds = plan.kinds.iter().zip(touches);
            kinds
                .filter_map(|(kind, touch)| Some((kind.name.clone(), of(touch)?)))
                .collect()
        };
        StateEntry {
            name: state.name.clone(),
            r#type: elem_name(state.elem_type).to_owned(),
            shape: state.shape.dim.iter().map(size).collect(),
            in_place: state.in_place,
            reads: by_kind(&|t| t.reads),
            writes: by_kind(&|t| t.writes),
        }
    };
    let regions = Regions::new(analysis, layout);
    let macs = |kind: &Kind| regions.of(kind, model_plan, layout).all;
    Sidecar {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        form,
        name: model_plan.name.clone(),
        role: analysis.role.name().to_owned(),
        policy: plan.policy.clone(),
        graph: model_plan.hash.clone(),
        rows: RowRule {
            prompted: plan.guidance.prompted,
            halves: model_plan.halves && plan.has_half(),
        },
        kinds: plan.kinds.clone(),
        macs: plan.kinds.iter().map(macs).collect(),
        files: Vec::new(),
        weights: plan.weights.rows(),
        schedules: plan.schedules.clone(),
        states: states.iter().map(entry).collect(),
        inputs: graph
            .inputs()
            .iter()
            .zip(&analysis.kinds)
            .map(|(v, kind)| (graph.name(*v).to_owned(), kind.label().to_owned()))
            .collect(),
        constant_inputs: named(&InputKind::is_invariant),
        watched_inputs: named(&|kind| kind == InputKind::ControlScale),
    }
}

fn size(dim: &tensor_shape_proto::Dimension) -> Option<u64> {
    match dim.value.as_ref()? {
        tensor_shape_proto::dimension::Value::DimValue(size) => u64::try_from(*size).ok(),
        tensor_shape_proto::dimension::Value::DimParam(_) => None,
    }
}
