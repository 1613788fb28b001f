//! Collects the sites of one model and keeps those that fit.

use super::Analysed;
use crate::analysis::Analysis;
use crate::graph::{BitSet, ValueId};
use crate::plan::data::{CacheType, Gate, ModelPlan, Plan, Refusal, Reuse, Rows, Site};
use crate::plan::layout::{Layout, LayoutError};
use crate::plan::region;
use crate::plan::schedule::{GateSchedule, GuidanceSchedule};

/// A site before its schedule is fitted to the guidance.
pub struct Proposal {
    /// Name of the site.
    pub name: String,
    /// Name of the gate; sites with equal schedules may share one.
    pub gate: String,
    /// When it should refresh.
    pub schedule: GateSchedule,
    /// What a reuse gives.
    pub reuse: Reuse,
    /// Whether its cache should keep the mean of both halves where it can.
    pub mean: bool,
    /// The values.
    pub tensors: Vec<ValueId>,
    /// Why.
    pub why: String,
}

struct Region {
    nodes: BitSet,
    schedule: GateSchedule,
    name: String,
}

/// Builds the plan of one model.
pub struct Builder<'a, 'm> {
    analysis: &'a Analysis<'m>,
    guidance: &'a GuidanceSchedule,
    plan: ModelPlan,
    regions: Vec<Region>,
}

impl<'a, 'm> Builder<'a, 'm> {
    /// An empty plan for a model, which may be given the prompted half of the batch alone.
    #[must_use]
    pub fn new(
        target: &Analysed<'a, 'm>,
        guidance: &'a GuidanceSchedule,
        given_half: bool,
    ) -> Self {
        let analysis = target.analysis;
        let halves = guidance.has_half() && analysis.can_halve() && !given_half;
        let mut plan = ModelPlan {
            name: target.name.clone(),
            role: analysis.role,
            hash: target.hash.clone(),
            halves,
            gates: Vec::new(),
            sites: Vec::new(),
            refusals: Vec::new(),
        };
        if guidance.has_half() && !halves {
            plan.refusals.push(Refusal {
                candidate: "half-batch steps".to_owned(),
                reason: match given_half {
                    true => "it is given the prompted rows alone (control-rows prompted)",
                    false => "the batch is fixed in this export; it always runs whole",
                }
                .to_owned(),
            });
        }
        Self {
            analysis,
            guidance,
            plan,
            regions: Vec::new(),
        }
    }

    /// Notes a candidate that cannot become a site.
    pub fn refuse(&mut self, candidate: impl Into<String>, reason: impl Into<String>) {
        self.plan.refusals.push(Refusal {
            candidate: candidate.into(),
            reason: reason.into(),
        });
    }

    /// Steps on which a region made of `tensors` is reached, and the site around it.
    #[must_use]
    pub fn enclosing(&self, tensor: ValueId) -> (Vec<usize>, Option<&str>) {
        let node = self.analysis.graph.producer(tensor);
        let around = self
            .regions
            .iter()
            .filter(|r| node.is_some_and(|n| r.nodes.contains(n.index())))
            .min_by_key(|r| r.nodes.count());
        match around {
            Some(r) => (r.schedule.refresh_steps(), Some(&r.name)),
            None => ((0..self.guidance.steps()).collect(), None),
        }
    }

    /// Adds a site. Its schedule is cut to the steps on which the sites around it
    /// refresh and widened where the rows it keeps would not be enough.
    pub fn add(&mut self, proposal: Proposal) {
        let Some(&first) = proposal.tensors.first() else {
            return;
        };
        let (reached, around) = self.enclosing(first);
        let around = around.map(str::to_owned);
        let asked = &proposal.schedule;
        let refresh: Vec<usize> = reached
            .iter()
            .copied()
            .filter(|s| asked.refreshes(*s))
            .collect();
        let schedule = GateSchedule::at(self.guidance.steps(), &refresh);
        let restarts: Vec<usize> = asked
            .restarts()
            .into_iter()
            .filter(|s| reached.contains(s))
            .collect();
        let schedule = schedule.restarting(&restarts);
        let (schedule, rows) = self.fit(schedule, &reached, proposal.mean);
        let schedule = if rows == Rows::All && proposal.reuse.forecasts() {
            let short = schedule.short_slopes(|s| self.is_half(s));
            schedule.restarting(&short)
        } else {
            schedule
        };
        if schedule.refresh_steps().len() == reached.len() {
            let reason = around.map_or_else(
                || "it would refresh on every step".to_owned(),
                |outer| format!("it would refresh whenever {outer} does, which saves more"),
            );
            self.refuse(proposal.name, reason);
            return;
        }
        let graph = &self.analysis.graph;
        let region = region::derive(graph, &proposal.tensors);
        let gate = self.gate(&proposal.gate, &schedule);
        self.regions.push(Region {
            nodes: region.nodes,
            schedule,
            name: proposal.name.clone(),
        });
        self.plan.sites.push(Site {
            name: proposal.name,
            gate,
            reuse: proposal.reuse,
            rows,
            cache: CacheType::Same,
            tensors: proposal
                .tensors
                .iter()
                .map(|v| graph.name(*v).to_owned())
                .collect(),
            why: proposal.why,
        });
    }

