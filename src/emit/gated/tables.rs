//! Kinds in the graph: one small table a gate, indexed by the kind of this evaluation.
//!
//! The kind comes from `hgc.step`: a step that is counted looks up the schedule, and -1 - k names
//! the kind k. Both are rows of one table; a number outside of it is an error of the session. Where a
//! plan has weights, the number names the row of their tables too: -1 - k - K r for K kinds.

use std::collections::BTreeSet;

use crate::analysis::Analysis;
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{tensor_bool, tensor_f32, tensor_i64};
use crate::plan::schedule::{Gating, GuidanceStep};
use crate::plan::{Kind, Plan, Reuse};

use super::RewriteError;
use super::adaptive::{Sight, decide};
use super::scribe::{Scribe, dtype};
use super::site::State;
use crate::convention::{GUIDANCE, KIND, ROW, STEP, past, present, since};

/// That of the schedule, where it is decided while the model runs.
const SCHEDULED: &str = "hgc.kind.scheduled";
/// Whether this step runs the prompted half alone.
pub const HALF: &str = "hgc.half";
/// Whether that half stands for both.
pub const FUSED: &str = "hgc.fused";
/// float: one evaluation, and none.
const ONE_MORE: &str = "hgc.count.one";
const NONE: &str = "hgc.count.none";
/// float: what damped forecasts go of whole ones.
const DAMPING: &str = "hgc.damping";

/// Value names of one gate.
#[derive(Clone, Debug)]
pub struct GateNames {
    /// bool: this step refreshes.
    pub refresh: String,
    /// bool: the refresh starts without a slope.
    pub fresh: String,
    /// float: evaluations since the last refresh before this one, this one counted.
    pub since: String,
    /// float: the same, damped.
    pub damped: String,
}

impl GateNames {
    /// Names for a gate.
    #[must_use]
    pub fn new(gate: &str) -> Self {
        let name = |what: &str| format!("hgc.{what}.{gate}");
        Self {
            refresh: name("refresh"),
            fresh: name("fresh"),
            since: name("since"),
            damped: name("damped"),
        }
    }

    /// One of the float values in another element type.
    #[must_use]
    pub fn typed(value: &str, elem_type: i32) -> String {
        if elem_type == dtype::F32 {
            value.to_owned()
        } else {
            format!("{value}.t{elem_type}")
        }
    }
}

/// Tables and look-ups for the main graph.
pub struct Tables<'a> {
    scribe: Scribe<'a>,
    kinds: &'a [Kind],
    /// Initializers.
    pub tensors: Vec<TensorProto>,
    /// Look-up nodes.
    pub nodes: Vec<NodeProto>,
    /// Counts of evaluations that are carried from one to the next.
    pub states: Vec<State>,
}

/// The weight of what is called `site` on this evaluation, a float scalar.
#[must_use]
fn weight_name(site: &str) -> String {
    format!("hgc.weight.{site}")
}

/// What the slope of `site` is multiplied with: the weight of this evaluation, or the evaluations since
/// `gate` refreshed, damped or not.
#[must_use]
pub fn way(reuse: Reuse, site: &str, gate: &GateNames, elem_type: i32) -> String {
    match reuse {
        Reuse::Fitted => GateNames::typed(&weight_name(site), elem_type),
        Reuse::Hold | Reuse::Linear => GateNames::typed(&gate.since, elem_type),
        Reuse::Damped => GateNames::typed(&gate.damped, elem_type),
    }
}

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn scalar(name: &str, value: i64) -> TensorProto {
    tensor_i64(name, &[], &[value])
}

