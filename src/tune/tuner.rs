//! Runs searches on a pipeline: formulas, what weights are worth on the best of them, and from there on
//! schedules that are looked for with these weights.

use super::case::{Case, Drawn};
use super::damping::Damping;
use super::effort::Effort;
use super::error::{TuneError, bounded};
use super::finish::{Entry, Tuned};
use super::forecast::Course;
use super::search::{Scored, SearchOptions, anneal, formulas};
use super::{Lab, Unit, timing};
use crate::compile::{Compiled, Planned, Project};
use crate::engine::{Engine, SessionOptions};
use crate::pipeline::{Batch, Drawing, Folder, Loop, Version};
use crate::plan::parameter::Parameters;
use crate::plan::schedule::GuidanceStep;
use crate::plan::{Reuse, Schedule};

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct TunerOptions {
    /// What the runs of one search may cost, in generations of the original.
    pub effort: f64,
    /// Seed of the search.
    pub seed: u64,
    /// What budgets are counted in.
    pub unit: Unit,
    /// Further cuts that divide the blocks below the first into parts which run on evaluations of their own, at most.
    pub inner_cuts: usize,
}

/// What final latents are measured to.
#[derive(Clone, Debug)]
pub enum Aim {
    /// Those of the original in as many steps of the same sampler.
    Original,
    /// Those of the original in this case, whatever is tuned.
    Of(Box<Case>),
}

/// Scores of schedules that were run before: by case, by names of kinds.
pub trait Runs {
    /// The score, if it is known.
    fn known(&self, case: &str, schedule: &Schedule) -> Option<f64>;

    /// Keeps a score.
    ///
    /// # Errors
    /// If it cannot be written.
    fn keep(&mut self, case: &str, schedule: &Schedule, score: f64) -> std::io::Result<()>;
}

/// A pipeline, its lab and what the original makes of the batches.
pub struct Tuner<'t> {
    pub(super) engine: &'static Engine,
    pub(super) folder: &'t Folder,
    pub(super) project: &'t Project<'t>,
    pub(super) session: &'t SessionOptions,
    pub(super) base: Parameters,
    pub(super) run: Drawing,
    pub(super) options: TunerOptions,
    pub(super) lab: Lab,
    /// What schedules are searched and weights are fitted by.
    pub(super) cases: Vec<Drawn<'t>>,
    /// What decides between the best of them, on other pictures: else what suits those of the search would win.
    pub(super) fresh: Vec<Drawn<'t>>,
    /// More of these, to choose among the best few.
    pub(super) last: Vec<Drawn<'t>>,
}

/// Pictures that a pipeline is tuned by.
#[derive(Clone, Copy)]
pub struct Pictures<'t> {
    /// Those of the search.
    pub searched: &'t [Batch],
    /// Others, that judge what was found.
    pub fresh: &'t [Batch],
    /// More others, drawn once by the best few.
    pub last: &'t [Batch],
}

/// A pipeline as it is tuned.
#[derive(Clone, Copy)]
pub struct Setup<'t> {
    /// Where it runs.
    pub engine: &'static Engine,
    /// Its folder.
    pub folder: &'t Folder,
    /// Its models.
    pub project: &'t Project<'t>,
    /// How its sessions are made.
    pub session: &'t SessionOptions,
}

