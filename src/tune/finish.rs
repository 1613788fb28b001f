//! From the best schedules to a plan: weights are fitted to each, and other pictures decide.

use super::case::{Drawn, mean};
use super::error::TuneError;
use super::forecast::{Course, Forecast};
use super::search::Scored;
use super::tuner::Tuner;
use super::{Columns, Setting, Unit};
use crate::analysis::macs::Macs;
use crate::compile::Planned;
use crate::engine::Tensor;
use crate::pipeline::{Loop, decode, picture};
use crate::plan::cost::{Cost, fewest_steps, saved};
use crate::plan::parameter::{CONTROL_END, CONTROL_START};
use crate::plan::{Fitted, KindError, Plan, Reuse, Schedule};

/// What was found for one sampler and number of steps.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The case, by its position.
    pub case: usize,
    /// Share of the MACs of weight operators that is saved.
    pub saved: f64,
    /// Share of the time that is saved, by what was measured; none where budgets are in MACs.
    pub saved_time: Option<f64>,
    /// Signal-to-noise ratio of the final latents to the original's, in dB: mean over pictures, on other
    /// pictures than the search had.
    pub signal: f64,
    /// PSNR of the decoded pictures, in dB: mean over pictures.
    pub psnr: f64,
    /// The ratio of the best formula, damped or with weights of its own.
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

/// A schedule that may be the best of its case.
pub(super) struct Entry {
    /// The case, by position.
    pub case: usize,
    pub settings: Vec<Setting>,
    /// As kinds of the lab.
    schedule: Schedule,
    /// Schedules of this case that were drawn.
    drawn: usize,
    formula: bool,
}

impl Entry {
    pub fn new(case: usize, scored: &Scored, drawn: usize, formula: bool) -> Self {
        Self {
            case,
            settings: scored.settings.clone(),
            schedule: scored.schedule.clone(),
            drawn,
            formula,
        }
    }
}