    /// A gate with this schedule: the one of that name, or a numbered one beside it.
    fn gate(&mut self, name: &str, schedule: &GateSchedule) -> String {
        let mut candidate = name.to_owned();
        for number in 2.. {
            match self.plan.gate(&candidate) {
                Some(gate) if gate.schedule == *schedule => return candidate,
                Some(_) => candidate = format!("{name}-{number}"),
                None => break,
            }
        }
        let gate = Gate {
            name: candidate.clone(),
            schedule: schedule.clone(),
        };
        self.plan.gates.push(gate);
        candidate
    }

    fn is_half(&self, step: usize) -> bool {
        self.plan.halves && self.guidance.is_half(step)
    }

    /// Chooses the rows to keep, and refreshes on whole-batch steps that would else read
    /// what a half-batch step stored.
    fn fit(&self, schedule: GateSchedule, reached: &[usize], mean: bool) -> (GateSchedule, Rows) {
        let half = |s: usize| self.is_half(s);
        if !reached.iter().any(|s| half(*s)) {
            return (schedule, Rows::All);
        }
        let mut more = Vec::new();
        let (mut stored_half, mut read_whole) = (false, false);
        for &step in reached {
            if schedule.refreshes(step) {
                stored_half = half(step);
            } else if !half(step) && stored_half {
                more.push(step);
                stored_half = false;
            } else if !half(step) {
                read_whole = true;
            }
        }
        let rows = match (read_whole, mean) {
            (true, _) => Rows::All,
            (false, true) => Rows::Mean,
            (false, false) => Rows::Prompted,
        };
        (schedule.refreshing(&more), rows)
    }

    /// The plan with the sites that fit; the others become refusals.
    #[must_use]
    pub fn finish(mut self, whole: &Plan) -> ModelPlan {
        while let Err(error) = Layout::new(self.analysis, whole, &self.plan) {
            let Some(name) = culprit(&error) else { break };
            let Some(index) = self.plan.sites.iter().position(|s| s.name == name) else {
                break;
            };
            let site = self.plan.sites.remove(index);
            self.refuse(site.name, error.to_string());
        }
        let used = |g: &Gate| self.plan.sites.iter().any(|s| s.gate == g.name);
        let gates = self
            .plan
            .gates
            .iter()
            .filter(|g| used(g))
            .cloned()
            .collect();
        self.plan.gates = gates;
        self.plan
    }
}

/// The site to give up when a plan does not fit.
fn culprit(error: &LayoutError) -> Option<&str> {
    Some(match error {
        LayoutError::UnknownTensor { site, .. }
        | LayoutError::NotComputed { site, .. }
        | LayoutError::UnknownGate { site, .. }
        | LayoutError::UnknownShape { site, .. }
        | LayoutError::EmptyRegion { site }
        | LayoutError::Cycle { site }
        | LayoutError::InnerRefresh { site, .. }
        | LayoutError::ReadOnFull { site, .. }
        | LayoutError::SlopeOfHalf { site, .. }
        | LayoutError::BatchAxis { site, .. } => site,
        LayoutError::Overlap { second, .. } | LayoutError::DuplicateTensor { second, .. } => second,
        LayoutError::DuplicateName { name } | LayoutError::BadName { name } => name,
        LayoutError::DuplicateCache { second, .. } => second,
        LayoutError::NoSteps
        | LayoutError::ScheduleLength { .. }
        | LayoutError::FirstStep { .. }
        | LayoutError::FirstGuidance
        | LayoutError::FixedBatch { .. } => return None,
    })
}
