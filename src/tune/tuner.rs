//! Runs the search on a pipeline.

use super::search::{Found, SearchOptions, search};
use super::{Columns, Lab};
use crate::analysis::macs::Macs;
use crate::compile::{CompileError, Planned, Project};
use crate::engine::{Engine, SessionOptions, Tensor};
use crate::pipeline::{Batch, Drawing, Folder, Loop, PipelineError, Version};
use crate::plan::cost::{Cost, saved};
use crate::plan::parameter::Parameters;
use crate::plan::{Fitted, Schedule};
use crate::sampler::Config;

/// Why a pipeline could not be tuned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum TuneError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error(
        "no schedule of {steps} evaluations computes as little as {budget:.1} % of the MACs; the first \
         evaluation computes everything: ask for less, or for more evaluations"
    )]
    Budget { steps: usize, budget: f64 },
}

/// What to tune.
#[derive(Clone, Debug)]
pub struct TunerOptions {
    /// Steps, guidance, size.
    pub run: Drawing,
    /// What all runs of one search may cost, in generations of the original.
    pub effort: f64,
    /// Seed of the search.
    pub seed: u64,
}

/// What to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// So large a share of the MACs of weight operators saved.
    Save(f64),
}

/// A plan that was fitted.
pub struct Tuned {
    /// The plan.
    pub planned: Planned,
    /// Share of the MACs of weight operators that it saves.
    pub saved: f64,
    /// Signal-to-noise ratio of the final latents to the original's, in dB: mean over pictures.
    pub signal: f64,
    /// The same of the best formula.
    pub start: f64,
    /// Schedules that were run.
    pub runs: usize,
}

/// A pipeline, its lab and what the original makes of the batches.
pub struct Tuner<'t> {
    engine: &'static Engine,
    folder: &'t Folder,
    project: &'t Project<'t>,
    sampler: Config,
    session: &'t SessionOptions,
    base: Parameters,
    batches: &'t [Batch],
    options: TunerOptions,
    lab: Lab,
    networks: Loop,
    wanted: Vec<Tensor>,
}

impl<'t> Tuner<'t> {
    /// Draws the batches with the original, and compiles the pipeline with every kind of evaluation;
    /// `base` are the parameters of the plan to find.
    ///
    /// # Errors
    /// [`TuneError`] where models cannot be planned or the engine refuses.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        engine: &'static Engine,
        folder: &'t Folder,
        project: &'t Project<'t>,
        sampler: Config,
        session: &'t SessionOptions,
        base: Parameters,
        batches: &'t [Batch],
        options: TunerOptions,
        told: &mut dyn FnMut(),
    ) -> Result<Self, TuneError> {
        let version = Version::Original;
        let mut original = Loop::open(engine, folder, sampler.clone(), version, session)?;
        let mut wanted = Vec::new();
        for batch in batches {
            let done = original.run(batch, &options.run, &mut |_, _| {})?;
            wanted.push(done.latents);
            told();
        }
        drop(original);
        let lab = Lab::new(project, &base)?;
        let compiled = project.compile(&lab.planned)?;
        let networks = Loop::compiled(engine, folder, sampler.clone(), &compiled, session)?;
        Ok(Self {
            engine,
            folder,
            project,
            sampler,
            session,
            base,
            batches,
            options,
            lab,
            networks,
            wanted,
        })
    }

    /// Looks for the best plan that reaches the goal; `told` hears the share of the effort that is
    /// spent and the best ratio so far.
    ///
    /// # Errors
    /// [`TuneError`] where no plan reaches it or the engine refuses.
    pub fn tune(&mut self, goal: Goal, told: &mut dyn FnMut(f64, f64)) -> Result<Tuned, TuneError> {
        let Goal::Save(saved) = goal;
        let (steps, effort) = (self.options.run.steps, self.options.effort);
        let search_options = SearchOptions {
            steps,
            budget: 1.0 - saved,
            effort,
            seed: self.options.seed,
        };
        let Self {
            lab,
            networks,
            batches,
            options,
            wanted,
            ..
        } = self;
        let mut score = |schedule: &Schedule| -> Result<f64, TuneError> {
            networks.set_schedule(Some(schedule.clone()));
            ratio_of(networks, batches, wanted, &options.run)
        };
        let mut said = |spent: f64, best: f64| told((spent / effort).min(1.0), best);
        let found = search(lab, search_options, &mut score, &mut said)?;
        let found = found.ok_or(TuneError::Budget {
            steps,
            budget: 100.0 * (1.0 - saved),
        })?;
        self.plan(&found)
    }

    /// The plan of what was found, run once as it will be compiled.
    fn plan(&self, found: &Found) -> Result<Tuned, TuneError> {
        let columns = Columns(found.best.settings.clone());
        let mut planned = self
            .project
            .plan(&columns, &columns.parameters(&self.base))?;
        let compiled = self.project.compile(&planned)?;
        let sampler = self.sampler.clone();
        let mut networks =
            Loop::compiled(self.engine, self.folder, sampler, &compiled, self.session)?;
        let run = &self.options.run;
        let signal = ratio_of(&mut networks, self.batches, &self.wanted, run)?;
        let pictures: usize = self.batches.iter().map(|b| b.rows.len()).sum();
        let sampler = self.sampler.method.name();
        planned.plan.fitted = Fitted {
            sampler,
            guidance: run.guidance,
            pictures,
            signal,
        }
        .told();
        if let Some(first) = planned.plan.schedules.first_mut() {
            first.sampler = Some(sampler.to_owned());
        }
        let total = |of: fn(&Cost) -> Macs| planned.costs.iter().map(|c| of(c).weights).sum();
        let saved = saved(total(Cost::before), total(Cost::after));
        Ok(Tuned {
            planned,
            saved,
            signal,
            start: found.start.score,
            runs: found.runs,
        })
    }
}