impl Tuner<'_> {
    /// A plan with the best entry of each case.
    pub(super) fn finish(
        &self,
        entries: &[Entry],
        rounds: usize,
        told: &mut dyn FnMut(&str, f64, f64),
    ) -> Result<Tuned, TuneError> {
        let mut said = |case: &str, best: f64| told(case, 0.9, best);
        let all: Vec<&Entry> = entries.iter().collect();
        let planned = self.joined(&all, Reuse::Fitted)?;
        let cases: Vec<usize> = entries.iter().map(|e| e.case).collect();
        let course = Course {
            cases: &cases,
            rounds,
            last: &self.last,
        };
        let ways = self.ways(&planned, &course, &self.fresh, &mut said)?;
        let formula = |case: usize| {
            let all = entries.iter().zip(&ways.first);
            let mut all = all.filter(|(e, _)| e.case == case && e.formula);
            all.next().map_or(0.0, |(_, ratio)| *ratio)
        };
        let formulas: Vec<f64> = (0..self.cases.len()).map(formula).collect();
        let mut best = ways.best;
        let chosen: Vec<&Entry> = best.iter().map(|way| &entries[way.place]).collect();
        for (place, way) in best.iter_mut().enumerate() {
            way.place = place;
        }
        let mut planned = self.joined(&chosen, Reuse::Hold)?;
        let mut forecasts = Vec::new();
        let fitted = self.joined(&chosen, Reuse::Fitted)?;
        if let Some((weighed, found)) = self.weighed(&fitted, &best)? {
            (planned, forecasts) = (weighed, found);
        }
        let mut forecasts = forecasts.into_iter();
        let mut networks = self.load(&planned)?;
        let mut fits = Vec::new();
        for (entry, formula) in chosen.iter().zip(formulas) {
            let case = entry.case;
            let adopted = self.project.adopt(planned.plan.under(case)?)?;
            let total = |of: fn(&Cost) -> Macs| adopted.costs.iter().map(|c| of(c).weights).sum();
            let saved = saved(total(Cost::before), total(Cost::after));
            let time = 1.0 - self.lab.cost(&entry.schedule);
            let saved_time = (self.options.unit == Unit::Time).then_some(time);
            let drawn = &self.fresh[case];
            networks.set_schedule(planned.plan.schedules.get(case).cloned());
            let latents = drawn.latents(&mut networks, &self.run)?;
            let mut ratios = drawn.ratios_of(&latents);
            if let Some(more) = self.last.get(case) {
                ratios.extend(more.ratios(&mut networks, &self.run)?);
            }
            let kinds = &planned.plan.kinds;
            let start = kinds.first().ok_or(KindError::NoSchedule)?.name.as_str();
            let plain = (start, saved_time.unwrap_or(saved));
            fits.push(Fit {
                case,
                saved,
                saved_time,
                fewer: self.fewer(drawn, plain, &mut networks)?,
                signal: mean(&ratios),
                psnr: self.psnr(drawn, &latents)?,
                formula,
                runs: entry.drawn,
                settings: entry.settings.clone(),
                forecast: forecasts.next(),
            });
        }
        let worst = fits.iter().map(|f| f.signal).fold(f64::MAX, f64::min);
        self.tell(&mut planned.plan, worst);
        Ok(Tuned { planned, fits })
    }

    /// What a plan says of how it was found; `signal` is the worst ratio of its schedules.
    pub(super) fn tell(&self, plan: &mut Plan, signal: f64) {
        plan.fitted = Fitted {
            guidance: self.run.guidance,
            pictures: self.cases.first().map_or(0, Drawn::pictures),
            signal,
        }
        .told();
        // Whoever runs the plan must switch control where it was switched here.
        let window = [(&CONTROL_START, 0.0), (&CONTROL_END, 1.0)];
        let (start, end) = self.run.control_window;
        for ((parameter, usual), share) in window.into_iter().zip([start, end]) {
            if share != usual {
                let told = (parameter.name.to_owned(), share.to_string());
                plan.parameters.extend([told]);
            }
        }
    }

    /// How near pictures are to those that are wanted, in dB: mean over pictures.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn psnr(&self, drawn: &Drawn<'_>, latents: &[Tensor]) -> Result<f64, TuneError> {
        let decoded = |latents: &[Tensor]| decode(self.engine, self.folder, self.session, latents);
        let (wanted, found) = (decoded(drawn.wanted())?, decoded(latents)?);
        let pairs = wanted.iter().zip(&found);
        let sum: f64 = pairs.map(|(a, b)| picture::psnr(a, b)).sum();
        Ok(sum / wanted.len().max(1) as f64)
    }

    /// The plainest rival: the original in as few steps as compute no less. `start` is the kind that
    /// computes everything.
    pub(super) fn fewer(
        &self,
        drawn: &Drawn<'_>,
        (start, saved): (&str, f64),
        networks: &mut Loop,
    ) -> Result<(usize, f64), TuneError> {
        let steps = fewest_steps(drawn.case.steps, saved);
        networks.set_schedule(Some(Schedule {
            sampler: None,
            kinds: vec![start.to_owned(); steps],
            rows: Vec::new(),
            adaptive: None,
        }));
        Ok((steps, drawn.fewer(networks, steps, &self.run)?))
    }

    /// One plan for all entries: they are planned as one after the other, each of which begins anew, and
    /// then taken apart.
    pub(super) fn joined(&self, entries: &[&Entry], reuse: Reuse) -> Result<Planned, TuneError> {
        let all = entries.iter().flat_map(|e| e.settings.iter().copied());
        let columns = Columns {
            settings: all.collect(),
            inner: self.lab.inner.clone(),
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
        let schedule = |entry: &&Entry| {
            let case = &self.cases[entry.case].case;
            Schedule {
                sampler: Some(case.sampler.method.name().to_owned()),
                kinds: kinds.by_ref().take(entry.settings.len()).collect(),
                rows: Vec::new(),
                adaptive: None,
            }
        };
        plan.schedules = entries.iter().map(schedule).collect();
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
