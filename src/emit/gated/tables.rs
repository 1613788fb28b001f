//! Schedules in the graph: one small table a gate, indexed by step.
//!
//! Row 0 is step -1 (a forced refresh), row `s + 1` is step `s`; a step out of range
//! is an error of the session.

use std::collections::BTreeSet;

use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{tensor_bool, tensor_i64};
use crate::plan::schedule::{GuidanceStep, Schedule};
use crate::plan::{Plan, Reuse};

use super::scribe::{Scribe, dtype, float_table};
use crate::convention::STEP;

/// Table index of the step.
pub const INDEX: &str = "hgc.index";
/// Whether this step runs the prompted half alone.
pub const HALF: &str = "hgc.half";
/// Whether that half stands for both.
pub const FUSED: &str = "hgc.fused";

/// Value names of one gate.
#[derive(Clone, Debug)]
pub struct GateNames {
    /// bool: this step refreshes.
    pub refresh: String,
    /// bool: the refresh starts without a slope.
    pub fresh: String,
    /// float: steps between this refresh and the one before.
    pub gap: String,
    /// float: steps since the last refresh.
    pub since: String,
}

impl GateNames {
    /// Names for a gate.
    #[must_use]
    pub fn new(gate: &str) -> Self {
        let name = |what: &str| format!("hgc.{what}.{gate}");
        Self {
            refresh: name("refresh"),
            fresh: name("fresh"),
            gap: name("gap"),
            since: name("since"),
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
    /// Initializers.
    pub tensors: Vec<TensorProto>,
    /// Look-up nodes.
    pub nodes: Vec<NodeProto>,
}

impl<'a> Tables<'a> {
    /// The step's index in tables for `steps` steps.
    #[must_use]
    pub fn new(scribe: Scribe<'a>, steps: usize) -> Self {
        let (one, first, beyond) = ("hgc.one", "hgc.step.first", "hgc.step.beyond");
        let (row, wrong) = ("hgc.step.row", "hgc.step.wrong");
        let scalar = |name: &str, value: i64| tensor_i64(name, &[], &[value]);
        let past_the_end = i64::try_from(steps + 1).unwrap_or(i64::MAX);
        Self {
            scribe,
            tensors: vec![
                scalar(one, 1),
                scalar(first, -1),
                scalar(beyond, past_the_end),
            ],
            // A negative index would count from the end of a table.
            nodes: vec![
                scribe.node("Add", &[STEP, one], &[row]),
                scribe.node("Less", &[STEP, first], &[wrong]),
                scribe.node("Where", &[wrong, beyond, row], &[INDEX]),
            ],
        }
    }

    fn flag(&mut self, value: &str, rows: &[bool]) {
        let table = format!("{value}.table");
        let dims = [i64::try_from(rows.len()).unwrap_or_default()];
        self.tensors.push(tensor_bool(&table, &dims, rows));
        self.nodes.push(self.scribe.look_up(&table, INDEX, value));
    }

    fn number(&mut self, value: &str, rows: &[f32], types: &BTreeSet<i32>) {
        let table = format!("{value}.table");
        self.tensors.push(float_table(&table, rows));
        self.nodes.push(self.scribe.look_up(&table, INDEX, value));
        for &elem_type in types.iter().filter(|t| **t != dtype::F32) {
            let typed = GateNames::typed(value, elem_type);
            self.nodes.push(self.scribe.cast(value, &typed, elem_type));
        }
    }

    /// Tables of one gate; `linear` are the element types of its forecasts.
    pub fn gate(&mut self, name: &str, schedule: &Schedule, linear: &BTreeSet<i32>) {
        let names = GateNames::new(name);
        let with_forced = |at: &dyn Fn(usize) -> bool| -> Vec<bool> {
            std::iter::once(true)
                .chain((0..schedule.steps()).map(at))
                .collect()
        };
        self.flag(&names.refresh, &with_forced(&|s| schedule.refreshes(s)));
        if linear.is_empty() {
            return;
        }
        self.slope_tables(&names, schedule, linear);
    }

    fn slope_tables(&mut self, names: &GateNames, schedule: &Schedule, types: &BTreeSet<i32>) {
        let steps = schedule.steps();
        let fresh: Vec<bool> = std::iter::once(true)
            .chain((0..steps).map(|s| schedule.gap(s).is_none()))
            .collect();
        self.flag(&names.fresh, &fresh);
        #[allow(clippy::cast_precision_loss)]
        let number = |n: usize| n as f32;
        let gap = |s: usize| number(schedule.gap(s).unwrap_or(1));
        let since = |s: usize| number(schedule.last_refresh(s).map_or(0, |last| s - last));
        let gaps: Vec<f32> = std::iter::once(1.0).chain((0..steps).map(gap)).collect();
        let sinces: Vec<f32> = std::iter::once(0.0).chain((0..steps).map(since)).collect();
        self.number(&names.gap, &gaps, types);
        self.number(&names.since, &sinces, types);
    }

    /// Tables of the guidance.
    pub fn guidance(&mut self, plan: &Plan, elem_type: i32) {
        let schedule = &plan.guidance.schedule;
        let rows = |test: &dyn Fn(usize) -> bool| -> Vec<bool> {
            std::iter::once(false)
                .chain((0..plan.steps).map(test))
                .collect()
        };
        self.flag(HALF, &rows(&|s| schedule.is_half(s)));
        if schedule.has(GuidanceStep::Fused) && schedule.has(GuidanceStep::Held) {
            self.flag(FUSED, &rows(&|s| schedule.at(s) == GuidanceStep::Fused));
        }
        if plan.guidance.reuse == Reuse::Linear && schedule.has(GuidanceStep::Held) {
            let names = GateNames::new("guidance");
            let types = BTreeSet::from([elem_type]);
            self.slope_tables(&names, &schedule.full_steps(), &types);
        }
    }
}