impl<'a> Tables<'a> {
    /// The look-up of this evaluation's kind.
    ///
    /// # Errors
    /// [`RewriteError`] where the plan's first schedule names a kind that is not there, or decides by what
    /// this model is not given.
    pub fn new(
        scribe: Scribe<'a>,
        plan: &'a Plan,
        analysis: &Analysis<'_>,
    ) -> Result<Self, RewriteError> {
        let (kinds, evaluations) = (plan.kinds.len(), plan.evaluations()?);
        // Row r is step r - kinds: the kinds that are named, the last first, then the schedule.
        let rows = (0..kinds).rev().chain(evaluations);
        let rows: Vec<i64> = rows.map(number).collect();
        let (offset, first, beyond) = ("hgc.step.offset", "hgc.step.first", "hgc.step.beyond");
        let (row, wrong, index) = ("hgc.step.row", "hgc.step.wrong", "hgc.step.index");
        let mut tables = Self {
            scribe,
            kinds: &plan.kinds,
            tensors: vec![
                scalar(offset, number(kinds)),
                scalar(first, -number(kinds)),
                scalar(beyond, number(rows.len())),
                tensor_i64("hgc.schedule", &[number(rows.len())], &rows),
            ],
            nodes: Vec::new(),
            states: Vec::new(),
        };
        let step = match plan.weighed().next().is_none() {
            true => STEP,
            false => tables.row(plan),
        };
        // A negative index would count from the end of a table.
        tables.nodes.extend([
            scribe.node("Add", &[step, offset], &[row]),
            scribe.node("Less", &[step, first], &[wrong]),
            scribe.node("Where", &[wrong, beyond, row], &[index]),
        ]);
        let adaptive = plan.schedules.first().and_then(|s| s.adaptive.as_ref());
        let scheduled = if adaptive.is_some() { SCHEDULED } else { KIND };
        let look_up = scribe.look_up("hgc.schedule", index, scheduled);
        tables.nodes.push(look_up);
        if let Some(adaptive) = adaptive {
            let sight = Sight::of(analysis)?;
            let names = (SCHEDULED, index, KIND);
            let decision = decide(scribe, (adaptive, &plan.kinds), &sight, names);
            tables.nodes.extend(decision.nodes);
            tables.tensors.extend(decision.tensors);
            tables.states.extend(decision.states);
        }
        Ok(tables)
    }

