//! What a plan saves, and its gates, for people and for programs.

use hgc::compile::Planned;
use hgc::plan::Plan;
use hgc::plan::policy::{Nothing, Policy as _};
use serde::Serialize;

use crate::cli::args::{bytes, macs};

/// MACs of a generation before and after.
#[derive(Serialize)]
pub struct Totals {
    /// All MACs, original.
    pub macs_before: u64,
    /// All MACs, as planned.
    pub macs_after: u64,
    /// MACs of weight operators, original.
    pub macs_weights_before: u64,
    /// MACs of weight operators, as planned.
    pub macs_weights_after: u64,
    /// Share of weight-operator MACs saved.
    pub reduction: f64,
    /// Bytes of all caches.
    pub cache_bytes: u64,
    /// Multiplying nodes that are in none of the counts, since a shape is unknown.
    pub uncounted: usize,
}

/// One gate for programs.
#[derive(Serialize)]
pub struct GateReport {
    /// Name of the model it gates.
    pub model: String,
    /// Its own name.
    pub gate: String,
    /// `R` refresh, `.` reuse, one character a step.
    pub schedule: String,
    /// Steps on which it refreshes.
    pub refresh_steps: Vec<usize>,
    /// Sites that it opens.
    pub sites: Vec<String>,
}

impl Totals {
    /// Adds up all models.
    pub fn of(planned: &Planned) -> Self {
        let sum = |f: &dyn Fn(&hgc::plan::cost::Cost) -> u64| planned.costs.iter().map(f).sum();
        let before: u64 = sum(&|c| c.before().weights);
        let after: u64 = sum(&|c| c.after().weights);
        #[allow(clippy::cast_precision_loss)]
        let reduction = if before == 0 {
            0.0
        } else {
            1.0 - after as f64 / before as f64
        };
        Self {
            macs_before: sum(&|c| c.before().all),
            macs_after: sum(&|c| c.after().all),
            macs_weights_before: before,
            macs_weights_after: after,
            reduction,
            cache_bytes: sum(&|c| c.cache_bytes),
            uncounted: planned.uncounted,
        }
    }
}

/// All gates of a plan.
pub fn gates(plan: &Plan) -> Vec<GateReport> {
    let of_model = plan
        .models
        .iter()
        .flat_map(|m| m.gates.iter().map(move |g| (m, g)));
    of_model
        .map(|(m, g)| GateReport {
            model: m.name.clone(),
            gate: g.name.clone(),
            schedule: g.schedule.to_string(),
            refresh_steps: g.schedule.refresh_steps(),
            sites: m
                .sites
                .iter()
                .filter(|s| s.gate == g.name)
                .map(|s| s.name.clone())
                .collect(),
        })
        .collect()
}

/// Whether a policy was asked to cache something and found nothing to cache.
pub fn found_nothing(plan: &Plan) -> bool {
    plan.policy != Nothing.name() && !plan.changes_anything()
}

impl std::fmt::Display for GateReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sites = self.sites.len();
        write!(
            f,
            "{} {}: {}  {sites} sites",
            self.model, self.gate, self.schedule
        )
    }
}

/// Two lines: MACs of the generation before and after, cache memory.
pub fn summary(planned: &Planned) -> String {
    let totals = Totals::of(planned);
    let beside = match totals.uncounted {
        0 => String::new(),
        nodes => format!(", {nodes} nodes uncounted"),
    };
    format!(
        "MACs of {} steps, weights only: {} -> {} ({:.1} % less); all: {} -> {}{beside}\n\
         cache memory: {}\n",
        planned.plan.steps,
        macs(totals.macs_weights_before),
        macs(totals.macs_weights_after),
        100.0 * totals.reduction,
        macs(totals.macs_before),
        macs(totals.macs_after),
        bytes(totals.cache_bytes)
    )
}
