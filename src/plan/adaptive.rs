//! Gates that are decided while a model runs, by what it is given: the rule of SenCache.
//!
//! Feature caching pays while what is read would have changed little, and that follows from how far the
//! latent and the timestep have moved since the last refresh. Both are inputs, and the same ones for UNet
//! and ControlNets: files that know nothing of each other decide alike. How much a move counts differs by
//! evaluation: `hgc tune` measures what it changes in the end.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Kind, Schedule};
use crate::plan::schedule::GuidanceStep;

/// What decides on some evaluations of a schedule between its kind and one that refreshes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// The kind that runs where the gate fires: it refreshes all that any kind but the first does.
    pub instead: String,
    /// A character an evaluation: `?` is decided, `.` is as the schedule has it.
    pub decided: String,
    /// What a change of the latent by 1 since the last refresh counts: root mean square over a picture of
    /// the batch, that which moved most. One an evaluation; the gate fires above a sum of 1.
    pub latent: Vec<f32>,
    /// What a change of the timestep by 1 counts, one an evaluation.
    pub time: Vec<f32>,
    /// So many evaluations in a row may go without a refresh; then the gate fires.
    pub most: usize,
    /// So often the gate may fire in a generation.
    pub budget: usize,
}

/// What one evaluation is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// The latent, all rows.
    pub latent: Vec<f32>,
    /// Rows of the latent.
    pub rows: usize,
    /// The timestep; of several the largest.
    pub time: f32,
}

/// What decisions of a generation depend on.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What the last refresh was given.
    anchor: Given,
    /// Evaluations since.
    since: usize,
    /// How often the gate has fired.
    fired: usize,
}

impl Adaptive {
    /// Whether the gate decides on an evaluation.
    #[must_use]
    pub fn decides(&self, evaluation: usize) -> bool {
        self.decided.as_bytes().get(evaluation) == Some(&b'?')
    }

    /// What has moved since the last refresh, as a share of what is allowed.
    #[must_use]
    pub fn measure(&self, evaluation: usize, given: &Given, memory: &Memory) -> f32 {
        let at = |table: &[f32]| table.get(evaluation).copied().unwrap_or_default();
        let size = (given.latent.len() / given.rows.max(1)).max(1);
        let before = memory.anchor.latent.chunks(size);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let moved = given.latent.chunks(size).zip(before).map(|(now, then)| {
            let squares = now.iter().zip(then).map(|(a, b)| f64::from(a - b).powi(2));
            (squares.sum::<f64>() / size as f64).sqrt() as f32
        });
        let moved = moved.fold(0.0, f32::max);
        let passed = (given.time - memory.anchor.time).abs();
        at(&self.latent) * moved + at(&self.time) * passed
    }

    /// Whether the gate fires.
    #[must_use]
    pub fn fires(&self, evaluation: usize, given: &Given, memory: &Memory) -> bool {
        let far = || self.measure(evaluation, given, memory) > 1.0;
        self.decides(evaluation)
            && memory.fired < self.budget
            && (memory.since >= self.most || far())
    }

    /// Whether each kind is a refresh to count from: it refreshes what the gate's kind does.
    #[must_use]
    pub fn anchors(&self, kinds: &[Kind]) -> Vec<bool> {
        let instead = kinds.iter().find(|k| k.name == self.instead);
        let wanted: BTreeSet<&String> = instead.into_iter().flat_map(Kind::runs).collect();
        let has = |kind: &Kind| {
            let own: BTreeSet<&String> = kind.runs().collect();
            wanted.is_subset(&own)
        };
        kinds.iter().map(has).collect()
    }

    /// The same for another number of evaluations: what counts at the same share of the way, and caps in
    /// proportion.
    #[must_use]
    pub fn spread(&self, evaluations: usize) -> Self {
        let own = self.decided.len().max(1);
        let from = |evaluation: usize| (evaluation * own / evaluations.max(1)).min(own - 1);
        let table = |of: &[f32]| {
            let at = |e| of.get(from(e)).copied().unwrap_or_default();
            (0..evaluations).map(at).collect()
        };
        let decided = |e: usize| {
            if e > 0 && self.decides(from(e)) {
                '?'
            } else {
                '.'
            }
        };
        Self {
            instead: self.instead.clone(),
            decided: (0..evaluations).map(decided).collect(),
            latent: table(&self.latent),
            time: table(&self.time),
            most: (self.most * evaluations).div_ceil(own),
            budget: (self.budget * evaluations).div_ceil(own),
        }
    }

