//! Running the versions of a pipeline that `hgc run` compares.

use anyhow::Context;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::engine::{Engine, SessionOptions};
use hgc::unstable::pipeline::{Batch, Denoised, Drawing, Folder, Loop, Version, decode};
use hgc::unstable::plan::policy;
use hgc::unstable::plan::{Plan, Schedule, told_of_decisions};
use hgc::unstable::sampler::Config;
use hgc::unstable::sampler::solver::told_of;
use image::RgbImage;

use super::super::args::read_plan;
use super::super::progress::Progress;
use super::super::terminal::warn;
use super::Args;

/// What all versions of a pipeline are run on.
pub(super) struct Work<'w> {
    pub(super) engine: &'static Engine,
    pub(super) folder: &'w Folder,
    pub(super) options: &'w SessionOptions,
    pub(super) settings: &'w Drawing,
    pub(super) batches: &'w [Batch],
}

impl Work<'_> {
    pub(super) fn run(&self, mut networks: Loop, title: &str) -> anyhow::Result<Vec<Denoised>> {
        // Where the engine prepares a program for every pattern of gates when it first comes, that
        // is not timed.
        if !self.engine.abilities().prepares_at_load
            && let Some(first) = self.batches.first()
        {
            networks.run(first, self.settings, &mut |_, _| {})?;
        }
        let mut results = Vec::new();
        self.each(networks, title, &mut |denoised| {
            results.push(denoised);
            Ok(())
        })?;
        Ok(results)
    }

    /// Runs all batches and tells of each when it is done; the networks are dropped before the
    /// last one is told of.
    pub(super) fn each(
        &self,
        mut networks: Loop,
        title: &str,
        done: &mut dyn FnMut(Denoised) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let bar = Progress::new(title, "{bar:30} {pos}/{len} {msg} {eta}");
        bar.set_length((self.settings.steps * self.batches.len()) as u64);
        let plan = networks.plan().cloned();
        let mut last = None;
        for batch in self.batches {
            if let Some(denoised) = last.take() {
                bar.suspend(|| done(denoised))?;
            }
            let mut told = |step: usize, seconds: f64| {
                let gates = plan.as_ref().map(|p| pattern(p, step)).unwrap_or_default();
                bar.set_message(format!("{title} {seconds:.2} s {gates}"));
                bar.inc(1);
            };
            let done = networks.run(batch, self.settings, &mut told)?;
            let fits = |s: &&Schedule| s.evaluations() == done.ran.len();
            let schedules = plan.iter().flat_map(|p| &p.schedules);
            let mut problems = schedules
                .filter(fits)
                .map(|s| told_of_decisions(s, &done.ran));
            if let Some(problem) = problems.next().flatten() {
                bar.suspend(|| {
                    warn(format_args!(
                        "{problem}; `hgc tune --adaptive` fits it to this model and sampler"
                    ))
                });
            }
            last = Some(done);
        }
        bar.finish();
        drop(networks);
        last.map_or(Ok(()), done)
    }

    /// The compiled pipeline as it is, or an original compiled in memory.
    pub(super) fn cached(&self, args: &Args, sampler: Config) -> anyhow::Result<Vec<Denoised>> {
        if self.folder.plan.is_some() {
            let (engine, folder, options) = (self.engine, self.folder, self.options);
            let networks = Loop::open(engine, folder, sampler, Version::AsIs, options)?;
            return self.run(networks, "cached");
        }
        let inputs = Inputs::read(&self.folder.path, &[])?;
        let batch = &self.batches[0];
        let rows = self.settings.rows() * batch.rows.len();
        let tokens = batch.text_shape[0];
        let sizes = self.folder.sizes(self.settings.size, rows, tokens);
        let project = Project::new(&inputs, sizes)?;
        let planned = if let Some(file) = &args.plan {
            let plan = read_plan(file)?;
            super::warn_beyond_fit(&plan, &sampler, self.settings);
            let adopted = project.adopt(plan);
            adopted.with_context(|| format!("plan {}", file.display()))?
        } else {
            let named = args.policy.as_deref().unwrap_or(policy::DEFAULT.name());
            let base = args.engine.target().parameters(self.settings.parameters());
            let base = told_of(&sampler, base);
            let point = args.told.point(named, base)?;
            project.plan(point.policy, &point.parameters)?
        };
        let compiled = project.compile(&planned)?;
        let networks = Loop::compiled(self.engine, self.folder, sampler, &compiled, self.options)?;
        self.run(networks, "cached")
    }

    pub(super) fn decode(&self, denoised: &[Denoised]) -> anyhow::Result<Vec<RgbImage>> {
        let latents: Vec<_> = denoised.iter().map(|d| d.latents.clone()).collect();
        Ok(decode(self.engine, self.folder, self.options, &latents)?)
    }
}

/// One sign a gate: `R` where it refreshes on a step.
fn pattern(plan: &Plan, step: usize) -> String {
    let gates = plan.models.iter().flat_map(|m| &m.gates);
    gates
        .map(|g| if g.schedule.refreshes(step) { 'R' } else { '.' })
        .collect()
}
