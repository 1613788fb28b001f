//! A plan for people.

use std::fmt::Write as _;

use hgc::unstable::compile::Planned;
use hgc::unstable::plan::schedule::GuidanceStep;
use hgc::unstable::plan::{Adaptive, ModelPlan, Plan};

use super::totals::{headline, totals_table};
use crate::cli::args::{bytes, macs, table};
use crate::cli::sizes::Known;

/// The widest line.
const WIDTH: usize = 100;
/// Steps in one line of a schedule.
const STEPS: usize = 50;

/// The plan for people: what it saves, schedules, sites by gate, kinds of steps, refusals.
pub fn render(planned: &Planned, known: &Known) -> String {
    let plan = &planned.plan;
    let mut text = format!("{}\n\n{}\n\n", headline(planned), totals_table(planned));
    let mut about = format!("policy {}", plan.policy);
    for (key, value) in &plan.parameters {
        let _ = write!(about, ", {key} {value}");
    }
    let _ = writeln!(text, "{}\n{known}\n", wrapped(&about));
    text.push_str(&schedules(plan));
    if let Some(others) = others(plan) {
        let _ = writeln!(text, "{}\n", wrapped(&others));
    }
    let _ = writeln!(text, "{}\n\n{}\n", legend(plan), kinds(planned));
    let _ = writeln!(text, "{}\n", sites(planned));
    let mut refused = false;
    for model in &plan.models {
        for refusal in &model.refusals {
            refused = true;
            let line = format!(
                "{}: refused {}: {}",
                model.name, refusal.candidate, refusal.reason
            );
            let _ = writeln!(text, "{}", wrapped(&line));
        }
    }
    if refused {
        text.push('\n');
    }
    text.push_str("every site: --format json; as a picture: --format svg; to edit: -o plan.toml\n");
    text
}

/// What schedules there are beside the first, if any.
pub fn others(plan: &Plan) -> Option<String> {
    let others = plan.schedules.iter().skip(1).map(|s| {
        let sampler = s.sampler.as_deref().unwrap_or("any");
        format!("{} evaluations of {sampler} samplers", s.evaluations())
    });
    let others: Vec<String> = others.collect();
    (!others.is_empty()).then(|| {
        format!(
            "the same files serve {} by a schedule of their own; callers that only count evaluations \
             follow the one above",
            others.join(", ")
        )
    })
}

/// The schedules of all gates, one below the other.
fn schedules(plan: &Plan) -> String {
    let label = |model: &ModelPlan, gate: &str| format!("{} {gate}", model.name);
    let gates: Vec<(String, String)> = plan
        .models
        .iter()
        .flat_map(|m| m.gates.iter().map(move |g| (m, g)))
        .map(|(m, g)| (label(m, &g.name), g.schedule.to_string()))
        .collect();
    let labels = gates.iter().map(|(name, _)| name.len());
    let width = labels.max().unwrap_or(0).max("guidance".len());
    let guidance = String::from(plan.guidance.schedule.clone());
    let mut text = String::new();
    for first in (0..plan.steps).step_by(STEPS) {
        let steps = first..plan.steps.min(first + STEPS);
        let part = |row: &str| -> String { row.chars().skip(first).take(STEPS).collect() };
        let tens = steps
            .clone()
            .map(|s| if s % 10 == 0 { digit(s / 10) } else { ' ' });
        let _ = writeln!(text, "{:width$}  {}", "step", tens.collect::<String>());
        let ones = steps.map(|s| digit(s % 10));
        let _ = writeln!(text, "{:width$}  {}", "", ones.collect::<String>());
        let _ = writeln!(text, "{:width$}  {}", "guidance", part(&guidance));
        for (name, schedule) in &gates {
            let _ = writeln!(text, "{name:width$}  {}", part(schedule));
        }
        if let Some(adaptive) = adaptive(plan) {
            let _ = writeln!(text, "{:width$}  {}", "decided", part(&adaptive.decided));
        }
        text.push('\n');
    }
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
    if let Some(Adaptive { budget, .. }) = adaptive(plan) {
        let _ = write!(
            text,
            ";\n? refresh or reuse is decided while it runs, at most {budget} times refresh: MACs are counted for so many"
        );
    }
    text
}

