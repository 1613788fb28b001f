//! Runs searches on a pipeline and makes a plan of what they find.

use super::case::{Case, Drawn};
use super::error::{TuneError, bounded};
use super::search::{Found, SearchOptions, search};
use super::{Columns, Forecast, Lab, Setting, Unit, timing};
use crate::analysis::macs::Macs;
use crate::compile::{Compiled, Planned, Project};
use crate::engine::Tensor;
use crate::engine::{Engine, SessionOptions};
use crate::pipeline::{Batch, Drawing, Folder, Loop, Version, decode, picture};
use crate::plan::cost::{Cost, fewest_steps, saved};
use crate::plan::parameter::{CONTROL_END, CONTROL_START, Parameters};
use crate::plan::{Fitted, KindError, Reuse, Schedule};

/// The share of the effort that goes into schedules; the rest goes into weights.
const SEARCHED: f64 = 0.85;

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct TunerOptions {
    /// What the runs of one search may cost, in generations of the original.
    pub effort: f64,
    /// Seed of the search.
    pub seed: u64,
    /// What budgets are counted in.
    pub unit: Unit,
}

/// What final latents are measured to.
#[derive(Clone, Debug)]
pub enum Aim {
    /// Those of the original in as many steps of the same sampler.
    Original,
    /// Those of the original in this case, whatever is tuned.
    Of(Box<Case>),
}

/// What was found for one sampler and number of steps.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The case, by its position.
    pub case: usize,
    /// Share of the MACs of weight operators that is saved.
    pub saved: f64,
    /// Share of the time that is saved, by what was measured; none where budgets are in MACs.
    pub saved_time: Option<f64>,
    /// Signal-to-noise ratio of the final latents to the original's, in dB: mean over pictures.
    pub signal: f64,
    /// PSNR of the decoded pictures, in dB: mean over pictures.
    pub psnr: f64,
    /// The ratio of the best formula.
    pub formula: f64,
    /// The original in fewer steps that compute no less: how many, and their ratio.
    pub fewer: (usize, f64),
    /// Schedules that were run.
    pub runs: usize,
    /// What the schedule does.
    pub settings: Vec<Setting>,
    /// What weights do; none where everything is held.
    pub forecast: Option<Forecast>,
}

/// A plan that was fitted, with a schedule a case.
pub struct Tuned {
    /// The plan.
    pub planned: Planned,
    /// What is known of each schedule, in the order of the plan's.
    pub fits: Vec<Fit>,
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
    folder: &'t Folder,
    pub(super) project: &'t Project<'t>,
    pub(super) session: &'t SessionOptions,
    pub(super) base: Parameters,
    pub(super) run: Drawing,
    pub(super) batches: &'t [Batch],
    options: TunerOptions,
    pub(super) lab: Lab,
    pub(super) cases: Vec<Drawn>,
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
        (run, batches): (Drawing, &'t [Batch]),
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
        let mut draw = |case: &Case| Drawn::new(case, &mut original, &run, batches, told);
        let cases = match aim {
            Aim::Original => cases.iter().map(&mut draw).collect::<Result<_, _>>()?,
            Aim::Of(case) => {
                let wanted = draw(case)?;
                cases.iter().map(|case| wanted.of(case)).collect()
            }
        };
        let timed = batches.first().filter(|_| options.unit == Unit::Time);
        let one = |batch| timing::of_original(&mut original, &run, batch);
        let nanos = timed.map(one).transpose()?;
        drop(original);
        let mut lab = Lab::new(project, &base)?;
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
            batches,
            options,
            lab,
            cases,
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
        drawn: &Drawn,
        (name, schedule): (&str, &Schedule),
        lab: &mut Loop,
        runs: &mut dyn Runs,
    ) -> Result<f64, TuneError> {
        if let Some(known) = runs.known(name, schedule) {
            return Ok(known);
        }
        lab.set_schedule(Some(schedule.clone()));
        let found = bounded(drawn.ratio(lab, &self.run, self.batches))?;
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
    /// `told` hears which case it is, the share of its effort that is spent and the best ratio so far.
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
        let mut lab = self.load(&self.lab.planned)?;
        let mut found = Vec::new();
        for drawn in &self.cases {
            found.push(self.look(drawn, save, &mut lab, runs, told)?);
        }
        self.plan(&found, lab, told)
    }

    fn look(
        &self,
        drawn: &Drawn,
        save: f64,
        lab: &mut Loop,
        runs: &mut dyn Runs,
        told: &mut dyn FnMut(&str, f64, f64),
    ) -> Result<Found, TuneError> {
        let (steps, effort) = (drawn.case.steps, SEARCHED * self.options.effort);
        let search_options = SearchOptions {
            steps,
            full: self.base.switches_of(steps),
            budget: 1.0 - save,
            effort,
            seed: self.options.seed,
        };
        let name = drawn.case.name();
        let mut score = |schedule: &Schedule| self.scored(drawn, (&name, schedule), lab, runs);
        let mut said = |spent: f64, best: f64| told(&name, (spent / effort).min(1.0), best);
        let found = search(&self.lab, search_options, &mut score, &mut said)?;
        found.ok_or(TuneError::Budget {
            steps,
            budget: 100.0 * (1.0 - save),
        })
    }

