//! Simulated annealing over schedules under a budget.
//!
//! The objective is a whole generation: what one evaluation reads changes what all later ones see, so
//! no sum over evaluations stands for it. Moves keep to the budget: what one makes dearer is taken
//! back elsewhere.

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::case::mean;
use super::starts::starts;
use super::surrogate::Surrogate;
use super::{Lab, Setting};
use crate::plan::Schedule;
use crate::plan::schedule::GuidanceStep;

/// How far and how long to look.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// Evaluations of a generation.
    pub steps: usize,
    /// Those that compute everything, whatever else is chosen: control switches there.
    pub full: Vec<usize>,
    /// The most MACs, as a share of the original's.
    pub budget: f64,
    /// What all runs of [`anneal`] may cost, in generations of the original.
    pub effort: f64,
    /// Seed of the moves.
    pub seed: u64,
}

/// A schedule and what it is worth.
#[derive(Clone, Debug)]
pub struct Scored {
    /// What it does.
    pub settings: Vec<Setting>,
    /// The same as kinds.
    pub schedule: Schedule,
    /// Its score; higher is better.
    pub score: f64,
}

/// In decibels: worse moves than this are rare at the start and at the end of a search.
const WARM: f64 = 0.4;
const COLD: f64 = 0.02;
/// Attempts to bring a schedule under the budget, or near to it.
const ATTEMPTS: usize = 400;

/// Formulas that are run with weights.
const TRIED: usize = 3;
/// Runs from which on what they tell is listened to, and the share of moves that do not listen.
const LEARNT: usize = 8;
const ANY: f64 = 0.2;
/// At the start of a search, what may be is worth so much of what is not known of it, in standard deviations.
const CURIOUS: f64 = 1.0;
/// Neighbours of which one is run, by up to so many moves each.
const CANDIDATES: usize = 24;
const FAR: usize = 3;

/// What scores a schedule.
pub type Score<'s, E> = &'s mut dyn FnMut(&Schedule) -> Result<f64, E>;

/// The formulas within the budget, by their scores, the best first; none where no schedule fits. Each is
/// run once, and `told` hears the best score after each.
///
/// # Errors
/// The first error of `score`.
pub fn formulas<E>(
    lab: &Lab,
    options: &SearchOptions,
    score: Score<'_, E>,
    told: &mut dyn FnMut(f64),
) -> Result<Vec<Scored>, E> {
    let mut search = Search::new(lab, options);
    let mut found = Ranking::default();
    for settings in starts(lab, options.steps, options.budget) {
        // A formula as it is, but where all must run on more evaluations than it knows of.
        let fits = lab.cost(&search.schedule(&settings)) <= options.budget;
        let settings = match fits {
            true => Some(settings),
            false => search.within(settings),
        };
        if let Some(settings) = settings {
            found.add(search.scored(&settings, score)?);
            told(found.best().map_or(0.0, |b| b.score));
        }
    }
    Ok(found.0)
}

/// Looks for the schedules with the highest scores: the first of `starts` first, then from the best of them on. All
/// of them, with what they scored by other weights, tell where to look. The best first; `told` hears the effort spent
/// and the best score after each run.
///
/// # Errors
/// The first error of `score`.
pub fn anneal<E>(
    lab: &Lab,
    options: &SearchOptions,
    starts: &[&Scored],
    score: Score<'_, E>,
    told: &mut dyn FnMut(f64, f64),
) -> Result<Vec<Scored>, E> {
    let mut search = Search::new(lab, options);
    let mut surrogate = Surrogate::new(lab.parts());
    let mut all = Ranking::default();
    let (first, others) = starts.split_at(starts.len().min(TRIED));
    // By how much weights change what they are worth.
    let mut gains = Vec::new();
    for start in first {
        let found = search.scored(&start.settings, score)?;
        surrogate.add(&found.settings, found.score);
        gains.push(found.score - start.score);
        all.add(found);
        told(search.spent, all.best().map_or(0.0, |b| b.score));
    }
    for other in others {
        surrogate.add(&other.settings, other.score + mean(&gains));
    }
    let Some(mut here) = all.best().cloned() else {
        return Ok(Vec::new());
    };
    let mut idle = 0;
    // A small space is exhausted before the effort is.
    while search.spent < options.effort && idle < ATTEMPTS {
        let way = (search.spent / options.effort).min(1.0);
        let curiosity = CURIOUS * (1.0 - way);
        let Some(settings) = search.chosen(&here.settings, (&mut surrogate, curiosity)) else {
            idle += 1;
            continue;
        };
        let before = search.runs;
        let found = search.scored(&settings, score)?;
        match search.runs == before {
            true => idle += 1,
            false => {
                idle = 0;
                surrogate.add(&found.settings, found.score);
            }
        }
        let heat = WARM * (COLD / WARM).powf(way);
        let gain = found.score - here.score;
        all.add(found.clone());
        if gain >= 0.0 || search.random.random::<f64>() < (gain / heat).exp() {
            here = found;
        }
        told(search.spent, all.best().map_or(0.0, |b| b.score));
    }
    Ok(all.0)
}

/// Schedules by their scores, the best first, each once.
#[derive(Default)]
struct Ranking(Vec<Scored>);

impl Ranking {
    fn best(&self) -> Option<&Scored> {
        self.0.first()
    }

    fn add(&mut self, found: Scored) {
        if self.0.iter().any(|s| s.schedule == found.schedule) {
            return;
        }
        let place = self.0.partition_point(|s| s.score >= found.score);
        self.0.insert(place, found);
    }
}

struct Search<'l> {
    lab: &'l Lab,
    options: &'l SearchOptions,
    choices: Vec<Setting>,
    random: ChaCha8Rng,
    known: HashMap<Vec<String>, f64>,
    spent: f64,
    runs: usize,
}

