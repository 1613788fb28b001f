//! What a rewritten model should give, computed from the original alone.
//!
//! On a step that reuses sites, the original graph runs with the sites' values replaced
//! by values kept and forecast here, on the host, with none of the rewriter's code.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::MeasureError;
use super::kept::{Kept, forecast, slope};
use super::loadable::loadable;
use super::part::cut;
use super::rows::Rows;
use crate::analysis::{Analysis, Role};
use crate::convention::GUIDANCE;
use crate::engine::{Engine, Session, SessionOptions, Tensor};
use crate::graph::{BitSet, ValueId};
use crate::onnx::proto::ModelProto;
use crate::plan::kinds::gate_name;
use crate::plan::layout::Layout;
use crate::plan::schedule::GuidanceStep;
use crate::plan::storage::Storage;
use crate::plan::{ModelPlan, Plan, Rows as KeptRows};

/// The original model, run step by step as a plan prescribes.
pub struct Oracle<'a, 'm> {
    engine: &'static Engine,
    model: &'a ModelProto,
    path: &'a Path,
    analysis: &'a Analysis<'m>,
    plan: &'a Plan,
    name: &'a str,
    halves: bool,
    layout: &'a Layout,
    options: SessionOptions,
    sessions: HashMap<Vec<usize>, Variant>,
    kept: BTreeMap<ValueId, Kept>,
    difference: Option<Kept>,
    scratch: Option<tempfile::TempDir>,
}

/// The original with some values given, and others shown.
struct Variant {
    /// None where every output is given.
    session: Option<Session>,
    inputs: HashSet<String>,
}

