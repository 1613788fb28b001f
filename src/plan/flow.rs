//! Who writes and who reads each cached value, by kind, and so which kind may follow which.

use serde::{Deserialize, Serialize};

use super::data::{ModelPlan, Plan, Rows};
use super::layout::{Layout, Placed};
use super::schedule::{Gating, GuidanceStep};
use super::storage::Storage;
use super::{Kind, Schedule};
use crate::convention::{ANCHOR, ANCHOR_LATENT, ANCHOR_TIME, FIRED, GUIDANCE, scale, since, slope};

/// Rows of the batch that a cached value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// One half: the prompted rows, or the mean of both halves.
    Half,
    /// All rows.
    All,
}

/// What one kind does with one cached value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// Rows that it must find there; none where it does not look.
    pub reads: Option<Extent>,
    /// Rows that it leaves there; none where the value stays.
    pub writes: Option<Extent>,
}

/// One cached value.
#[derive(Clone, Debug)]
pub struct StateFlow {
    /// Name, as in `hgc.past.NAME`.
    pub name: String,
    /// What each kind does with it.
    pub kinds: Vec<Touch>,
}

/// The cached values of one model.
#[derive(Clone, Debug)]
pub struct Flow {
    /// All of them.
    pub states: Vec<StateFlow>,
}

/// What the cached values of one model hold at some time: rows, parallel to [`Flow::states`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding(Vec<Option<Extent>>);

impl Flow {
    /// The flow of a placed plan.
    #[must_use]
    pub fn new(plan: &Plan, model: &ModelPlan, layout: &Layout) -> Self {
        let mut states = Vec::new();
        for (index, placed) in layout.sites.iter().enumerate() {
            let touch = |kind: &Kind| touched(model, layout, index, kind);
            let touches: Vec<Touch> = plan.kinds.iter().map(touch).collect();
            for tensor in &placed.tensors {
                // What does not follow the batch is the same for any rows.
                let any = tensor.measure || tensor.batch_axis.is_none();
                let fit = |extent: Extent| if any { Extent::All } else { extent };
                let linear = placed.site.reuse.forecasts() && !tensor.measure;
                let refreshes = |t: &Touch| t.writes.is_some();
                let value = |t: &Touch| Touch {
                    reads: t.reads.filter(|_| linear || !refreshes(t)).map(fit),
                    writes: t.writes.map(fit),
                };
                let scaled = matches!(Storage::of(placed, tensor), Storage::Int8(_));
                let mut push = |name: String, kinds: Vec<Touch>| {
                    let scale = scaled.then(|| scale(&name));
                    let names = [name].into_iter().chain(scale);
                    states.extend(names.map(|name| StateFlow {
                        name,
                        kinds: kinds.clone(),
                    }));
                };
                push(tensor.name.clone(), touches.iter().map(value).collect());
                if linear {
                    let moved = |t: &Touch| Touch {
                        reads: t.reads.filter(|_| !refreshes(t)).map(fit),
                        writes: t.writes.map(fit),
                    };
                    push(slope(&tensor.name), touches.iter().map(moved).collect());
                }
            }
        }
        states.extend(guidance(plan, model));
        states.extend(counts(plan, model));
        states.extend(anchors(plan));
        Self { states }
    }

    /// Before a generation nothing is held.
    #[must_use]
    pub fn nothing(&self) -> Holding {
        Holding(vec![None; self.states.len()])
    }

    /// Whether all that `kind` reads is there.
    #[must_use]
    pub fn admits(&self, kind: usize, holding: &Holding) -> bool {
        let mut states = self.states.iter().zip(&holding.0);
        states.all(|(state, held)| match state.kinds.get(kind) {
            Some(touch) => touch.reads.is_none_or(|wanted| *held >= Some(wanted)),
            None => false,
        })
    }

    /// What is there after `kind`.
    pub fn follow(&self, kind: usize, holding: &mut Holding) {
        for (state, held) in self.states.iter().zip(&mut holding.0) {
            let written = state.kinds.get(kind).and_then(|t| t.writes);
            *held = written.or(*held);
        }
    }
}

