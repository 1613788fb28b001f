//! Guidance in the graph: on a half-batch step inputs are sliced to the prompted rows
//! and outputs get their full batch back.

use crate::onnx::proto::NodeProto;
use crate::plan::Plan;
use crate::plan::schedule::GuidanceStep;

use super::checks::Checks;
use super::rows::RowMaker;
use super::scribe::{Returned, Scribe, body};
use super::site::State;
use super::tables::{FUSED, GateNames, HALF, way};
use crate::convention::{GUIDANCE, past, present, slope};

/// An output that must have its full batch on every step.
pub struct Output<'a> {
    /// Name in the original graph.
    pub name: &'a str,
    /// Name of the value with the rows that ran.
    pub raw: String,
    /// Element type.
    pub elem_type: i32,
    /// Number of dimensions.
    pub rank: usize,
    /// Axis of the batch.
    pub axis: usize,
}

/// Caches of the guidance difference.
#[must_use]
pub fn states(plan: &Plan, elem_type: i32, rank: usize) -> Vec<State> {
    let state = |name: String| State {
        name,
        elem_type,
        rank: Some(rank),
    };
    let mut found = vec![state(GUIDANCE.to_owned())];
    if plan.guidance.reuse.forecasts() {
        found.push(state(slope(GUIDANCE)));
    }
    found
}

/// An output whose half-batch rows stand for both halves.
pub fn doubled(rows: &RowMaker<'_>, scribe: Scribe<'_>, output: &Output<'_>) -> NodeProto {
    let base = format!("hgc.whole.{}", output.name);
    let (twice, once) = (format!("{base}.twice"), format!("{base}.once"));
    let then_nodes = vec![rows.join(&output.raw, &output.raw, output.axis, &twice)];
    let else_nodes = vec![scribe.identity(&output.raw, &once)];
    scribe.branch(
        &format!("{base}.if"),
        HALF,
        &[output.name.to_owned()],
        body(
            &format!("{base}.half"),
            then_nodes,
            &[returned(output, &twice)],
        ),
        body(
            &format!("{base}.full"),
            else_nodes,
            &[returned(output, &once)],
        ),
    )
}

fn returned(output: &Output<'_>, name: &str) -> Returned {
    Returned {
        name: name.to_owned(),
        elem_type: output.elem_type,
        rank: Some(output.rank),
    }
}

/// The prediction: on a held step `[prompted - difference, prompted]`, on a fused one
/// the prompted rows twice; on a full step the difference is renewed.
pub fn predicted(
    plan: &Plan,
    (rows, checks): (&mut RowMaker<'_>, Option<&mut Checks<'_, '_>>),
    scribe: Scribe<'_>,
    output: &Output<'_>,
) -> NodeProto {
    let linear = plan.guidance.reuse.forecasts();
    let base = format!("hgc.whole.{}", output.name);
    let name = |what: &str| format!("{base}.{what}");
    let mut outputs = vec![output.name.to_owned(), present(GUIDANCE)];
    let (held, kept, kept_slope) = (name("held"), name("kept"), name("kept_slope"));
    let (whole, difference, moved) = (name("all"), name("difference"), name("slope"));
    let mut half_out = vec![returned(output, &held), returned(output, &kept)];
    let mut full_out = vec![returned(output, &whole), returned(output, &difference)];
    if linear {
        outputs.push(present(&slope(GUIDANCE)));
        half_out.push(returned(output, &kept_slope));
        full_out.push(returned(output, &moved));
    }
    let held_names = [held.as_str(), &kept, &kept_slope];
    let half_nodes = held_step(plan, (rows, checks), scribe, output, held_names);
    let full_nodes = full_step(rows, scribe, output, linear, [&whole, &difference, &moved]);
    scribe.branch(
        &name("if"),
        HALF,
        &outputs,
        body(&name("half_step"), half_nodes, &half_out),
        body(&name("full_step"), full_nodes, &full_out),
    )
}

fn held_step(
    plan: &Plan,
    (rows, checks): (&RowMaker<'_>, Option<&mut Checks<'_, '_>>),
    scribe: Scribe<'_>,
    output: &Output<'_>,
    [held, kept, kept_slope]: [&str; 3],
) -> Vec<NodeProto> {
    let name = |what: &str| format!("{held}.{what}");
    let raw = output.raw.as_str();
    let mut nodes = vec![scribe.identity(&past(GUIDANCE), kept)];
    let mut forecast = Vec::new();
    let mut difference = past(GUIDANCE);
    if let Some(checks) = checks {
        let checked = name("checked");
        forecast.push(checks.difference(output, &difference, &checked));
        difference = checked;
    }
    if plan.guidance.reuse.forecasts() {
        let old = past(&slope(GUIDANCE));
        nodes.push(scribe.identity(&old, kept_slope));
        let gate = GateNames::new(GUIDANCE);
        let way = way(plan.guidance.reuse, GUIDANCE, &gate, output.elem_type);
        let (step, moved) = (name("step"), name("difference"));
        forecast.push(scribe.node("Mul", &[&old, &way], &[&step]));
        forecast.push(scribe.node("Add", &[&difference, &step], &[&moved]));
        difference = moved;
    }
    let other = name("other");
    forecast.push(scribe.node("Sub", &[raw, &difference], &[&other]));
    if !plan.kinds.iter().any(|k| k.guidance == GuidanceStep::Fused) {
        forecast.push(rows.join(&other, raw, output.axis, held));
        nodes.extend(forecast);
        return nodes;
    }
    let (joined, twice) = (name("joined"), name("twice"));
    forecast.push(rows.join(&other, raw, output.axis, &joined));
    let fused = vec![rows.join(raw, raw, output.axis, &twice)];
    nodes.push(scribe.branch(
        &name("if"),
        FUSED,
        &[held.to_owned()],
        body(&name("fused_step"), fused, &[returned(output, &twice)]),
        body(&name("held_step"), forecast, &[returned(output, &joined)]),
    ));
    nodes
}

fn full_step(
    rows: &mut RowMaker<'_>,
    scribe: Scribe<'_>,
    output: &Output<'_>,
    linear: bool,
    [whole, difference, moved]: [&str; 3],
) -> Vec<NodeProto> {
    let name = |what: &str| format!("{difference}.{what}");
    let (prompted, unprompted) = (name("prompted"), name("unprompted"));
    let mut nodes = vec![scribe.identity(&output.raw, whole)];
    nodes.extend(rows.split(&output.raw, output.axis, &unprompted, &prompted));
    nodes.push(scribe.node("Sub", &[&prompted, &unprompted], &[difference]));
    if !linear {
        return nodes;
    }
    let gate = GateNames::new(GUIDANCE);
    let gap = GateNames::typed(&gate.since, output.elem_type);
    let (zero, change, again) = (name("none"), name("change"), name("again"));
    let measured = vec![
        scribe.node("Sub", &[difference, &past(GUIDANCE)], &[&change]),
        scribe.node("Div", &[&change, &gap], &[&again]),
    ];
    let none = scribe.zeros(difference, &zero, output.elem_type);
    nodes.push(scribe.branch(
        &format!("{moved}.if"),
        &gate.fresh,
        &[moved.to_owned()],
        body(&format!("{moved}.first"), none, &[returned(output, &zero)]),
        body(
            &format!("{moved}.later"),
            measured,
            &[returned(output, &again)],
        ),
    ));
    nodes
}
