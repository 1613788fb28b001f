//! Fewer kinds: those that are most alike become one that does what both do.

use std::collections::BTreeMap;

use super::cost::Regions;
use super::flow::{Flow, Holding};
use super::layout::Layout;
use super::{Kind, Plan, Schedule};

/// One model of the plan: its place among the plan's models, its layout, its MACs.
pub struct Limited<'a> {
    /// Position in [`Plan::models`].
    pub model: usize,
    /// Where its plan stands in the graph.
    pub layout: &'a Layout,
    /// Its MACs by region.
    pub regions: Regions,
}

/// The plan with at most `most` kinds. Gates are rounded towards refreshing: no evaluation reads a
/// cache that it would have renewed. Of all pairs that may be joined, the one that adds the fewest
/// MACs to all schedules goes first.
#[must_use]
pub fn limit(plan: &Plan, models: &[Limited<'_>], most: usize) -> Plan {
    let mut plan = plan.clone();
    drop_unused(&mut plan);
    while plan.kinds.len() > most.max(1) {
        let Some(joined) = cheapest(&plan, models) else {
            break;
        };
        plan = joined;
        drop_unused(&mut plan);
    }
    plan
}

/// The plan with the pair joined that costs least.
fn cheapest(plan: &Plan, models: &[Limited<'_>]) -> Option<Plan> {
    let kinds = plan.kinds.len();
    let pairs = (0..kinds).flat_map(|a| (a + 1..kinds).map(move |b| (a, b)));
    let mut joined: Vec<(u64, Plan)> = pairs
        .map(|(a, b)| {
            let plan = join(plan, a, b);
            (macs(&plan, models), plan)
        })
        .collect();
    joined.sort_by_key(|(macs, _)| *macs);
    let mut plans = joined.into_iter().map(|(_, plan)| plan);
    plans.find(|plan| is_sound(plan, models))
}

/// The plan with kinds `a` and `b`, of which `a` comes first, made one.
fn join(plan: &Plan, a: usize, b: usize) -> Plan {
    let mut plan = plan.clone();
    let gone = plan.kinds.remove(b);
    let kept = &mut plan.kinds[a];
    // The start does everything already, and reads nothing.
    if a > 0 {
        kept.refresh.extend(gone.refresh);
        kept.restart.extend(gone.restart);
        let restart = kept.restart.clone();
        kept.refresh.retain(|gate| !restart.contains(gate));
        if gone.guidance.is_at_least(kept.guidance) {
            kept.guidance = gone.guidance;
        }
    }
    let name = kept.name.clone();
    for schedule in &mut plan.schedules {
        // Between other refreshes slopes are others: what was fitted to them holds.
        if schedule.kinds.iter().any(|k| *k == gone.name || *k == name) {
            schedule.rows.clear();
        }
        for kind in schedule.kinds.iter_mut().filter(|k| **k == gone.name) {
            kind.clone_from(&name);
        }
    }
    plan
}

/// Takes out kinds that no schedule runs, and joins those that do the same.
fn drop_unused(plan: &mut Plan) {
    let used = |kind: &Kind| plan.schedules.iter().any(|s| s.kinds.contains(&kind.name));
    let mut kept: Vec<Kind> = Vec::new();
    let mut same: BTreeMap<String, String> = BTreeMap::new();
    for (index, kind) in plan.kinds.iter().enumerate() {
        match kept.iter().find(|k| k.does_as(kind)) {
            Some(known) => {
                same.insert(kind.name.clone(), known.name.clone());
            }
            None if index == 0 || used(kind) => kept.push(kind.clone()),
            None => {}
        }
    }
    for name in plan.schedules.iter_mut().flat_map(|s| &mut s.kinds) {
        if let Some(known) = same.get(name) {
            name.clone_from(known);
        }
    }
    plan.kinds = kept;
}

/// MACs of all schedules together.
fn macs(plan: &Plan, models: &[Limited<'_>]) -> u64 {
    let of = |kind: &Kind| -> u64 {
        let models = models.iter();
        let macs = models.map(|m| m.regions.of(kind, &plan.models[m.model], m.layout).all);
        macs.fold(0, u64::saturating_add)
    };
    let by_name: BTreeMap<&str, u64> = plan
        .kinds
        .iter()
        .map(|k| (k.name.as_str(), of(k)))
        .collect();
    let all = plan.schedules.iter().flat_map(|s| &s.kinds);
    let macs = all.filter_map(|name| by_name.get(name.as_str()));
    macs.fold(0, |sum, n| sum.saturating_add(*n))
}

/// Whether no evaluation of any schedule reads what is not there.
fn is_sound(plan: &Plan, models: &[Limited<'_>]) -> bool {
    models.iter().all(|m| {
        let flow = Flow::new(plan, &plan.models[m.model], m.layout);
        plan.schedules.iter().all(|s| follows(&flow, plan, s))
    })
}

fn follows(flow: &Flow, plan: &Plan, schedule: &Schedule) -> bool {
    let mut holding: Holding = flow.nothing();
    schedule.kinds.iter().all(|name| {
        let Some(kind) = plan.kinds.iter().position(|k| k.name == *name) else {
            return false;
        };
        let admitted = flow.admits(kind, &holding);
        flow.follow(kind, &mut holding);
        admitted
    })
}
