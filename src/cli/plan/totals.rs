//! What a plan saves, and its gates, for people and for programs.

use hgc::unstable::compile::Planned;
use hgc::unstable::plan::Plan;
use hgc::unstable::plan::cost::saved;
use serde::Serialize;

use crate::cli::args::{bytes, macs, table};

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
        let sum =
            |f: &dyn Fn(&hgc::unstable::plan::cost::Cost) -> u64| planned.costs.iter().map(f).sum();
        let before: u64 = sum(&|c| c.before().weights);
        let after: u64 = sum(&|c| c.after().weights);
        Self {
            macs_before: sum(&|c| c.before().all),
            macs_after: sum(&|c| c.after().all),
            macs_weights_before: before,
            macs_weights_after: after,
            reduction: saved(before, after),
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

impl std::fmt::Display for GateReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sites = self.sites.len();
        let ending = if sites == 1 { "" } else { "s" };
        write!(
            f,
            "{} {}: {}  {sites} site{ending}",
            self.model, self.gate, self.schedule
        )
    }
}

/// MACs of the generation before and after and cache memory, of each model and of all.
pub fn totals_table(planned: &Planned) -> comfy_table::Table {
    let header = [
        format!("MACs of {} steps", planned.plan.steps),
        "before".to_owned(),
        "after".to_owned(),
        "saved".to_owned(),
        "all before".to_owned(),
        "all after".to_owned(),
        "caches".to_owned(),
    ];
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut rows = table(&names, &[1, 2, 3, 4, 5, 6]);
    let mut row = |name: &str, weights: [u64; 2], all: [u64; 2], cache: u64| {
        rows.add_row([
            name.to_owned(),
            macs(weights[0]),
            macs(weights[1]),
            format!("{:.1} %", 100.0 * saved(weights[0], weights[1])),
            macs(all[0]),
            macs(all[1]),
            bytes(cache),
        ]);
    };
    let models = planned.plan.models.iter().zip(&planned.costs);
    for (model, cost) in models {
        let (before, after) = (cost.before(), cost.after());
        let (weights, all) = ([before.weights, after.weights], [before.all, after.all]);
        row(&model.name, weights, all, cost.cache_bytes);
    }
    if planned.costs.len() > 1 {
        let t = Totals::of(planned);
        let weights = [t.macs_weights_before, t.macs_weights_after];
        row(
            "total",
            weights,
            [t.macs_before, t.macs_after],
            t.cache_bytes,
        );
    }
    rows
}

/// One line: what is saved, of the generation.
pub fn headline(planned: &Planned) -> String {
    let totals = Totals::of(planned);
    let beside = match totals.uncounted {
        0 => String::new(),
        nodes => format!("; {nodes} nodes are not counted"),
    };
    format!(
        "{:.1} % less: {} -> {} MACs of operators with weights in {} steps{beside}",
        100.0 * totals.reduction,
        macs(totals.macs_weights_before),
        macs(totals.macs_weights_after),
        planned.plan.steps,
    )
}
