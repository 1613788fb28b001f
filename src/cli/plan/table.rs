//! A plan for people.

use std::fmt::Write as _;

use hgc::compile::Planned;
use hgc::plan::Plan;
use hgc::plan::schedule::GuidanceStep;

use super::totals::{gates, summary};
use crate::cli::args::{bytes, macs, table};
use crate::cli::sizes::Known;

/// The plan for people: a step-by-gate grid, sites, costs and refusals.
pub fn render(planned: &Planned, known: &Known) -> String {
    let plan = &planned.plan;
    let mut text = format!("policy {}, {} steps", plan.policy, plan.steps);
    for (key, value) in &plan.parameters {
        let _ = write!(text, ", {key} {value}");
    }
    let _ = write!(text, "\n{known}\n\n");
    let width = plan
        .models
        .iter()
        .flat_map(|m| m.gates.iter().map(|g| m.name.len() + g.name.len() + 1))
        .max()
        .unwrap_or(0)
        .max("guidance".len());
    let tens: String = (0..plan.steps)
        .map(|s| if s % 10 == 0 { digit(s / 10) } else { ' ' })
        .collect();
    let ones: String = (0..plan.steps).map(|s| digit(s % 10)).collect();
    let _ = writeln!(text, "{:width$}  {}\n{:width$}  {ones}", "step", tens, "");
    let _ = writeln!(
        text,
        "{:width$}  {}",
        "guidance",
        String::from(plan.guidance.schedule.clone())
    );
    for gate in gates(plan) {
        let name = format!("{} {}", gate.model, gate.gate);
        let _ = writeln!(
            text,
            "{name:width$}  {}  {} sites",
            gate.schedule,
            gate.sites.len()
        );
    }
    let _ = writeln!(text, "\n{}", legend(plan));
    let _ = writeln!(text, "{}\n", steps_table(planned));
    for (model, (layout, cost)) in plan
        .models
        .iter()
        .zip(planned.layouts.iter().zip(&planned.costs))
    {
        let _ = writeln!(
            text,
            "{}: {} sites, caches {}",
            model.name,
            model.sites.len(),
            bytes(cost.cache_bytes)
        );
        let mut sites = table(
            &["  site", "gate", "reuse", "rows", "nodes", "cache", "why"],
            &[4, 5],
        );
        for (placed, size) in layout.sites.iter().zip(&cost.site_bytes) {
            sites.add_row([
                format!("  {}", placed.site.name),
                placed.site.gate.clone(),
                format!("{:?}", placed.site.reuse).to_lowercase(),
                format!("{:?}", placed.site.rows).to_lowercase(),
                placed.region.count().to_string(),
                bytes(*size),
                placed.site.why.clone(),
            ]);
        }
        if !model.sites.is_empty() {
            let _ = writeln!(text, "{sites}");
        }
        for refusal in &model.refusals {
            let _ = writeln!(text, "  refused {}: {}", refusal.candidate, refusal.reason);
        }
        text.push('\n');
    }
    text.push_str(&summary(planned));
    text
}

fn digit(n: usize) -> char {
    u32::try_from(n)
        .ok()
        .and_then(|n| char::from_digit(n % 10, 10))
        .unwrap_or(' ')
}

fn legend(plan: &Plan) -> String {
    let mut text = "R refresh, . reuse; guidance F both halves".to_owned();
    let schedule = &plan.guidance.schedule;
    if schedule.has(GuidanceStep::Held) {
        text.push_str(", H prompted half, difference held");
    }
    if schedule.has(GuidanceStep::Fused) {
        text.push_str(", U prompted half for both");
    }
    if plan
        .models
        .iter()
        .any(|m| m.gates.iter().any(|g| !g.schedule.restarts().is_empty()))
    {
        text.push_str("; N refresh from nothing");
    }
    text.push('\n');
    text
}

fn steps_table(planned: &Planned) -> comfy_table::Table {
    let mut header = vec!["step".to_owned()];
    header.extend(planned.plan.models.iter().map(|m| m.name.clone()));
    header.extend(["weights only".to_owned(), "all MACs".to_owned()]);
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let right: Vec<usize> = (0..names.len()).collect();
    let mut steps = table(&names, &right);
    for step in 0..planned.plan.steps {
        let at: Vec<_> = planned
            .costs
            .iter()
            .filter_map(|c| c.steps.get(step))
            .collect();
        let mut row = vec![step.to_string()];
        row.extend(at.iter().map(|m| macs(m.weights)));
        row.push(macs(at.iter().map(|m| m.weights).sum()));
        row.push(macs(at.iter().map(|m| m.all).sum()));
        steps.add_row(row);
    }
    steps
}