impl<'l> Search<'l> {
    fn new(lab: &'l Lab, options: &'l SearchOptions) -> Self {
        Self {
            lab,
            choices: lab.choices(),
            random: ChaCha8Rng::seed_from_u64(options.seed),
            known: HashMap::new(),
            spent: 0.0,
            runs: 0,
            options,
        }
    }

    /// What is asked for, with all that must run.
    fn schedule(&self, settings: &[Setting]) -> Schedule {
        let mut settings = settings.to_vec();
        for step in &self.options.full {
            if let Some(setting) = settings.get_mut(*step) {
                *setting = Setting::FULL;
            }
        }
        self.lab.schedule(&settings)
    }

    /// Runs a schedule, or remembers it.
    fn scored<E>(&mut self, settings: &[Setting], score: Score<'_, E>) -> Result<Scored, E> {
        let schedule = self.schedule(settings);
        let score = match self.known.get(&schedule.kinds) {
            Some(known) => *known,
            None => {
                let found = score(&schedule)?;
                self.spent += self.lab.cost(&schedule);
                self.runs += 1;
                self.known.insert(schedule.kinds.clone(), found);
                found
            }
        };
        Ok(Scored {
            settings: self.lab.settings(&schedule),
            schedule,
            score,
        })
    }

    /// What is run next: of several neighbours, near and not so near, the one that is worth most by what was run
    /// before; now and then any. None where chance found none.
    fn chosen(
        &mut self,
        here: &[Setting],
        (surrogate, curiosity): (&mut Surrogate, f64),
    ) -> Option<Vec<Setting>> {
        if surrogate.runs() < LEARNT || self.random.random::<f64>() < ANY {
            return self.moved(here);
        }
        let mut best: Option<(f64, Vec<Setting>)> = None;
        for candidate in 0..CANDIDATES {
            let mut new = here.to_vec();
            for _ in 0..=candidate % FAR {
                new = self.moved(&new).unwrap_or(new);
            }
            if self.known.contains_key(&self.schedule(&new).kinds) {
                continue;
            }
            let (worth, doubt) = surrogate.worth(&new);
            let worth = worth + curiosity * doubt;
            if best.as_ref().is_none_or(|(most, _)| worth > *most) {
                best = Some((worth, new));
            }
        }
        best.map(|(_, settings)| settings)
    }

    /// A neighbour within the budget; none where chance found none.
    fn moved(&mut self, settings: &[Setting]) -> Option<Vec<Setting>> {
        let mut new = settings.to_vec();
        if new.len() < 2 || self.choices.len() < 2 {
            return None;
        }
        let i = self.random.random_range(1..new.len());
        match self.random.random_range(0..4) {
            0 => {
                let next = if i + 1 < new.len() { i + 1 } else { i - 1 };
                new.swap(i, next.max(1));
            }
            1 => {
                let j = self.random.random_range(1..new.len());
                new.swap(i, j);
            }
            2 => new[i] = self.random_choice(),
            _ => new[i] = self.changed(new[i]),
        }
        self.within(new).filter(|new| *new != settings)
    }

    fn random_choice(&mut self) -> Setting {
        self.choices[self.random.random_range(0..self.choices.len())]
    }

    /// One thing of a setting changed.
    fn changed(&mut self, mut setting: Setting) -> Setting {
        match self.random.random_range(0..4) {
            0 => {
                setting.depth = self.other_depth(setting.depth);
                setting.control = setting.deep();
            }
            1 => setting.control = !setting.control && setting.deep(),
            2 => setting.cross = !setting.cross,
            _ => {
                setting.guidance = match setting.guidance {
                    GuidanceStep::Held => GuidanceStep::Full,
                    _ => GuidanceStep::Held,
                }
            }
        }
        // What this pipeline cannot do is left.
        match self.choices.contains(&setting) {
            true => setting,
            false => self.random_choice(),
        }
    }

    /// Another depth than this, if there is one.
    fn other_depth(&mut self, depth: u8) -> u8 {
        let mut depths: Vec<u8> = self.choices.iter().map(|s| s.depth).collect();
        depths.sort_unstable();
        depths.dedup();
        depths.retain(|d| *d != depth);
        match depths[..] {
            [] => depth,
            [other] => other,
            _ => depths[self.random.random_range(0..depths.len())],
        }
    }

    /// The settings, changed at random until they fit the budget and use it.
    fn within(&mut self, mut settings: Vec<Setting>) -> Option<Vec<Setting>> {
        let budget = self.options.budget;
        let mut schedule = self.schedule(&settings);
        for _ in 0..ATTEMPTS {
            if self.lab.cost(&schedule) <= budget || settings.len() < 2 {
                break;
            }
            settings = self.lab.settings(&schedule);
            let i = self.random.random_range(1..settings.len());
            let before = settings[i];
            settings[i] = self.changed(before);
            let other = self.schedule(&settings);
            match self.lab.cost(&other) < self.lab.cost(&schedule) {
                true => schedule = other,
                false => settings[i] = before,
            }
        }
        let cost = self.lab.cost(&schedule);
        if cost > budget {
            return None;
        }
        // What is left over buys something, if it is enough for anything.
        for _ in 0..if settings.len() < 2 { 0 } else { 8 } {
            let mut more = self.lab.settings(&schedule);
            let i = self.random.random_range(1..more.len());
            more[i] = self.changed(more[i]);
            let other = self.schedule(&more);
            let new = self.lab.cost(&other);
            if new > self.lab.cost(&schedule) && new <= budget {
                schedule = other;
            }
        }
        Some(self.lab.settings(&schedule))
    }
}
