//! Gates that decide while a model runs, fitted: what a move of the latent and of the timestep does to the
//! end, by evaluation (SenCache's Jx and Jt, weighted).

use super::case::Drawn;
use super::error::{TuneError, bounded};
use super::finish::{Fit, Tuned};
use super::lab::by_name;
use super::moves::{Moves, Watch};
use super::tuner::Tuner;
use super::{Columns, Setting};
use crate::compile::Planned;
use crate::pipeline::{Loop, Version};
use crate::plan::schedule::GuidanceStep;
use crate::plan::{Adaptive, Kind, KindError, Reuse, Schedule};

/// How much the end counts beside how far things move: 0 is SenCache's own rule.
const WEIGHTS: [f64; 4] = [0.0, 0.5, 1.0, 2.0];
/// Times that the threshold is halved in.
const HALVINGS: usize = 7;
/// Evaluations of which is measured what reading on them does to the end; between them it is interpolated.
const MEASURED: usize = 20;

/// The kinds of an adaptive plan, and what they compute as a share of the original.
struct Pair {
    start: Kind,
    refresh: Kind,
    reuse: Kind,
    costs: [f64; 3],
}

impl Pair {
    /// What a generation computes.
    #[allow(clippy::cast_precision_loss)]
    fn cost(&self, ran: &[String]) -> f64 {
        let one = |name: &String| match name {
            n if *n == self.start.name => self.costs[0],
            n if *n == self.refresh.name => self.costs[1],
            _ => self.costs[2],
        };
        ran.iter().map(one).sum::<f64>() / ran.len().max(1) as f64
    }

    /// The start, and then `name` on evaluations that `other` says, else `usual`.
    fn schedule(&self, steps: usize, refreshes: impl Fn(usize) -> bool) -> Schedule {
        let kind = |evaluation: usize| match evaluation {
            0 => self.start.name.clone(),
            e if refreshes(e) => self.refresh.name.clone(),
            _ => self.reuse.name.clone(),
        };
        Schedule {
            sampler: None,
            kinds: (0..steps).map(kind).collect(),
            rows: Vec::new(),
            adaptive: None,
        }
    }

    /// How often a generation may refresh after its start.
    fn refreshes(&self, steps: usize, budget: f64) -> usize {
        let fits = |count: &usize| {
            let schedule = self.schedule(steps, |e| e <= *count);
            self.cost(&schedule.kinds) <= budget + 1e-9
        };
        (0..steps).rev().find(fits).unwrap_or(0)
    }
}