    /// How often weights are fitted: each time takes as long as some three generations.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn rounds(&self) -> usize {
        let left = (1.0 - SEARCHED) * self.options.effort;
        ((left / 3.0) as usize).clamp(1, 4)
    }

    /// How near pictures are to those that are wanted, in dB: mean over pictures.
    #[allow(clippy::cast_precision_loss)]
    fn psnr(&self, drawn: &Drawn, latents: &[Tensor]) -> Result<f64, TuneError> {
        let decoded = |latents: &[Tensor]| decode(self.engine, self.folder, self.session, latents);
        let (wanted, found) = (decoded(drawn.wanted())?, decoded(latents)?);
        let pairs = wanted.iter().zip(&found);
        let sum: f64 = pairs.map(|(a, b)| picture::psnr(a, b)).sum();
        Ok(sum / wanted.len().max(1) as f64)
    }

    /// The plainest rival: the original in as few steps as compute no less.
    fn fewer(&self, case: usize, saved: f64, lab: &mut Loop) -> Result<(usize, f64), TuneError> {
        let drawn = &self.cases[case];
        let steps = fewest_steps(drawn.case.steps, saved);
        lab.set_schedule(Some(self.lab.schedule(&vec![Setting::FULL; steps])));
        let ratio = drawn.fewer(lab, steps, &self.run, self.batches)?;
        Ok((steps, ratio))
    }

    /// A plan with the schedules that were found, each run once as it will be compiled.
    fn plan(
        &self,
        found: &[Found],
        mut lab: Loop,
        told: &mut dyn FnMut(&str, f64, f64),
    ) -> Result<Tuned, TuneError> {
        let mut planned = self.joined(found, Reuse::Hold)?;
        let mut fits = Vec::new();
        for (case, found) in found.iter().enumerate() {
            let adopted = self.project.adopt(planned.plan.under(case)?)?;
            let total = |of: fn(&Cost) -> Macs| adopted.costs.iter().map(|c| of(c).weights).sum();
            let saved = saved(total(Cost::before), total(Cost::after));
            let time = 1.0 - self.lab.cost(&found.best.schedule);
            let saved_time = (self.options.unit == Unit::Time).then_some(time);
            fits.push(Fit {
                case,
                saved,
                saved_time,
                fewer: self.fewer(case, saved_time.unwrap_or(saved), &mut lab)?,
                signal: 0.0,
                psnr: 0.0,
                formula: found.start.score,
                runs: found.runs,
                settings: found.best.settings.clone(),
                forecast: None,
            });
        }
        // Two pipelines may not fit in memory.
        drop(lab);
        let mut said = |case: &str, best: f64| told(case, 1.0, best);
        let fitted = self.joined(found, Reuse::Fitted)?;
        if let Some((weighed, forecasts)) = self.weighed(&fitted, self.rounds(), &mut said)? {
            planned = weighed;
            for (fit, forecast) in fits.iter_mut().zip(forecasts) {
                fit.forecast = Some(forecast);
            }
        }
        let mut networks = self.load(&planned)?;
        for fit in &mut fits {
            networks.set_schedule(planned.plan.schedules.get(fit.case).cloned());
            let drawn = &self.cases[fit.case];
            let latents = drawn.latents(&mut networks, &self.run, self.batches)?;
            fit.signal = drawn.ratio_of(&latents, self.batches);
            fit.psnr = self.psnr(drawn, &latents)?;
        }
        let worst = fits.iter().map(|f| f.signal).fold(f64::MAX, f64::min);
        planned.plan.fitted = Fitted {
            guidance: self.run.guidance,
            pictures: self.batches.iter().map(|b| b.rows.len()).sum(),
            signal: worst,
        }
        .told();
        // Whoever runs the plan must switch control where it was switched here.
        let window = [(&CONTROL_START, 0.0), (&CONTROL_END, 1.0)];
        let (start, end) = self.run.control_window;
        for ((parameter, usual), share) in window.into_iter().zip([start, end]) {
            if share != usual {
                let told = (parameter.name.to_owned(), share.to_string());
                planned.plan.parameters.extend([told]);
            }
        }
        Ok(Tuned { planned, fits })
    }

    /// One plan for all cases: they are planned as one after the other, each of which begins anew, and
    /// then taken apart.
    fn joined(&self, found: &[Found], reuse: Reuse) -> Result<Planned, TuneError> {
        let all = found.iter().flat_map(|f| f.best.settings.iter().copied());
        let columns = Columns {
            settings: all.collect(),
            reuse,
        };
        let mut parameters = columns.parameters(&self.base);
        // The search has seen to it that everything runs where control switches.
        parameters.unset(&CONTROL_START);
        parameters.unset(&CONTROL_END);
        let mut plan = self.project.plan(&columns, &parameters)?.plan;
        let Some(whole) = plan.schedules.first().cloned() else {
            return Err(KindError::NoSchedule.into());
        };
        let mut kinds = whole.kinds.into_iter();
        plan.schedules = self
            .cases
            .iter()
            .map(|drawn| Schedule {
                sampler: Some(drawn.case.sampler.method.name().to_owned()),
                kinds: kinds.by_ref().take(drawn.case.steps).collect(),
                rows: Vec::new(),
            })
            .collect();
        // The first evaluation of each is the first kind, which reads nothing.
        if let Some(start) = plan.kinds.first().map(|k| k.name.clone()) {
            for schedule in &mut plan.schedules {
                if let Some(first) = schedule.kinds.first_mut() {
                    first.clone_from(&start);
                }
            }
        }
        plan.expand()?;
        Ok(self.project.adopt(plan)?)
    }
}