    /// What does not fit a schedule over these kinds, if anything.
    #[must_use]
    pub fn problem(&self, schedule: &Schedule, kinds: &[Kind]) -> Option<String> {
        let steps = schedule.kinds.len();
        let lengths = [self.decided.len(), self.latent.len(), self.time.len()];
        if lengths.iter().any(|n| *n != steps) {
            return Some(format!(
                "{} characters of `decided`, {} weights of `latent` and {} of `time` for {steps} evaluations",
                lengths[0], lengths[1], lengths[2]
            ));
        }
        if let Some(other) = self.decided.chars().find(|c| !"?.".contains(*c)) {
            return Some(format!("`decided` has {other:?}; use ? or ."));
        }
        if self.decides(0) {
            return Some("the first evaluation has nothing to decide: begin with .".to_owned());
        }
        let weights = self.latent.iter().chain(&self.time);
        if let Some(wrong) = weights.into_iter().find(|w| !w.is_finite() || **w < 0.0) {
            return Some(format!("{wrong} is no weight; use a number from 0"));
        }
        if self.most == 0 {
            return Some("`most` is 0: every evaluation would refresh".to_owned());
        }
        let Some(instead) = kinds.iter().find(|k| k.name == self.instead) else {
            let known = kinds.iter().map(|k| k.name.as_str());
            let hint = crate::nearest::suggestion(&self.instead, known);
            return Some(format!("no kind is called {:?}{hint}", self.instead));
        };
        let own: BTreeSet<&String> = instead.runs().collect();
        let lacks = |kind: &&Kind| !kind.runs().all(|gate| own.contains(gate));
        if let Some(kind) = kinds.iter().skip(1).find(lacks) {
            return Some(format!(
                "{:?} refreshes less than {:?}: what runs where the gate fires refreshes all",
                instead.name, kind.name
            ));
        }
        let whole = [GuidanceStep::Full, GuidanceStep::Restart].contains(&instead.guidance);
        (!whole).then(|| format!("{:?} runs half of the batch", instead.name))
    }
}

impl Memory {
    /// After an evaluation: whether it was a refresh to count from, and whether the gate fired.
    pub fn advance(&mut self, given: Given, anchors: bool, fired: bool) {
        self.fired += usize::from(fired);
        self.since += 1;
        if anchors {
            (self.anchor, self.since) = (given, 0);
        }
    }
}

/// What is wrong with how a gate has decided in one generation, if anything.
#[must_use]
pub fn told_of_decisions(schedule: &Schedule, ran: &[String]) -> Option<String> {
    let adaptive = schedule.adaptive.as_ref()?;
    let decided = (0..ran.len()).filter(|e| adaptive.decides(*e));
    let (fired, still): (Vec<usize>, Vec<usize>) =
        decided.partition(|e| schedule.kinds.get(*e) != ran.get(*e));
    let all = fired.len() + still.len();
    if fired.is_empty() && all > 0 {
        return Some(format!(
            "the gate never fired on {all} evaluations that were left to it"
        ));
    }
    if fired.len() >= adaptive.budget && adaptive.budget < all {
        return Some(format!(
            "the gate fired {} times, all that its budget allows; the evaluations after that only read",
            fired.len()
        ));
    }
    let always = still.is_empty() && all > 1;
    always.then(|| {
        format!("the gate fired on all {all} evaluations that were left to it: nothing was saved")
    })
}

impl Schedule {
    /// The most that may run: the gate fires as often as it may, evenly over what is left to it.
    #[must_use]
    pub fn fullest(&self) -> Self {
        let mut schedule = self.clone();
        let Some(adaptive) = schedule.adaptive.take() else {
            return schedule;
        };
        let left: Vec<usize> = (0..schedule.kinds.len())
            .filter(|e| adaptive.decides(*e))
            .collect();
        let count = adaptive.budget.min(left.len());
        for nth in 0..count {
            schedule.kinds[left[nth * left.len() / count]].clone_from(&adaptive.instead);
        }
        schedule
    }

    /// What runs where the evaluations are given this: the same schedule without anything to decide.
    #[must_use]
    pub fn decided(&self, kinds: &[Kind], given: &[Given]) -> Self {
        let mut schedule = self.clone();
        let Some(adaptive) = schedule.adaptive.take() else {
            return schedule;
        };
        let anchors = adaptive.anchors(kinds);
        let mut memory = Memory::default();
        for (evaluation, (kind, given)) in schedule.kinds.iter_mut().zip(given).enumerate() {
            let fires = adaptive.fires(evaluation, given, &memory);
            if fires {
                kind.clone_from(&adaptive.instead);
            }
            let position = kinds.iter().position(|k| k.name == *kind);
            let anchors = position.is_some_and(|p| anchors[p]);
            memory.advance(given.clone(), anchors, fires);
        }
        schedule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, refresh: &[&str]) -> Kind {
        Kind {
            name: name.to_owned(),
            guidance: GuidanceStep::Full,
            refresh: refresh.iter().map(|g| (*g).to_owned()).collect(),
            restart: BTreeSet::new(),
        }
    }