impl Tuner<'_> {
    /// A plan whose schedules are decided while the model runs, and save a share of the MACs in the mean of
    /// the pictures; `told` hears which case it is, the share that is done and the best ratio so far.
    ///
    /// # Errors
    /// [`TuneError`] where nothing saves so much or the engine refuses.
    pub fn tune_adaptive(
        &self,
        save: f64,
        told: &mut dyn FnMut(&str, f64, f64),
    ) -> Result<Tuned, TuneError> {
        let mut planned = self.pair()?;
        let pair = self.priced(&planned)?;
        let mut moves = Vec::new();
        for drawn in &self.cases {
            moves.push(self.moves(drawn)?);
        }
        let mut networks = self.load(&planned)?;
        let (mut schedules, mut fits) = (Vec::new(), Vec::new());
        for (case, (drawn, moves)) in self.cases.iter().zip(&moves).enumerate() {
            let (steps, name) = (drawn.case.steps, drawn.case.name());
            let count = pair.refreshes(steps, 1.0 - save);
            if count == 0 {
                return Err(TuneError::Budget {
                    steps,
                    budget: 100.0 * (1.0 - save),
                });
            }
            let ends = self.ends(drawn, &pair, &mut networks, &mut |share| {
                told(&name, 0.4 * share, 0.0);
            })?;
            let mut best: Option<(f64, Schedule)> = None;
            let (mut runs, mut weighed) = (0, WEIGHTS[0]);
            let ends_alone = [Vec::new(), vec![1], vec![1, steps.saturating_sub(2)]];
            // First how much the end counts, then what refreshes in any case.
            let trials = WEIGHTS.iter().map(|w| (Some(*w), &ends_alone[0]));
            let trials = trials.chain(ends_alone[1..].iter().map(|musts| (None, musts)));
            let all = WEIGHTS.len() + ends_alone.len() - 1;
            for (nth, (weight, musts)) in trials.enumerate() {
                if musts.len() >= count || musts.iter().any(|m| *m >= steps) {
                    continue;
                }
                let tables = moves.tables(&ends, weight.unwrap_or(weighed));
                let schedule = |threshold: f64| {
                    let mut schedule = pair.schedule(steps, |e| musts.contains(&e));
                    schedule.sampler = Some(drawn.case.sampler.method.name().to_owned());
                    let limits = (threshold, count - musts.len());
                    schedule.adaptive = Some(adaptive(&pair, &tables, limits, musts));
                    schedule
                };
                let (ratio, found) = self.threshold(
                    drawn,
                    (&pair, 1.0 - save),
                    &schedule,
                    (&mut networks, &mut runs),
                )?;
                if best.as_ref().is_none_or(|(known, _)| ratio > *known) {
                    best = Some((ratio, found));
                    weighed = weight.unwrap_or(weighed);
                }
                #[allow(clippy::cast_precision_loss)]
                let done = 0.4 + 0.6 * (nth + 1) as f64 / all as f64;
                told(&name, done, best.as_ref().map_or(0.0, |b| b.0));
            }
            let (_, schedule) = best.ok_or(KindError::NoSchedule)?;
            fits.push(self.judged_adaptive(case, (&pair, &schedule), runs, &mut networks)?);
            schedules.push(schedule);
        }
        planned.plan.schedules = schedules;
        planned.plan.expand()?;
        let mut planned = self.project.adopt(planned.plan)?;
        let worst = fits.iter().map(|f| f.signal).fold(f64::MAX, f64::min);
        self.tell(&mut planned.plan, worst);
        Ok(Tuned { planned, fits })
    }

    /// A plan with three kinds: the start, a refresh of all, and one that reads all that it can.
    fn pair(&self) -> Result<Planned, TuneError> {
        let held = Setting {
            depth: 0,
            control: false,
            cross: false,
            guidance: GuidanceStep::Held,
        };
        let whole = Setting {
            guidance: GuidanceStep::Full,
            ..held
        };
        let halves = self.lab.choices().contains(&held);
        let reuse = if halves { held } else { whole };
        let steps = self.cases.iter().map(|d| d.case.steps).max().unwrap_or(3);
        let mut settings = vec![reuse; steps.max(3)];
        settings[..2].fill(Setting::FULL);
        let columns = Columns {
            settings,
            inner: Vec::new(),
            reuse: Reuse::Hold,
        };
        Ok(self
            .project
            .plan(&columns, &columns.parameters(&self.base))?)
    }

    #[allow(clippy::cast_precision_loss)]
    fn priced(&self, planned: &Planned) -> Result<Pair, TuneError> {
        let work = by_name(planned, &self.project.work(planned, |macs| macs.weights)?);
        let whole: u64 = planned.costs.iter().map(|c| c.original.weights).sum();
        let names = &planned
            .plan
            .schedules
            .first()
            .ok_or(KindError::NoSchedule)?
            .kinds;
        let kind = |position: usize| {
            let name = names.get(position);
            let kind = planned.plan.kinds.iter().find(|k| Some(&k.name) == name);
            kind.cloned().ok_or(KindError::NoSchedule)
        };
        let (start, refresh, reuse) = (kind(0)?, kind(1)?, kind(2)?);
        let cost = |kind: &Kind| {
            let own = work.get(&kind.name).copied().unwrap_or_default();
            own as f64 / (whole as f64).max(1.0)
        };
        Ok(Pair {
            costs: [cost(&start), cost(&refresh), cost(&reuse)],
            start,
            refresh,
            reuse,
        })
    }

    /// How latents and timesteps move on the way of the original, and what that does to its prediction.
    fn moves(&self, drawn: &Drawn<'_>) -> Result<Moves, TuneError> {
        let sampler = drawn.case.sampler.clone();
        let version = Version::Original;
        let mut original = Loop::open(self.engine, self.folder, sampler, version, self.session)?;
        let mut watch = Watch::new(drawn.case.steps);
        for batch in drawn.batches() {
            watch.begin();
            drawn.run_by(&mut watch, &mut original, &self.run, batch)?;
        }
        Ok(watch.moves())
    }

    /// What reading on one evaluation alone does to the end: amplitude of the error over that of the
    /// signal.
    #[allow(clippy::cast_precision_loss)]
    fn ends(
        &self,
        drawn: &Drawn<'_>,
        pair: &Pair,
        networks: &mut Loop,
        told: &mut dyn FnMut(f64),
    ) -> Result<Vec<f64>, TuneError> {
        let steps = drawn.case.steps;
        let stride = steps.div_ceil(MEASURED).max(1);
        let mut known = vec![None; steps];
        for evaluation in (1..steps).step_by(stride) {
            networks.set_schedule(Some(pair.schedule(steps, |e| e != evaluation)));
            let ratio = bounded(drawn.ratio(networks, &self.run))?;
            known[evaluation] = Some(10f64.powf(-ratio / 20.0));
            told(evaluation as f64 / steps as f64);
        }
        Ok(super::damping::filled(&known))
    }

    /// The threshold with which generations compute as much as the budget allows, in the mean.
    fn threshold(
        &self,
        drawn: &Drawn<'_>,
        (pair, budget): (&Pair, f64),
        schedule: &dyn Fn(f64) -> Schedule,
        (networks, runs): (&mut Loop, &mut usize),
    ) -> Result<(f64, Schedule), TuneError> {
        // In terms of single moves, of which the mean counts 1.
        let (mut low, mut high) = (0.25f64, 64.0f64);
        let mut best: Option<(f64, Schedule)> = None;
        for _ in 0..HALVINGS {
            let middle = (low * high).sqrt();
            let tried = schedule(middle);
            networks.set_schedule(Some(tried.clone()));
            let (latents, ran) = drawn.ran(networks, &self.run)?;
            *runs += 1;
            if pair.mean(&ran) > budget + 1e-9 {
                low = middle;
                continue;
            }
            high = middle;
            let ratio = drawn.ratio_of(&latents);
            if best.as_ref().is_none_or(|(known, _)| ratio > *known) {
                best = Some((ratio, tried));
            }
        }
        // Where everything is within the cap alone.
        Ok(match best {
            Some(best) => best,
            None => (f64::MIN, schedule(high)),
        })
    }

    fn judged_adaptive(
        &self,
        case: usize,
        (pair, schedule): (&Pair, &Schedule),
        runs: usize,
        networks: &mut Loop,
    ) -> Result<Fit, TuneError> {
        let drawn = &self.fresh[case];
        networks.set_schedule(Some(schedule.clone()));
        let (latents, ran) = drawn.ran(networks, &self.run)?;
        let saved = 1.0 - pair.mean(&ran);
        let refreshed = |kind: &String| match *kind == pair.reuse.name {
            false => Setting::FULL,
            true => Setting {
                depth: 0,
                control: false,
                cross: false,
                guidance: pair.reuse.guidance,
            },
        };
        let first = ran
            .first()
            .map(|(_, kinds)| kinds.iter().map(refreshed).collect());
        // Beside it a fixed schedule that computes no more: even refreshes.
        let steps = drawn.case.steps;
        let count = pair.refreshes(steps, 1.0 - saved) + 1;
        let even = pair.schedule(steps, |e| (0..count).any(|k| k * steps / count == e));
        networks.set_schedule(Some(even));
        let formula = bounded(drawn.ratio(networks, &self.run))?;
        Ok(Fit {
            case,
            saved,
            saved_time: None,
            signal: drawn.ratio_of(&latents),
            psnr: self.psnr(drawn, &latents)?,
            formula,
            fewer: self.fewer(drawn, (&pair.start.name, saved), networks)?,
            runs,
            settings: first.unwrap_or_default(),
            forecast: None,
        })
    }
}