/// Draws all batches; how near the final latents are to those wanted.
fn ratio_of(
    networks: &mut Loop,
    batches: &[Batch],
    wanted: &[Tensor],
    run: &Drawing,
) -> Result<f64, TuneError> {
    let mut ratios = Vec::new();
    for (batch, wanted) in batches.iter().zip(wanted) {
        let found = networks.run(batch, run, &mut |_, _| {})?.latents;
        ratios.extend(ratios_by_row(
            &wanted.to_f32(),
            &found.to_f32(),
            batch.rows.len(),
        ));
    }
    #[allow(clippy::cast_precision_loss)]
    Ok(ratios.iter().sum::<f64>() / ratios.len().max(1) as f64)
}

/// The most that a ratio counts, as for PSNR of pictures that are equal.
const MOST: f64 = 100.0;

/// Signal-to-noise ratio in dB of each of `rows` rows: variance of what is wanted over the mean square
/// of the difference.
fn ratios_by_row(wanted: &[f32], found: &[f32], rows: usize) -> Vec<f64> {
    let size = (wanted.len() / rows.max(1)).max(1);
    let row = |(wanted, found): (&[f32], &[f32])| {
        #[allow(clippy::cast_precision_loss)]
        let count = wanted.len() as f64;
        let mean = wanted.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let square = |v: f64| v * v;
        let signal: f64 = wanted.iter().map(|v| square(f64::from(*v) - mean)).sum();
        let pairs = wanted.iter().zip(found);
        let noise: f64 = pairs
            .map(|(w, f)| square(f64::from(*w) - f64::from(*f)))
            .sum();
        match noise > 0.0 {
            true => (10.0 * (signal / noise).log10()).min(MOST),
            false => MOST,
        }
    };
    wanted
        .chunks(size)
        .zip(found.chunks(size))
        .map(row)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ratios_by_row;

    #[test]
    fn ratios_are_by_row() {
        let wanted = [1.0, -1.0, 2.0, -2.0];
        let found = ratios_by_row(&wanted, &[1.1, -1.1, 2.0, -2.0], 2);
        assert!((found[0] - 20.0).abs() < 1e-4, "{found:?}");
        assert!((found[1] - 100.0).abs() < 1e-9, "{found:?}");
    }
}