impl<'a, 'm> Oracle<'a, 'm> {
    /// An oracle for one model.
    #[must_use]
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        engine: &'static Engine,
        model: &'a ModelProto,
        path: &'a Path,
        analysis: &'a Analysis<'m>,
        plan: &'a Plan,
        model_plan: &'a ModelPlan,
        layout: &'a Layout,
        options: SessionOptions,
    ) -> Self {
        Self {
            engine,
            model,
            path,
            analysis,
            plan,
            name: &model_plan.name,
            halves: model_plan.halves,
            layout,
            options,
            sessions: HashMap::new(),
            kept: BTreeMap::new(),
            difference: None,
            scratch: None,
        }
    }

    fn half(&self, step: usize) -> bool {
        self.halves && self.plan.guidance.schedule.is_half(step)
    }

    /// The outputs of evaluation `step`, in the original's order.
    ///
    /// # Errors
    /// If the engine refuses a run.
    pub fn step(
        &mut self,
        step: usize,
        inputs: &[(String, Tensor)],
    ) -> Result<Vec<(String, Tensor)>, MeasureError> {
        let half = self.half(step);
        let mut feeds: Vec<(String, Tensor)> = Vec::new();
        for (name, tensor) in inputs {
            feeds.push((name.clone(), self.input_rows(name, tensor, half)?));
        }
        let reused = self.layout.reused(step);
        for &site in &reused {
            for tensor in &self.layout.sites[site].tensors {
                let given = self.reuse(site, tensor.value, step)?;
                feeds.push((self.analysis.graph.name(tensor.value).to_owned(), given));
            }
        }
        let mut results = self.run(&reused, &feeds)?;
        self.refresh(step, half, &results)?;
        let names = self
            .analysis
            .graph
            .outputs()
            .iter()
            .map(|v| self.analysis.graph.name(*v));
        let names: Vec<String> = names.map(str::to_owned).collect();
        let mut outputs = Vec::new();
        for name in names {
            let raw = results
                .remove(&name)
                .or_else(|| {
                    feeds
                        .iter()
                        .find(|(n, _)| *n == name)
                        .map(|(_, t)| t.clone())
                })
                .ok_or_else(|| MeasureError::MissingOutput { name: name.clone() })?;
            let whole = self.whole(&name, raw, step)?;
            outputs.push((name, whole));
        }
        Ok(outputs)
    }

    fn axis_of(&self, value: ValueId) -> Option<usize> {
        self.analysis.shapes.get(value)?.batch_axis()
    }

    fn input_rows(&self, name: &str, tensor: &Tensor, half: bool) -> Result<Tensor, MeasureError> {
        let axis = self
            .analysis
            .graph
            .value(name)
            .and_then(|v| self.axis_of(v));
        if !half || axis.is_none() {
            return Ok(tensor.clone());
        }
        // Integers of a batch (timesteps) survive the way through f32: they are small.
        let (prompted, _) = Rows::of(tensor, axis).halves(self.plan.guidance.prompted);
        Ok(prompted.tensor(tensor)?)
    }

    fn reuse(&self, site: usize, value: ValueId, step: usize) -> Result<Tensor, MeasureError> {
        let placed = &self.layout.sites[site];
        let missing = || MeasureError::MissingOutput {
            name: self.analysis.graph.name(value).to_owned(),
        };
        let kept = self.kept.get(&value).ok_or_else(missing)?;
        if placed.tensors.iter().any(|t| t.value == value && t.measure) {
            return Ok(kept.like.clone());
        }
        let name = gate_name(self.name, &placed.site.name);
        let weight = self.plan.weight(&name, placed.site.reuse, step);
        let moved = forecast(kept, &placed.schedule, step, (placed.site.reuse, weight));
        let rows = if self.half(step) && !kept.half {
            moved.halves(self.plan.guidance.prompted).0
        } else {
            moved
        };
        // A held value that needs no arithmetic is passed on bit by bit.
        if kept.slope.is_none() && rows.shape == kept.like.shape() {
            return Ok(kept.like.clone());
        }
        Ok(rows.tensor(&kept.like)?)
    }

    fn refresh(
        &mut self,
        step: usize,
        half: bool,
        results: &HashMap<String, Tensor>,
    ) -> Result<(), MeasureError> {
        let prompted = self.plan.guidance.prompted;
        for (index, placed) in self.layout.sites.iter().enumerate() {
            if !placed.schedule.refreshes(step) || !self.layout.reached(index, step) {
                continue;
            }
            for tensor in &placed.tensors {
                let name = self.analysis.graph.name(tensor.value);
                let fresh = results
                    .get(name)
                    .ok_or_else(|| MeasureError::MissingOutput {
                        name: name.to_owned(),
                    })?;
                let all = Rows::of(fresh, tensor.batch_axis);
                let follows = tensor.batch_axis.is_some();
                let keep = if half || !follows {
                    KeptRows::All
                } else {
                    placed.site.rows
                };
                let (value, stored_half) = match keep {
                    KeptRows::All => (all, half && follows),
                    KeptRows::Prompted => (all.halves(prompted).0, true),
                    KeptRows::Mean => {
                        let (one, other) = all.halves(prompted);
                        (one.zip(&other, |a, b| (a + b) * 0.5), true)
                    }
                };
                let linear = placed.site.reuse.forecasts() && !tensor.measure;
                let gap = placed.schedule.gap(step);
                let before = self.kept.get(&tensor.value);
                let mut slope = linear.then(|| slope(&value, before, gap, prompted));
                let mut value = value;
                let storage = Storage::of(placed, tensor);
                let stored = |rows: Rows| match storage {
                    Storage::Same => Ok(rows),
                    Storage::Half => rows.in_half_precision(),
                    Storage::Int8(within) => {
                        rows.as_type(fresh.dtype()).map(|r| r.in_eight_bits(within))
                    }
                };
                value = stored(value)?;
                slope = slope.map(stored).transpose()?;
                let narrows = storage != Storage::Same;
                let same = value.shape == fresh.shape() && !narrows;
                let like = if same || tensor.measure {
                    fresh.clone()
                } else {
                    value.tensor(fresh)?
                };
                self.kept.insert(
                    tensor.value,
                    Kept {
                        value,
                        slope,
                        half: stored_half,
                        like,
                    },
                );
            }
        }
        Ok(())
    }

    /// An output with its full batch.
    fn whole(&mut self, name: &str, raw: Tensor, step: usize) -> Result<Tensor, MeasureError> {
        let value = self.analysis.graph.value(name);
        let axis = value.and_then(|v| self.axis_of(v));
        if !self.halves || axis.is_none() {
            return Ok(raw);
        }
        let prompted = self.plan.guidance.prompted;
        let schedule = &self.plan.guidance.schedule;
        let predicts = self.analysis.role != Role::Controlnet
            && schedule.has(GuidanceStep::Held)
            && self.analysis.deepest_output() == value;
        let rows = Rows::of(&raw, axis);
        let full_steps = schedule.full_steps();
        match schedule.at(step) {
            GuidanceStep::Full | GuidanceStep::Restart => {
                if predicts {
                    let (with, without) = rows.halves(prompted);
                    let value = with.zip(&without, |p, u| p - u);
                    let linear = self.plan.guidance.reuse.forecasts();
                    let gap = full_steps.gap(step);
                    let slope =
                        linear.then(|| slope(&value, self.difference.as_ref(), gap, prompted));
                    let like = value.tensor(&raw)?;
                    self.difference = Some(Kept {
                        value,
                        slope,
                        half: true,
                        like,
                    });
                }
                Ok(raw)
            }
            GuidanceStep::Held if predicts => {
                let kept = self.difference.as_ref();
                let kept = kept.ok_or_else(|| MeasureError::MissingOutput { name: name.into() })?;
                let reuse = self.plan.guidance.reuse;
                let weight = self.plan.weight(GUIDANCE, reuse, step);
                let moved = forecast(kept, &full_steps, step, (reuse, weight));
                let other = rows.zip(&moved, |p, d| p - d);
                Ok(Rows::join(&rows, &other, prompted).tensor(&raw)?)
            }
            GuidanceStep::Held | GuidanceStep::Fused => {
                Ok(Rows::join(&rows, &rows, prompted).tensor(&raw)?)
            }
        }
    }

    fn run(
        &mut self,
        reused: &[usize],
        feeds: &[(String, Tensor)],
    ) -> Result<HashMap<String, Tensor>, MeasureError> {
        if !self.sessions.contains_key(reused) {
            let variant = self.variant(reused)?;
            self.sessions.insert(reused.to_vec(), variant);
        }
        let Some(variant) = self.sessions.get_mut(reused) else {
            return Ok(HashMap::new());
        };
        let given: Vec<(&str, &Tensor)> = feeds
            .iter()
            .filter(|(n, _)| variant.inputs.contains(n))
            .map(|(n, t)| (n.as_str(), t))
            .collect();
        match &mut variant.session {
            Some(session) => Ok(session.run(&given, None)?.into_iter().collect()),
            None => Ok(HashMap::new()),
        }
    }

    /// The part of the original that is left when the reused sites' values are given.
    fn variant(&mut self, reused: &[usize]) -> Result<Variant, MeasureError> {
        let graph = &self.analysis.graph;
        let given: Vec<ValueId> = reused
            .iter()
            .flat_map(|s| self.layout.sites[*s].tensors.iter().map(|t| t.value))
            .collect();
        let stop: BitSet = given.iter().map(|v| v.index()).collect();
        let needed = graph.ancestors(graph.outputs(), &stop);
        let cached = self
            .layout
            .sites
            .iter()
            .flat_map(|p| p.tensors.iter().map(|t| t.value));
        let made = |v: &ValueId| {
            !stop.contains(v.index())
                && graph
                    .producer(*v)
                    .is_some_and(|n| needed.contains(n.index()))
                && !graph.is_output(*v)
        };
        let probes: Vec<ValueId> = cached.filter(made).collect();
        let part = cut(self.model, self.analysis, &needed, &given, &probes);
        let names = part
            .graph
            .iter()
            .flat_map(|g| &g.input)
            .map(|i| i.name().to_owned());
        let inputs: HashSet<String> = names.collect();
        let empty = part.graph.as_ref().is_none_or(|g| g.output.is_empty());
        let session = if empty {
            None
        } else {
            Some(Session::load(
                self.engine,
                loadable(self.engine, part, self.path, &mut self.scratch)?,
                &self.options,
            )?)
        };
        Ok(Variant { session, inputs })
    }
}