/// What a kind does with the values of one site.
fn touched(model: &ModelPlan, layout: &Layout, index: usize, kind: &Kind) -> Touch {
    let gating = |placed: &Placed| kind.gating(&model.name, &placed.site.gate);
    let half = model.halves && kind.is_half();
    let here = if half { Extent::Half } else { Extent::All };
    let placed = &layout.sites[index];
    let kept = if placed.site.rows == Rows::All {
        here
    } else {
        Extent::Half
    };
    let mut outer = placed.parent;
    while let Some(i) = outer {
        if gating(&layout.sites[i]) == Gating::Reuse {
            return Touch::default();
        }
        outer = layout.sites[i].parent;
    }
    match gating(placed) {
        Gating::Reuse => Touch {
            reads: Some(here),
            writes: None,
        },
        // A slope is the difference to the value before.
        Gating::Refresh => Touch {
            reads: Some(kept),
            writes: Some(kept),
        },
        Gating::Restart => Touch {
            reads: None,
            writes: Some(kept),
        },
    }
}

/// The guidance difference.
fn guidance(plan: &Plan, model: &ModelPlan) -> Vec<StateFlow> {
    if !(model.halves && plan.keeps_difference(model.role)) {
        return Vec::new();
    }
    let linear = plan.guidance.reuse.forecasts();
    let all = Some(Extent::All);
    let value = |kind: &Kind| match kind.guidance {
        GuidanceStep::Full => Touch {
            reads: all.filter(|_| linear),
            writes: all,
        },
        GuidanceStep::Restart => Touch {
            reads: None,
            writes: all,
        },
        GuidanceStep::Held => Touch {
            reads: all,
            writes: None,
        },
        GuidanceStep::Fused => Touch::default(),
    };
    let moved = |kind: &Kind| {
        let touch = value(kind);
        Touch {
            reads: touch.reads.filter(|_| touch.writes.is_none()),
            ..touch
        }
    };
    let mut states = vec![StateFlow {
        name: GUIDANCE.to_owned(),
        kinds: plan.kinds.iter().map(value).collect(),
    }];
    if linear {
        states.push(StateFlow {
            name: slope(GUIDANCE),
            kinds: plan.kinds.iter().map(moved).collect(),
        });
    }
    states
}

/// Counts of evaluations since a refresh: every evaluation adds one, a refresh begins again.
fn counts(plan: &Plan, model: &ModelPlan) -> Vec<StateFlow> {
    let all = Some(Extent::All);
    let count = |name: String, restarts: &dyn Fn(&Kind) -> bool| {
        let touch = |kind: &Kind| Touch {
            reads: all.filter(|_| !restarts(kind)),
            writes: all,
        };
        StateFlow {
            name: since(&name),
            kinds: plan.kinds.iter().map(touch).collect(),
        }
    };
    let mut states = Vec::new();
    for gate in &model.gates {
        let mut sites = model.sites.iter().filter(|s| s.gate == gate.name);
        if sites.any(|s| s.reuse.forecasts()) {
            let restarts = |k: &Kind| k.gating(&model.name, &gate.name) == Gating::Restart;
            states.push(count(gate.name.clone(), &restarts));
        }
    }
    let difference = guidance(plan, model).len() > 1;
    if difference {
        let restarts = |k: &Kind| k.guidance == GuidanceStep::Restart;
        states.push(count(GUIDANCE.to_owned(), &restarts));
    }
    states
}

/// What decisions while the model runs look back to: every kind but the first finds it, and leaves it or
/// puts another there.
fn anchors(plan: &Plan) -> Vec<StateFlow> {
    let adaptive = plan.schedules.first().and_then(|s| s.adaptive.as_ref());
    let all = Some(Extent::All);
    let touch = |kind: usize| Touch {
        reads: all.filter(|_| kind > 0),
        writes: all,
    };
    let state = |name: String| StateFlow {
        name,
        kinds: (0..plan.kinds.len()).map(touch).collect(),
    };
    let names = [
        ANCHOR_LATENT.to_owned(),
        ANCHOR_TIME.to_owned(),
        since(ANCHOR),
        since(FIRED),
    ];
    let names = names.into_iter().filter(|_| adaptive.is_some());
    names.map(state).collect()
}

/// The kinds that a plan has, and what may follow what, over all its models.
#[derive(Clone, Debug)]
pub struct Flows {
    kinds: Vec<Kind>,
    models: Vec<Flow>,
    /// How much each kind computes, in MACs of all models.
    work: Vec<u64>,
}