impl Pair {
    /// What generations compute, mean over pictures.
    #[allow(clippy::cast_precision_loss)]
    fn mean(&self, ran: &[(usize, Vec<String>)]) -> f64 {
        let rows: usize = ran.iter().map(|(rows, _)| rows).sum();
        let all = ran
            .iter()
            .map(|(rows, kinds)| *rows as f64 * self.cost(kinds));
        all.sum::<f64>() / rows.max(1) as f64
    }
}

/// The gate with tables that are reached at a threshold, for `count` refreshes in the mean beside those that
/// must be.
#[allow(clippy::cast_possible_truncation)]
fn adaptive(
    pair: &Pair,
    (latent, time): &(Vec<f64>, Vec<f64>),
    (threshold, count): (f64, usize),
    musts: &[usize],
) -> Adaptive {
    let steps = latent.len();
    let decided = |e: usize| {
        if e == 0 || musts.contains(&e) {
            '.'
        } else {
            '?'
        }
    };
    let scaled = |table: &[f64]| table.iter().map(|w| (w / threshold) as f32).collect();
    Adaptive {
        instead: pair.refresh.name.clone(),
        decided: (0..steps).map(decided).collect(),
        latent: scaled(latent),
        time: scaled(time),
        most: (2 * steps).div_ceil(count + 1).max(2),
        budget: count + (count / 4).max(1),
    }
}
