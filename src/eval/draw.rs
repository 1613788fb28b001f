//! Draws a set with the original and with cached versions of a pipeline.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::batches::batches;
use super::decided::{Drawn, after};
use super::statistics::mean;
use super::{EvalError, Set, Skip, Skipper, Subject, Way, score};
use crate::analysis::macs::Macs;
use crate::compile::{Planned, Project};
use crate::engine::{Engine, SessionOptions};
use crate::pipeline::{Batch, Drawing, Folder, Loop, PipelineError, Version, decode, picture};
use crate::plan::cost::Cost;
use crate::plan::parameter::Parameters;
use crate::plan::policy::Nothing;
use crate::sampler::{Config, Method};

/// How to draw.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Steps, guidance, size.
    pub run: Drawing,
    /// Scenes at once.
    pub batch: usize,
    /// Batches of every point on which original and cached are timed in turns; 0 for none,
    /// then only one of them is in memory at a time.
    pub timed: usize,
}

/// How close pictures are to the original's and to what they must show, scene by scene.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Quality {
    /// PSNR to the original's picture in dB, at most 100.
    pub psnr: Vec<f64>,
    /// SSIM to the original's picture.
    pub ssim: Vec<f64>,
    /// Mean intersection over union; empty where the set does not say what to show.
    pub miou: Vec<f64>,
    /// Objects that are right.
    pub right: Vec<usize>,
    /// Objects in all.
    pub objects: Vec<usize>,
}

impl Quality {
    /// Mean intersection over union of all scenes.
    #[must_use]
    pub fn mean_iou(&self) -> Option<f64> {
        (!self.miou.is_empty()).then(|| mean(&self.miou))
    }

    /// Share of objects that are right.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn accuracy(&self) -> Option<f64> {
        let (right, all): (usize, usize) = (self.right.iter().sum(), self.objects.iter().sum());
        (all > 0).then(|| right as f64 / all as f64)
    }
}

/// Smaller graphs also save what does not multiply; more than this is noise of the machine.
const MOST_OVER_MACS: f64 = 1.25;

/// A subject that was drawn.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was drawn.
    pub subject: Subject,
    /// Bytes of all caches for one picture.
    pub cache_bytes: u64,
    /// MACs of a picture with the original.
    pub before: Macs,
    /// MACs of a picture with caches.
    pub after: Macs,
    /// Seconds of every timed batch: original, cached.
    pub seconds: Vec<[f64; 2]>,
    /// Of its pictures.
    pub quality: Quality,
    /// Its pictures.
    pub pictures: Vec<RgbImage>,
}

impl Measured {
    /// Share of the MACs of weight operators that is saved.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn reduction(&self) -> f64 {
        1.0 - self.after.weights as f64 / self.before.weights.max(1) as f64
    }

    /// How many times faster it is than the original, over all timed batches. None where it was
    /// not timed, and where more was measured than MACs allow: that is noise.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn speed_up(&self) -> Option<f64> {
        let sum = |i: usize| self.seconds.iter().map(|s| s[i]).sum::<f64>();
        let most = self.before.all as f64 / self.after.all.max(1) as f64;
        let found = sum(0) / sum(1).max(1e-9);
        (!self.seconds.is_empty() && found <= MOST_OVER_MACS * most).then_some(found)
    }

    /// The smallest and the largest ratio of one batch, where there are several.
    #[must_use]
    pub fn spread(&self) -> Option<[f64; 2]> {
        let ratios = self
            .seconds
            .iter()
            .map(|[own, cached]| own / cached.max(1e-9));
        let ends = ratios.fold([f64::MAX, f64::MIN], |[l, h], r| [l.min(r), h.max(r)]);
        (self.seconds.len() > 1).then_some(ends)
    }
}

/// A pipeline and what to draw with it.
pub struct Evaluation<'e> {
    engine: &'static Engine,
    folder: &'e Folder,
    options: &'e SessionOptions,
    sampler: Config,
    project: &'e Project<'e>,
    settings: EvalOptions,
    set: &'e Set,
    batches: Vec<Batch>,
    original: Option<Loop>,
}

/// Told of every batch that is drawn.
pub type Progress<'p> = &'p mut dyn FnMut();

