//! What a plan must keep to: names, and which caches a step may read.

use std::collections::{HashMap, HashSet};

use super::{Layout, LayoutError, Placed};
use crate::analysis::Analysis;
use crate::convention::{GUIDANCE, scale, since, slope};
use crate::graph::ValueId;
use crate::plan::data::{ModelPlan, Plan, Rows};
use crate::plan::schedule::GuidanceStep;

/// Names are plain and unique; every schedule has the plan's length and computes first.
pub fn check_names(plan: &Plan, model: &ModelPlan) -> Result<(), LayoutError> {
    if plan.steps == 0 {
        return Err(LayoutError::NoSteps);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bad = |name: &str| name.is_empty() || !name.chars().all(plain) || name == GUIDANCE;
    // The tables of a gate, and its numbers in another type: see `emit/gated/tables.rs`.
    let table = |name: &str| {
        let (_, last) = name.rsplit_once('.').unwrap_or_default();
        let typed = last
            .strip_prefix('t')
            .is_some_and(|n| n.parse::<i32>().is_ok());
        last == "table" || typed
    };
    let mut seen = HashSet::new();
    for gate in &model.gates {
        if bad(&gate.name) || table(&gate.name) {
            return Err(LayoutError::BadName {
                name: gate.name.clone(),
            });
        }
        let found = gate.schedule.steps();
        if found != plan.steps {
            let (gate, expected) = (gate.name.clone(), plan.steps);
            return Err(LayoutError::ScheduleLength {
                gate,
                expected,
                found,
            });
        }
        if !gate.schedule.refreshes(0) {
            return Err(LayoutError::FirstStep {
                gate: gate.name.clone(),
            });
        }
        if !seen.insert(("gate", &gate.name)) {
            return Err(LayoutError::DuplicateName {
                name: gate.name.clone(),
            });
        }
    }
    let found = plan.guidance.schedule.steps();
    if found != plan.steps {
        let (gate, expected) = ("guidance".to_owned(), plan.steps);
        return Err(LayoutError::ScheduleLength {
            gate,
            expected,
            found,
        });
    }
    if matches!(
        plan.guidance.schedule.at(0),
        GuidanceStep::Held | GuidanceStep::Fused
    ) {
        return Err(LayoutError::FirstGuidance);
    }
    for site in &model.sites {
        if bad(&site.name) {
            return Err(LayoutError::BadName {
                name: site.name.clone(),
            });
        }
        if !seen.insert(("site", &site.name)) {
            return Err(LayoutError::DuplicateName {
                name: site.name.clone(),
            });
        }
    }
    Ok(())
}

/// No value is cached twice.
pub fn check_distinct(analysis: &Analysis<'_>, sites: &[Placed]) -> Result<(), LayoutError> {
    let mut seen: HashMap<ValueId, &str> = HashMap::new();
    for placed in sites {
        for tensor in &placed.tensors {
            if let Some(first) = seen.insert(tensor.value, &placed.site.name) {
                return Err(LayoutError::DuplicateTensor {
                    tensor: analysis.graph.name(tensor.value).to_owned(),
                    first: first.to_owned(),
                    second: placed.site.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// No two caches of a model may share a name: `x.0` of a site with several values is
/// also what a site called `x.0` would get.
pub fn check_caches(sites: &[Placed]) -> Result<(), LayoutError> {
    // The difference of guided halves is a cache as well.
    let taken = [GUIDANCE.to_owned(), slope(GUIDANCE), since(GUIDANCE)];
    let counts = sites.iter().map(|p| since(&p.site.gate));
    let taken = taken.into_iter().map(|name| (name, GUIDANCE));
    let mut seen: HashMap<String, &str> = taken.collect();
    seen.extend(counts.map(|name| (name, "a gate's count")));
    for placed in sites {
        let own = placed.tensors.iter().map(|t| t.name.clone());
        let slopes = placed.tensors.iter().map(|t| slope(&t.name));
        let wide: Vec<String> = own.chain(slopes).collect();
        let scales = wide.iter().map(|name| scale(name));
        for cache in wide.iter().cloned().chain(scales) {
            if let Some(first) = seen.insert(cache.clone(), &placed.site.name) {
                let (first, second) = (first.to_owned(), placed.site.name.clone());
                return Err(LayoutError::DuplicateCache {
                    cache,
                    first,
                    second,
                });
            }
        }
    }
    Ok(())
}

/// Every refresh is reached, and no full step reads rows that a half step stored, or takes a
/// slope from them.
pub fn check_schedules(
    layout: &Layout,
    plan: &Plan,
    model: &ModelPlan,
    analysis: &Analysis<'_>,
) -> Result<(), LayoutError> {
    let guidance = &plan.guidance.schedule;
    let half = |s: usize| model.halves && guidance.is_half(s);
    if let Some(step) = (0..plan.steps).find(|s| half(*s))
        && !analysis.shapes.symbolic_batch
    {
        return Err(LayoutError::FixedBatch { step });
    }
    let any_half = (0..plan.steps).any(half);
    for (i, placed) in layout.sites.iter().enumerate() {
        let name = || placed.site.name.clone();
        for step in 1..plan.steps {
            if placed.schedule.refreshes(step) && !layout.reached(i, step) {
                let outer = placed.parent.map(|p| layout.sites[p].site.name.clone());
                let outer = outer.unwrap_or_default();
                return Err(LayoutError::InnerRefresh {
                    site: name(),
                    outer,
                    step,
                });
            }
            let read = layout.reached(i, step) && !placed.schedule.refreshes(step);
            let stored_half = placed.site.rows != Rows::All
                || placed.schedule.last_refresh(step).is_some_and(half);
            if read && !half(step) && stored_half {
                return Err(LayoutError::ReadOnFull { site: name(), step });
            }
        }
        let linear = placed.site.reuse.forecasts() && placed.site.rows == Rows::All;
        if let Some(&step) = placed
            .schedule
            .short_slopes(half)
            .first()
            .filter(|_| linear)
        {
            return Err(LayoutError::SlopeOfHalf { site: name(), step });
        }
        if any_half {
            check_batch(analysis, placed)?;
        }
    }
    Ok(())
}

fn check_batch(analysis: &Analysis<'_>, placed: &Placed) -> Result<(), LayoutError> {
    for tensor in &placed.tensors {
        let follows = tensor
            .shape
            .as_ref()
            .is_none_or(|s| s.dims.iter().any(|d| d.follows_batch()));
        let measured = tensor.measure && {
            // Of what is computed from sizes, none may be told apart.
            let source = analysis.graph.producer(tensor.value);
            let source = source.filter(|n| analysis.graph.family(*n).measures());
            let source = source.and_then(|n| analysis.graph.input_at(n, 0));
            let shape = source.and_then(|v| analysis.shapes.get(v));
            shape.is_none_or(|s| s.dims.iter().any(|d| d.follows_batch()))
        };
        if measured || (!tensor.measure && follows && tensor.batch_axis.is_none()) {
            return Err(LayoutError::BatchAxis {
                site: placed.site.name.clone(),
                tensor: analysis.graph.name(tensor.value).to_owned(),
            });
        }
    }
    Ok(())
}