    fn kinds() -> Vec<Kind> {
        vec![
            kind("start", &["unet/deep", "unet/once"]),
            kind("refresh", &["unet/deep"]),
            kind("reuse", &[]),
        ]
    }

    fn schedule() -> Schedule {
        let kinds = ["start", "reuse", "reuse", "reuse", "reuse", "reuse"];
        Schedule {
            sampler: None,
            kinds: kinds.map(str::to_owned).to_vec(),
            rows: Vec::new(),
            adaptive: Some(Adaptive {
                instead: "refresh".to_owned(),
                decided: ".?????".to_owned(),
                latent: vec![2.0; 6],
                time: vec![0.01; 6],
                most: 3,
                budget: 2,
            }),
        }
    }

    fn given(latents: [[f32; 4]; 6]) -> Vec<Given> {
        let one = |latent: &[f32; 4]| Given {
            latent: latent.to_vec(),
            rows: 2,
            time: 500.0,
        };
        latents.iter().map(one).collect()
    }

    #[test]
    fn the_worst_row_a_cap_and_a_budget_decide() {
        let mut still = [[0.0f32; 4]; 6];
        let (schedule, kinds) = (schedule(), kinds());
        let ran = |given: &[Given]| schedule.decided(&kinds, given).kinds.join(" ");
        // Three in a row, then a refresh; the rest is within the cap.
        assert_eq!(ran(&given(still)), "start reuse reuse reuse refresh reuse");
        // One row of two moves by more than a half.
        still[2] = [0.0, 0.0, 0.6, 0.6];
        still[3] = [5.0; 4];
        still[4] = [9.0; 4];
        assert_eq!(
            ran(&given(still)),
            "start reuse refresh refresh reuse reuse"
        );
        // By less.
        let mut little = [[0.0f32; 4]; 6];
        little[2] = [0.0, 0.0, 0.4, 0.4];
        assert_eq!(ran(&given(little)), "start reuse reuse reuse refresh reuse");
    }

    #[test]
    fn gates_that_do_not_decide_are_told() {
        let schedule = schedule();
        let told = |ran: &[&str]| {
            let ran: Vec<String> = ran.iter().map(|k| (*k).to_owned()).collect();
            told_of_decisions(&schedule, &ran).unwrap_or_default()
        };
        let (s, f, r) = ("start", "refresh", "reuse");
        assert!(told(&[s, r, r, r, r, r]).contains("never fired on 5"));
        assert!(told(&[s, r, f, r, f, r]).contains("all that its budget allows"));
        assert!(told(&[s, r, f, r, r, r]).is_empty());
    }

    #[test]
    fn the_fullest_fires_as_often_as_it_may() {
        let full = schedule().fullest();
        assert_eq!(full.kinds.iter().filter(|k| *k == "refresh").count(), 2);
        assert_eq!(full.adaptive, None);
        let mut generous = schedule();
        if let Some(adaptive) = &mut generous.adaptive {
            adaptive.budget = 100;
        }
        let refreshes = generous.fullest().kinds;
        assert_eq!(refreshes.iter().filter(|k| *k == "refresh").count(), 5);
    }

    #[test]
    fn time_counts() {
        let schedule = schedule();
        let mut all = given([[0.0; 4]; 6]);
        all[1].time = 380.0;
        assert_eq!(schedule.decided(&kinds(), &all).kinds[1], "refresh");
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let (schedule, kinds) = (schedule(), kinds());
        let adaptive = schedule.adaptive.clone().unwrap();
        assert_eq!(adaptive.problem(&schedule, &kinds), None);
        assert_eq!(adaptive.anchors(&kinds), [true, true, false]);
        let refused = |change: &dyn Fn(&mut Adaptive), needle: &str| {
            let mut other = adaptive.clone();
            change(&mut other);
            let problem = other.problem(&schedule, &kinds).unwrap_or_default();
            assert!(problem.contains(needle), "{problem}");
        };
        refused(&|a| a.decided = "??????".to_owned(), "first evaluation");
        refused(&|a| a.decided = ".?".to_owned(), "2 characters");
        refused(&|a| a.decided = ".x????".to_owned(), "'x'");
        refused(&|a| a.latent[1] = f32::NAN, "NaN");
        refused(&|a| a.most = 0, "`most` is 0");
        refused(&|a| a.instead = "refesh".to_owned(), "did you mean refresh");
        refused(&|a| a.instead = "reuse".to_owned(), "refreshes less");
    }
}