    /// Takes the row of the weights from the step; gives the name of what is left of it.
    fn row(&mut self, plan: &Plan) -> &'static str {
        let schedule = plan.schedules.first();
        let rows = schedule.map(|s| (0..s.evaluations()).map(|e| number(s.row(e))));
        let rows: Vec<i64> = rows.into_iter().flatten().collect();
        let (kinds, last, none) = ("hgc.row.kinds", "hgc.row.last", "hgc.row.none");
        let (table, names, code) = ("hgc.row.counted", "hgc.row.names", "hgc.row.code");
        let (named, whole, bare) = ("hgc.row.named", "hgc.row.whole", "hgc.row.bare");
        let (count, counted, step) = ("hgc.row.count", "hgc.row.own", "hgc.row.step");
        self.tensors.extend([
            scalar(kinds, number(plan.kinds.len())),
            scalar(last, -1),
            scalar(none, 0),
            tensor_i64(table, &[number(rows.len())], &rows),
        ]);
        let s = self.scribe;
        self.nodes.extend([
            s.node("Less", &[STEP, none], &[names]),
            s.node("Sub", &[last, STEP], &[code]),
            s.node("Div", &[code, kinds], &[named]),
            s.node("Mul", &[named, kinds], &[whole]),
            s.node("Add", &[STEP, whole], &[bare]),
            s.node("Where", &[names, bare, STEP], &[step]),
            s.node("Where", &[names, none, STEP], &[count]),
            s.look_up(table, count, counted),
            s.node("Where", &[names, named, counted], &[ROW]),
        ]);
        step
    }

    /// The weight of what is called `site`, and `name` in the plan, in these element types.
    pub fn weigh(&mut self, plan: &Plan, name: &str, site: &str, types: &BTreeSet<i32>) {
        let weight = weight_name(site);
        let rows: Vec<f32> = (0..=plan.weights.rows())
            .map(|row| plan.weights.at(name, row))
            .collect();
        let table = format!("{weight}.table");
        self.tensors
            .push(tensor_f32(&table, &[number(rows.len())], &rows));
        self.nodes.push(self.scribe.look_up(&table, ROW, &weight));
        self.in_types(&weight, types);
    }

    fn flag(&mut self, value: &str, of: impl Fn(&Kind) -> bool) {
        let table = format!("{value}.table");
        let rows: Vec<bool> = self.kinds.iter().map(of).collect();
        self.tensors
            .push(tensor_bool(&table, &[number(rows.len())], &rows));
        self.nodes.push(self.scribe.look_up(&table, KIND, value));
    }

    /// Tables of one gate; `linear` are the element types of its forecasts.
    pub fn gate(&mut self, model: &str, gate: &str, linear: &BTreeSet<i32>) {
        let names = GateNames::new(gate);
        self.flag(&names.refresh, |k| k.gating(model, gate) != Gating::Reuse);
        if !linear.is_empty() {
            self.flag(&names.fresh, |k| k.gating(model, gate) == Gating::Restart);
            self.count(gate, (&names.refresh, linear), true);
        }
    }

    /// Counts evaluations since the last on which `renewed` was as `when` says.
    fn count(&mut self, gate: &str, (renewed, types): (&str, &BTreeSet<i32>), when: bool) {
        if !self.tensors.iter().any(|t| t.name() == ONE_MORE) {
            self.tensors.push(tensor_f32(ONE_MORE, &[1], &[1.0]));
            self.tensors.push(tensor_f32(NONE, &[1], &[0.0]));
        }
        let (names, state) = (GateNames::new(gate), since(gate));
        let (now, next) = (names.since.as_str(), present(&state));
        let s = self.scribe;
        self.nodes
            .push(s.node("Add", &[&past(&state), ONE_MORE], &[now]));
        let choices = if when {
            [renewed, NONE, now]
        } else {
            [renewed, now, NONE]
        };
        self.nodes.push(s.node("Where", &choices, &[&next]));
        self.in_types(now, types);
        self.states.push(State {
            name: state,
            elem_type: dtype::F32,
            rank: Some(1),
        });
    }

    /// What damped forecasts of these element types go along their slopes.
    pub fn damp(&mut self, gate: &str, types: &BTreeSet<i32>) {
        if types.is_empty() {
            return;
        }
        let names = GateNames::new(gate);
        if !self.tensors.iter().any(|t| t.name() == DAMPING) {
            let damping = tensor_f32(DAMPING, &[1], &[Reuse::DAMPING]);
            self.tensors.push(damping);
        }
        let inputs = [names.since.as_str(), DAMPING];
        self.nodes
            .push(self.scribe.node("Mul", &inputs, &[&names.damped]));
        self.in_types(&names.damped, types);
    }

    /// A float value in these element types, too.
    fn in_types(&mut self, value: &str, types: &BTreeSet<i32>) {
        for &elem_type in types.iter().filter(|t| **t != dtype::F32) {
            let typed = GateNames::typed(value, elem_type);
            self.nodes.push(self.scribe.cast(value, &typed, elem_type));
        }
    }

    /// Tables of the guidance; `holds` where this model keeps the difference.
    pub fn guidance(&mut self, plan: &Plan, elem_type: i32, holds: bool) {
        self.flag(HALF, Kind::is_half);
        let has = |step: GuidanceStep| self.kinds.iter().any(|k| k.guidance == step);
        if has(GuidanceStep::Fused) && has(GuidanceStep::Held) {
            self.flag(FUSED, |k| k.guidance == GuidanceStep::Fused);
        }
        if plan.guidance.reuse.forecasts() && holds {
            let (fresh, types) = (GateNames::new(GUIDANCE).fresh, BTreeSet::from([elem_type]));
            self.flag(&fresh, |k| k.guidance == GuidanceStep::Restart);
            self.count(GUIDANCE, (HALF, &types), false);
            match plan.guidance.reuse {
                Reuse::Fitted => self.weigh(plan, GUIDANCE, GUIDANCE, &types),
                Reuse::Damped => self.damp(GUIDANCE, &types),
                Reuse::Hold | Reuse::Linear => {}
            }
        }
    }
}