impl<'t> Tuner<'t> {
    /// Draws the batches with the original in every case, and compiles the pipeline with every kind of
    /// evaluation. `base` are the parameters of the plan to find; of `run`, steps are those of a case.
    ///
    /// # Errors
    /// [`TuneError`] where models cannot be planned or the engine refuses.
    pub fn new(
        subject: Setup<'t>,
        base: Parameters,
        (run, pictures): (Drawing, Pictures<'t>),
        (cases, aim): (&[Case], &Aim),
        options: TunerOptions,
        told: &mut dyn FnMut(),
    ) -> Result<Self, TuneError> {
        let Setup {
            engine,
            folder,
            project,
            session,
        } = subject;
        let sampler = match cases.first() {
            Some(case) => case.sampler.clone(),
            None => folder.sampler(None)?,
        };
        let version = Version::Original;
        let mut original = Loop::open(engine, folder, sampler.clone(), version, session)?;
        let mut draw = |batches: &'t [Batch]| -> Result<Vec<Drawn<'t>>, TuneError> {
            let mut one = |case: &Case| Drawn::new(case, &mut original, &run, batches, told);
            Ok(match aim {
                Aim::Original => cases.iter().map(one).collect::<Result<_, _>>()?,
                Aim::Of(case) => {
                    let wanted = one(case)?;
                    cases.iter().map(|case| wanted.of(case)).collect()
                }
            })
        };
        let (drawn, fresh) = (draw(pictures.searched)?, draw(pictures.fresh)?);
        let last = draw(pictures.last)?;
        let timed = pictures
            .searched
            .first()
            .filter(|_| options.unit == Unit::Time);
        let one = |batch| timing::of_original(&mut original, &run, batch);
        let nanos = timed.map(one).transpose()?;
        drop(original);
        let inner = project.inner_cuts(&base, options.inner_cuts);
        let mut lab = Lab::new(project, &base, &inner)?;
        if let (Some(batch), Some(nanos)) = (timed, nanos) {
            let compiled = project.compile(&lab.planned)?;
            let mut networks = Loop::compiled(engine, folder, sampler, &compiled, session)?;
            let kinds = timing::of_kinds(&lab, &mut networks, &run, batch)?;
            lab.price(kinds, nanos);
        }
        Ok(Self {
            engine,
            folder,
            project,
            session,
            base,
            run,
            options,
            lab,
            cases: drawn,
            fresh,
            last,
        })
    }

    /// The case whose schedules all compute more than what is left after `save`, if there is one.
    #[must_use]
    pub fn unreachable(&self, save: f64) -> Option<TuneError> {
        let budget = 1.0 - save;
        let mut all = self.cases.iter().map(|drawn| drawn.case.steps);
        let beyond = all.find(|steps| self.least_of(*steps) > budget);
        beyond.map(|steps| TuneError::Budget {
            steps,
            budget: 100.0 * budget,
        })
    }

    /// The least that so many evaluations compute, as a share of the original's MACs.
    pub(super) fn least_of(&self, steps: usize) -> f64 {
        self.lab.least(steps, &self.base.switches_of(steps))
    }

    /// Runs a schedule, or remembers it.
    pub(super) fn scored(
        &self,
        drawn: &Drawn<'_>,
        (name, schedule): (&str, &Schedule),
        lab: &mut Loop,
        runs: &mut dyn Runs,
    ) -> Result<f64, TuneError> {
        if let Some(known) = runs.known(name, schedule) {
            return Ok(known);
        }
        lab.set_schedule(Some(schedule.clone()));
        let found = bounded(drawn.ratio(lab, &self.run))?;
        let kept = runs.keep(name, schedule, found);
        kept.map_err(TuneError::Keep)?;
        Ok(found)
    }

    /// Loads what was planned.
    pub(super) fn load(&self, planned: &Planned) -> Result<Loop, TuneError> {
        self.open(&self.project.compile(planned)?)
    }

    /// Loads what was compiled.
    pub(super) fn open(&self, compiled: &Compiled) -> Result<Loop, TuneError> {
        let sampler = self.cases[0].case.sampler.clone();
        let (engine, folder) = (self.engine, self.folder);
        let loaded = Loop::compiled(engine, folder, sampler, compiled, self.session)?;
        Ok(loaded)
    }

    /// The best schedule of each case that saves a share of the MACs, and the plan that has them all;
    /// `told` hears which case it is, the share of the effort that is spent and the best ratio so far.
    ///
    /// # Errors
    /// [`TuneError`] where no schedule saves so much or the engine refuses.
    pub fn tune(
        &self,
        save: f64,
        runs: &mut dyn Runs,
        told: &mut dyn FnMut(&str, f64, f64),
    ) -> Result<Tuned, TuneError> {
        if let Some(error) = self.unreachable(save) {
            return Err(error);
        }
        let usual = |drawn: &Drawn<'_>| Damping::usual(&self.lab.planned.plan, drawn.case.steps);
        let usual: Vec<_> = self.cases.iter().map(|d| Some(usual(d))).collect();
        let (planned, rows) = self.lab.weighed(self.project, &usual)?;
        let mut networks = self.load(&planned)?;
        let mut starts = Vec::new();
        for (case, drawn) in self.cases.iter().enumerate() {
            let (name, options) = (drawn.case.name(), self.search(drawn, save, 0.0));
            let kept = format!("{name} damped");
            let mut score = |schedule: &Schedule| {
                let schedule = rows.of(case, schedule);
                self.scored(drawn, (&kept, &schedule), &mut networks, &mut *runs)
            };
            let mut said = |best: f64| told(&name, FORMULAS, best);
            let found = formulas(&self.lab, &options, &mut score, &mut said)?;
            if found.is_empty() {
                return Err(TuneError::Budget {
                    steps: drawn.case.steps,
                    budget: 100.0 * (1.0 - save),
                });
            }
            starts.push(found);
        }
        // Two pipelines may not fit in memory.
        drop(networks);
        let most = starts.iter().map(Vec::len).max().unwrap_or(0);
        let judged = [&self.fresh, &self.last].map(|all| self.judged(all));
        let weighed: Vec<Vec<&Scored>> = starts.iter().map(|s| best_of_ways(s)).collect();
        let fits = weighed.iter().map(Vec::len).max().unwrap_or(0);
        let effort = Effort::of(self.options.effort, 1.0 - save, judged, (most, fits));
        let (dampings, best): (Vec<_>, Vec<&Scored>) = match effort.damps {
            true => self.dampings(&weighed, told)?.into_iter().unzip(),
            false => (usual, weighed.iter().map(|ways| ways[0]).collect()),
        };
        let (planned, rows) = self.lab.weighed(self.project, &dampings)?;
        let mut networks = self.load(&planned)?;
        let mut entries = Vec::new();
        for (case, (drawn, starts)) in self.cases.iter().zip(&starts).enumerate() {
            let name = drawn.case.name();
            // Weights are those of the best formula, which follows from what is saved.
            let kept = match dampings[case] {
                Some(_) => format!("{name} weighed, {:.2} % saved", 100.0 * save),
                None => name.clone(),
            };
            let options = self.search(drawn, save, effort.annealed);
            let mut score = |schedule: &Schedule| {
                let schedule = rows.of(case, schedule);
                self.scored(drawn, (&kept, &schedule), &mut networks, &mut *runs)
            };
            let mut said = |spent: f64, best: f64| {
                let share = (spent / options.effort.max(1.0)).min(1.0);
                told(&name, ANNEALED.0 + (ANNEALED.1 - ANNEALED.0) * share, best);
            };
            let mut first: Vec<&Scored> = starts.iter().collect();
            // Those that use the batch as the best one does.
            first.sort_by_key(|s| !same_way(best[case], s));
            let found = anneal(&self.lab, &options, &first, &mut score, &mut said)?;
            let drawn = starts.len() + found.len();
            let formula = starts.first().map(|s| Entry::new(case, s, drawn, true));
            let best = apart(&found, effort.finalists);
            entries.extend(formula);
            entries.extend(best.map(|s| Entry::new(case, s, drawn, false)));
        }
        drop(networks);
        self.finish(&entries, effort.rounds, told)
    }

    /// How schedules of a case are looked for.
    pub(super) fn search(&self, drawn: &Drawn<'_>, save: f64, effort: f64) -> SearchOptions {
        let steps = drawn.case.steps;
        SearchOptions {
            steps,
            full: self.base.switches_of(steps),
            budget: 1.0 - save,
            effort,
            seed: self.options.seed,
        }
    }

    /// Pictures that decide, for each of the search.
    #[allow(clippy::cast_precision_loss)]
    fn judged(&self, judges: &[Drawn<'_>]) -> f64 {
        let pictures = |all: &[Drawn<'_>]| all.first().map_or(1, Drawn::pictures).max(1) as f64;
        pictures(judges) / pictures(&self.cases)
    }

    /// For each case the formula that is nearest with weights of its own, and what these do, told for all
    /// schedules; none where they do nothing.
    fn dampings<'s>(
        &self,
        weighed: &[Vec<&'s Scored>],
        told: &mut dyn FnMut(&str, f64, f64),
    ) -> Result<Vec<(Option<Damping>, &'s Scored)>, TuneError> {
        let cases = weighed.iter().enumerate();
        let all = cases.flat_map(|(case, ways)| ways.iter().map(move |scored| (case, *scored)));
        let formulas: Vec<(usize, &Scored)> = all.collect();
        let entry = |(case, scored): &(usize, &Scored)| Entry::new(*case, scored, 0, true);
        let entries: Vec<Entry> = formulas.iter().map(entry).collect();
        let all: Vec<&Entry> = entries.iter().collect();
        let planned = self.joined(&all, Reuse::Fitted)?;
        let cases: Vec<usize> = entries.iter().map(|e| e.case).collect();
        let course = Course {
            cases: &cases,
            rounds: 1,
            last: &[],
        };
        let mut said = |case: &str, best: f64| told(case, ANNEALED.0, best);
        let ways = self.ways(&planned, &course, &self.cases, &mut said)?.best;
        let damping = |way: &super::forecast::Way| {
            let pays = way.pays();
            let damping = pays.then(|| Damping::of(&way.sites, &way.table));
            (damping, formulas[way.place].1)
        };
        Ok(ways.iter().map(damping).collect())
    }
}

/// Whether two schedules run the whole batch always, or both do not.
fn same_way(a: &Scored, b: &Scored) -> bool {
    let whole = |scored: &Scored| {
        let mut all = scored.settings.iter();
        all.all(|s| s.guidance == GuidanceStep::Full)
    };
    whole(a) == whole(b)
}

/// The best schedule, and the best of those that use the batch in the other way where it is not far behind: which of
/// both weights help more is seen only when they are fitted, and a search hardly comes from one to the other.
fn best_of_ways(found: &[Scored]) -> Vec<&Scored> {
    let Some(best) = found.first() else {
        return Vec::new();
    };
    let other = found.iter().find(|s| !same_way(best, s));
    let other = other.filter(|s| s.score > best.score - FAR);
    std::iter::once(best).chain(other).collect()
}

/// Shares of a search that are done when formulas are, and between which schedules are annealed.
const FORMULAS: f64 = 0.05;
const ANNEALED: (f64, f64) = (0.1, 0.8);
/// Decibels that weights do not make good.
const FAR: f64 = 3.0;

/// The best schedules that differ on two evaluations or more.
fn apart(found: &[Scored], count: usize) -> impl Iterator<Item = &Scored> {
    let mut kept: Vec<&Scored> = Vec::new();
    for scored in found {
        let near = |other: &&Scored| {
            let pairs = other.settings.iter().zip(&scored.settings);
            pairs.filter(|(a, b)| a != b).count() < 2
        };
        if kept.len() < count && !kept.iter().any(near) {
            kept.push(scored);
        }
    }
    kept.into_iter()
}