impl Flows {
    /// The flows of all models of a plan that has these kinds, which compute so much.
    #[must_use]
    pub fn new(kinds: Vec<Kind>, models: Vec<Flow>, work: Vec<u64>) -> Self {
        Self {
            kinds,
            models,
            work,
        }
    }

    /// The schedule for `evaluations` evaluations that does what `schedule` does at the same share
    /// of the way.
    ///
    /// Where one evaluation stands for several, it does the most that any of them does; where
    /// several stand for one, the first does it, the others do the least. A kind that would read
    /// what is not there gives way to one that refreshes more.
    #[must_use]
    pub fn spread(&self, schedule: &Schedule, evaluations: usize) -> Schedule {
        let position = |name: &String| self.kinds.iter().position(|k| k.name == *name);
        let given: Vec<usize> = schedule.kinds.iter().filter_map(position).collect();
        let work = |kind: &usize| self.work.get(*kind).copied().unwrap_or_default();
        let mut wanted: Vec<usize> = Vec::with_capacity(evaluations);
        let mut next = 0;
        for evaluation in 0..evaluations {
            let end = ((evaluation + 1) * given.len()).div_ceil(evaluations.max(1));
            let covered = given.get(next..end).unwrap_or_default();
            let most = covered.iter().copied().max_by_key(work);
            wanted.push(most.unwrap_or_else(|| {
                let guidance = wanted.last().map(|k| self.kinds[*k].guidance);
                let like = |k: &usize| guidance == Some(self.kinds[*k].guidance);
                let alike = (0..self.kinds.len()).filter(like);
                alike.min_by_key(work).unwrap_or_default()
            }));
            next = next.max(end);
        }
        let wanted: Vec<&Kind> = wanted.iter().map(|k| &self.kinds[*k]).collect();
        Schedule {
            sampler: schedule.sampler.clone(),
            adaptive: schedule.adaptive.as_ref().map(|a| a.spread(evaluations)),
            ..self.fit(&wanted)
        }
    }

    /// The schedule that does on each evaluation what is wanted there or more: the kind with the
    /// least work that refreshes all of it and reads nothing that is not there.
    #[must_use]
    pub fn fit(&self, wanted: &[&Kind]) -> Schedule {
        let mut holding: Vec<Holding> = self.models.iter().map(Flow::nothing).collect();
        let mut kinds = Vec::with_capacity(wanted.len());
        for (evaluation, wanted) in wanted.iter().enumerate() {
            // A generation begins with the first kind, whatever else could begin it.
            let kind = match evaluation {
                0 => 0,
                _ => self.nearest(wanted, &holding),
            };
            for (flow, holding) in self.models.iter().zip(&mut holding) {
                flow.follow(kind, holding);
            }
            kinds.push(self.kinds[kind].name.clone());
        }
        Schedule {
            sampler: None,
            kinds,
            // Weights were fitted on other evaluations.
            rows: Vec::new(),
            adaptive: None,
        }
    }

    /// The kind with the least work that does all of `wanted` and may run now.
    fn nearest(&self, wanted: &Kind, holding: &[Holding]) -> usize {
        let admits = |kind: usize| {
            let mut models = self.models.iter().zip(holding);
            models.all(|(flow, holding)| flow.admits(kind, holding))
        };
        let fits = |k: &usize| self.kinds[*k].does_all_of(wanted) && admits(*k);
        let fitting = (0..self.kinds.len()).filter(fits);
        let work = |kind: &usize| {
            let work = self.work.get(*kind).copied().unwrap_or_default();
            (work, self.kinds[*kind].guidance != wanted.guidance)
        };
        // The first kind does everything and reads nothing.
        fitting.min_by_key(work).unwrap_or_default()
    }

    /// MACs of a generation by a schedule.
    #[must_use]
    pub fn macs(&self, schedule: &Schedule) -> u64 {
        let position = |name: &String| self.kinds.iter().position(|k| k.name == *name);
        let positions = schedule.kinds.iter().filter_map(position);
        let macs = positions.filter_map(|k| self.work.get(k));
        macs.fold(0, |sum, n| sum.saturating_add(*n))
    }
}