fn adaptive(plan: &Plan) -> Option<&Adaptive> {
    plan.schedules.first()?.adaptive.as_ref()
}

/// Steps of equal cost, the dearest first.
fn kinds(planned: &Planned) -> comfy_table::Table {
    let mut kinds: Vec<(Vec<u64>, u64, Vec<usize>)> = Vec::new();
    for step in 0..planned.plan.steps {
        let at = || planned.costs.iter().filter_map(|c| c.steps.get(step));
        let weights: Vec<u64> = at().map(|m| m.weights).collect();
        let all = at().map(|m| m.all).sum();
        match kinds
            .iter_mut()
            .find(|(w, a, _)| *w == weights && *a == all)
        {
            Some((_, _, steps)) => steps.push(step),
            None => kinds.push((weights, all, vec![step])),
        }
    }
    kinds.sort_by_key(|(weights, _, _)| std::cmp::Reverse(weights.iter().sum::<u64>()));
    let mut header = vec!["MACs of a step"];
    header.extend(planned.plan.models.iter().map(|m| m.name.as_str()));
    header.extend(["sum", "all MACs", "steps"]);
    let right: Vec<usize> = (1..header.len() - 1).collect();
    let mut rows = table(&header, &right);
    for (weights, all, steps) in kinds {
        let mut row = vec![format!("{} times", steps.len())];
        row.extend(weights.iter().map(|w| macs(*w)));
        row.extend([macs(weights.iter().sum()), macs(all), ranges(&steps)]);
        rows.add_row(row);
    }
    rows
}

/// `0, 2-5, 9`, cut where it is long.
fn ranges(steps: &[usize]) -> String {
    const MOST: usize = 36;
    let mut parts: Vec<String> = Vec::new();
    for run in steps.chunk_by(|a, b| a + 1 == *b) {
        parts.push(match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => continue,
        });
    }
    let text = parts.join(", ");
    if text.len() <= MOST {
        return text;
    }
    let cut: String = text.chars().take(MOST).collect();
    let whole = cut
        .rsplit_once(", ")
        .map_or(cut.as_str(), |(whole, _)| whole);
    format!("{whole}, ...")
}

/// The sites of every gate.
fn sites(planned: &Planned) -> comfy_table::Table {
    let header = ["gate", "sites", "reuse", "rows", "nodes", "caches", "what"];
    let mut rows = table(&header, &[1, 4, 5]);
    let models = planned.plan.models.iter();
    for (model, (layout, cost)) in models.zip(planned.layouts.iter().zip(&planned.costs)) {
        for gate in &model.gates {
            let placed = layout.sites.iter().zip(&cost.site_bytes);
            let own: Vec<_> = placed.filter(|(p, _)| p.site.gate == gate.name).collect();
            let all = |of: &dyn Fn(usize) -> String| {
                let mut seen: Vec<String> = Vec::new();
                for value in (0..own.len()).map(of) {
                    if !seen.contains(&value) {
                        seen.push(value);
                    }
                }
                seen.join(", ")
            };
            let word = |text: String| text.to_lowercase();
            let why = all(&|i| own[i].0.site.why.clone());
            rows.add_row([
                format!("{} {}", model.name, gate.name),
                own.len().to_string(),
                all(&|i| word(format!("{:?}", own[i].0.site.reuse))),
                all(&|i| word(format!("{:?}", own[i].0.site.rows))),
                own.iter()
                    .map(|(p, _)| p.region.count())
                    .sum::<usize>()
                    .to_string(),
                bytes(own.iter().map(|(_, size)| **size).sum()),
                shortened(&why),
            ]);
        }
    }
    rows
}

/// At most as many characters as the last column has.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 3).chain("...".chars()).collect()
}

/// Broken into lines between words.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, String::len);
        if line > 0 && line + 1 + word.len() > WIDTH {
            lines.push(format!("  {word}"));
        } else if let Some(last) = lines.last_mut() {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
}