impl<'e> Evaluation<'e> {
    /// Gets ready to draw `set` with the pipeline in `folder`.
    ///
    /// # Errors
    /// [`EvalError`] if prompts cannot be encoded or scenes do not fit the pictures.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        engine: &'static Engine,
        folder: &'e Folder,
        project: &'e Project<'e>,
        sampler: Config,
        options: &'e SessionOptions,
        set: &'e Set,
        settings: EvalOptions,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Self, EvalError> {
        let batches = batches(engine, folder, options, set, &settings, warn)?;
        Ok(Self {
            batches,
            engine,
            folder,
            options,
            sampler,
            project,
            settings,
            set,
            original: None,
        })
    }

    /// Batches that one point takes.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The models and their plans.
    #[must_use]
    pub fn project(&self) -> &Project<'e> {
        self.project
    }

    /// Draws the set with the original, which stays loaded where points are timed.
    ///
    /// # Errors
    /// [`EvalError`] if the engine refuses.
    pub fn original(&mut self, progress: Progress<'_>) -> Result<Vec<RgbImage>, EvalError> {
        let mut networks = Loop::open(
            self.engine,
            self.folder,
            self.sampler.clone(),
            Version::Original,
            self.options,
        )?;
        let mut latents = Vec::new();
        for batch in &self.batches {
            let done = networks.run(batch, &self.settings.run, &mut |_, _| {})?;
            latents.push(done.latents);
            progress();
        }
        self.original = (self.settings.timed > 0).then_some(networks);
        let pictures = decode(self.engine, self.folder, self.options, &latents)?;
        let (expected, mut sizes) = (self.settings.run.size, pictures.iter());
        match sizes.find(|p| p.dimensions() != expected) {
            Some(other) => Err(EvalError::Decoded {
                found: other.dimensions(),
                expected,
            }),
            None => Ok(pictures),
        }
    }

    /// Plans a subject; of fewer steps, that nothing is cached on them.
    ///
    /// # Errors
    /// [`EvalError`] if its parameters do not fit the models.
    pub fn plan(&self, subject: &Subject) -> Result<Planned, EvalError> {
        Ok(match &subject.way {
            Way::Policy(point) => self.project.plan(point.policy, &point.parameters)?,
            Way::Plan(plan) => self.project.adopt(plan.as_ref().clone())?,
            Way::Skip(_) => {
                let steps = self.settings.run.steps;
                self.project.plan(&Nothing, &Parameters::new(steps))?
            }
            Way::Fewer { steps, .. } => self.project.plan(&Nothing, &Parameters::new(*steps))?,
        })
    }

    /// Draws the set with one subject, planned, and compares the pictures with the original's.
    ///
    /// # Errors
    /// [`EvalError`] if the plan cannot be applied or the engine refuses.
    pub fn point(
        &mut self,
        (subject, planned): (&Subject, &Planned),
        originals: &[RgbImage],
        progress: Progress<'_>,
    ) -> Result<Measured, EvalError> {
        let (mut share, mut ran) = (1.0, Vec::new());
        let (pictures, seconds) = match subject.way {
            Way::Fewer { steps, sampler } => (self.fewer(steps, sampler, progress)?, Vec::new()),
            Way::Skip(rule) => {
                let (pictures, computed) = self.skipping(rule, progress)?;
                share = computed;
                (pictures, Vec::new())
            }
            _ => {
                let drawn = self.pictures(planned, progress)?;
                ran = drawn.ran;
                (drawn.pictures, drawn.seconds)
            }
        };
        let pictures_quality = self.quality(&pictures, originals);
        let total = |of: fn(&Cost) -> Macs| -> Macs { planned.costs.iter().map(of).sum() };
        let (one, steps) = (total(|c| c.original), self.settings.run.steps as u64);
        Ok(Measured {
            subject: subject.clone(),
            cache_bytes: planned.costs.iter().map(|c| c.cache_bytes).sum(),
            before: Macs {
                all: one.all * steps,
                weights: one.weights * steps,
            },
            after: match after(self.project, planned, &ran)? {
                Some(after) => after,
                None => total(Cost::after).part(share),
            },
            seconds,
            quality: pictures_quality,
            pictures,
        })
    }

    /// Draws the set with the original in so many steps.
    ///
    /// # Errors
    /// [`EvalError`] if the sampler does not fit the models or the engine refuses.
    pub fn fewer(
        &self,
        steps: usize,
        sampler: Option<Method>,
        progress: Progress<'_>,
    ) -> Result<Vec<RgbImage>, EvalError> {
        let sampler = match sampler {
            Some(method) => self.folder.sampler(Some(method))?,
            None => self.sampler.clone(),
        };
        let (engine, folder, options) = (self.engine, self.folder, self.options);
        let mut networks = Loop::open(engine, folder, sampler, Version::Original, options)?;
        let run = Drawing {
            steps,
            ..self.settings.run.clone()
        };
        let mut latents = Vec::new();
        for batch in &self.batches {
            latents.push(networks.run(batch, &run, &mut |_, _| {})?.latents);
            progress();
        }
        Ok(decode(engine, folder, options, &latents)?)
    }

    /// Draws the set with the original and a rule that skips evaluations; gives the share that was
    /// computed.
    fn skipping(
        &self,
        rule: Skip,
        progress: Progress<'_>,
    ) -> Result<(Vec<RgbImage>, f64), EvalError> {
        let (engine, folder, options) = (self.engine, self.folder, self.options);
        let (sampler, run) = (self.sampler.clone(), &self.settings.run);
        let mut networks = Loop::open(engine, folder, sampler, Version::Original, options)?;
        let (mut latents, mut computed, mut all) = (Vec::new(), 0, 0);
        for batch in &self.batches {
            let mut skipper = Skipper::new(rule, run.steps);
            let done = networks.run_by(&mut skipper, batch, run, &mut |_, _| {})?;
            latents.push(done.latents);
            computed += skipper.computed() * batch.rows.len();
            all += run.steps * batch.rows.len();
            progress();
        }
        drop(networks);
        #[allow(clippy::cast_precision_loss)]
        let share = computed as f64 / all.max(1) as f64;
        Ok((decode(engine, folder, options, &latents)?, share))
    }

    /// Draws the set as planned.
    ///
    /// # Errors
    /// [`EvalError`] if the plan cannot be applied or the engine refuses.
    pub(super) fn pictures(
        &mut self,
        planned: &Planned,
        progress: Progress<'_>,
    ) -> Result<Drawn, EvalError> {
        let compiled = self.project.compile(planned)?;
        let sampler = self.sampler.clone();
        let mut cached =
            Loop::compiled(self.engine, self.folder, sampler, &compiled, self.options)?;
        let mut latents = Vec::new();
        let mut seconds = Vec::new();
        // Not the first batch, if there are others: sessions warm up on it.
        let first = usize::from(self.batches.len() > 1);
        let last = self.batches.len().min(first + self.settings.timed);
        let run = &self.settings.run;
        let draw = |networks: &mut Loop, batch: &Batch| -> Result<_, PipelineError> {
            let done = networks.run(batch, run, &mut |_, _| {})?;
            let seconds: f64 = done.seconds.iter().sum();
            Ok((done, seconds))
        };
        let mut ran = Vec::new();
        for (index, batch) in self.batches.iter().enumerate() {
            let timed = (first..last).contains(&index);
            let mut original = self.original.as_mut().filter(|_| timed);
            // Turn and turn about.
            let mut own = None;
            if let Some(original) = original.as_mut().filter(|_| index % 2 == 0) {
                own = Some(draw(original, batch)?.1);
            }
            let (found, taken) = draw(&mut cached, batch)?;
            latents.push(found.latents);
            ran.push((batch.rows.len(), found.ran));
            if let Some(original) = original.filter(|_| index % 2 == 1) {
                own = Some(draw(original, batch)?.1);
            }
            seconds.extend(own.map(|own| [own, taken]));
            progress();
        }
        drop(cached);
        Ok(Drawn {
            pictures: decode(self.engine, self.folder, self.options, &latents)?,
            seconds,
            ran,
        })
    }

    /// How good pictures of the set are.
    #[must_use]
    pub fn quality(&self, pictures: &[RgbImage], originals: &[RgbImage]) -> Quality {
        let mut quality = Quality::default();
        let pairs = pictures.iter().zip(originals).zip(&self.set.scenes);
        for ((own, original), scene) in pairs {
            quality.psnr.push(picture::psnr(own, original));
            quality.ssim.push(picture::ssim(own, original));
            if let (Some(truth), Some(appearance)) = (&scene.truth, &self.set.appearance) {
                quality.miou.push(score::mean_iou(own, truth, appearance));
                let (right, all) = score::matches(own, truth, appearance);
                quality.right.push(right);
                quality.objects.push(all);
            }
        }
        quality
    }
}
