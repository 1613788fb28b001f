//! The denoising loop: sampler, guidance, ControlNets, UNet.

use std::path::PathBuf;
use std::time::Instant;

use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::feeds::Step;
use super::networks::{AsTheyAre, Evaluator, Networks};
use super::{Drawing, Folder, Network, PipelineError, Version, check_finite, picture};
use crate::analysis::inputs::InputKind;
use crate::compile;
use crate::engine::{Engine, SessionOptions, Tensor};
use crate::plan::{Plan, Prompted, Schedule};
use crate::sampler::{Config, Sampler};

/// One picture to draw.
#[derive(Clone, Debug)]
pub struct Row {
    /// States of the prompt.
    pub prompt: Vec<f32>,
    /// States of the negative prompt.
    pub negative: Vec<f32>,
    /// Summaries of both; empty where the UNet takes none.
    pub pooled: [Vec<f32>; 2],
    /// Control images, one a ControlNet, in the size of the picture.
    pub images: Vec<RgbImage>,
    /// Seed of its noise.
    pub seed: u64,
}

/// Pictures that are drawn at once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What to draw.
    pub rows: Vec<Row>,
    /// Tokens of a prompt and values of a token.
    pub text_shape: [usize; 2],
}

/// The result of a generation.
#[derive(Clone, Debug)]
pub struct Denoised {
    /// `[B, C, h, w]`.
    pub latents: Tensor,
    /// Seconds of every step.
    pub seconds: Vec<f64>,
    /// Kinds that ran; none of an original.
    pub ran: Vec<String>,
}

/// The denoising loop of a pipeline, ready to run.
#[derive(Debug)]
pub struct Loop {
    networks: Networks,
    sampler: Config,
    down_sampling: u32,
    plan: Option<Plan>,
    /// Followed in place of the one that the networks have for so many steps.
    schedule: Option<Schedule>,
}

impl Loop {
    /// Loads the networks of a pipeline.
    ///
    /// # Errors
    /// [`PipelineError`] naming the file that fails.
    pub fn open(
        engine: &'static Engine,
        folder: &Folder,
        sampler: Config,
        version: Version,
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        let open = |file: &PathBuf| -> Result<_, PipelineError> {
            let network = Network::open(engine, file, version, options)?;
            Ok((network, file.clone()))
        };
        let plan = folder.plan.clone().filter(|_| version == Version::AsIs);
        let controlnets = folder.controlnets.iter().map(open);
        let networks = Networks {
            unet: open(&folder.unet)?,
            controlnets: controlnets.collect::<Result<_, _>>()?,
        };
        Ok(Self {
            networks: networks.checked()?,
            sampler,
            down_sampling: folder.pixels(),
            plan,
            schedule: None,
        })
    }

    /// Loads the networks as they come out of a compilation, without writing them.
    ///
    /// # Errors
    /// [`PipelineError`] naming the file that fails.
    pub fn compiled(
        engine: &'static Engine,
        folder: &Folder,
        sampler: Config,
        compiled: &compile::Compiled,
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        let mut networks = Vec::new();
        for model in &compiled.models {
            let (path, original) = (&model.path, &model.original);
            let network = Network::compiled(engine, path, original, &model.graph, options)?;
            networks.push((network, path.clone()));
        }
        let mut networks = networks.into_iter();
        let missing = || PipelineError::Missing {
            folder: folder.path.clone(),
            part: "unet/model.onnx".to_owned(),
        };
        let networks = Networks {
            unet: networks.next().ok_or_else(missing)?,
            controlnets: networks.collect(),
        };
        Ok(Self {
            networks: networks.checked()?,
            sampler,
            down_sampling: folder.pixels(),
            plan: Some(compiled.plan.clone()),
            schedule: None,
        })
    }

    /// Control images that a generation needs.
    #[must_use]
    pub fn control_images(&self) -> usize {
        self.networks.control_images()
    }

    /// The plan that the networks follow.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// From now on follows this schedule, for as many steps as it has evaluations; with none, what
    /// the networks have for the steps that are asked for.
    pub fn set_schedule(&mut self, schedule: Option<Schedule>) {
        self.schedule = schedule;
    }

    /// From now on draws with this sampler.
    pub fn set_sampler(&mut self, sampler: Config) {
        self.sampler = sampler;
    }

    /// Whether guidance takes two halves: a model distilled with guidance takes its scale.
    fn has_halves(&self, settings: &Drawing) -> bool {
        let distilled = self
            .networks
            .unet
            .0
            .of_kind(InputKind::GuidanceEmbedding)
            .next();
        settings.rows() > 1 && distilled.is_none()
    }

    fn check(&self, batch: &Batch, settings: &Drawing) -> Result<(), PipelineError> {
        let expected = self.networks.control_images();
        let wrong = batch.rows.iter().find(|r| r.images.len() != expected);
        if let Some(row) = wrong {
            return Err(PipelineError::ControlImages {
                controlnets: expected,
                images: row.images.len(),
            });
        }
        if let Some(plan) = &self.plan {
            settings.check_plan(plan, self.has_halves(settings))?;
        }
        let merged = self
            .networks
            .unet
            .0
            .of_kind(InputKind::ControlImage)
            .next()
            .is_some();
        let scalable = self
            .networks
            .unet
            .0
            .of_kind(InputKind::ControlScale)
            .next()
            .is_some();
        if merged && !scalable && (0..settings.steps).any(|s| settings.scale_at(s) != 1.0) {
            let what = "this merged graph has no input for the strength of control: leave out \
                        --control-scale, --control-start and --control-end";
            return Err(PipelineError::Refused {
                what: what.to_owned(),
            });
        }
        settings.check_size(self.down_sampling)
    }

    /// Runs a generation; `progress` is told of every step and its seconds.
    ///
    /// # Errors
    /// [`PipelineError`] if the batch does not fit or the engine refuses.
    pub fn run(
        &mut self,
        batch: &Batch,
        settings: &Drawing,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<Denoised, PipelineError> {
        self.run_by(&mut AsTheyAre, batch, settings, progress)
    }

    /// Runs a generation whose evaluations are another's to decide.
    ///
    /// # Errors
    /// [`PipelineError`] if the batch does not fit or the engine refuses.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    pub fn run_by(
        &mut self,
        evaluator: &mut dyn Evaluator,
        batch: &Batch,
        settings: &Drawing,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<Denoised, PipelineError> {
        self.check(batch, settings)?;
        let sampler = Sampler::new(&self.sampler, settings.steps);
        let mut sampler = sampler.map_err(|source| PipelineError::Scheduler {
            file: PathBuf::from("scheduler_config.json"),
            source,
        })?;
        let (width, height) = settings.size;
        let (w, h) = (
            (width / self.down_sampling) as usize,
            (height / self.down_sampling) as usize,
        );
        let channels = self.networks.latent_channels();
        let row = channels * h * w;
        let seeds = batch.rows.iter().map(|r| r.seed);
        let mut random: Vec<ChaCha8Rng> = seeds.map(ChaCha8Rng::seed_from_u64).collect();
        let sigma = sampler.initial_sigma() as f32;
        let mut latent: Vec<f32> = normal(&mut random, row).iter().map(|v| v * sigma).collect();
        let halves = self.has_halves(settings);
        let prompted_first =
            self.plan.as_ref().map(|p| p.guidance.prompted) == Some(Prompted::First);
        // The prompted rows and the others, in the order of the plan.
        let order = |prompted: &dyn Fn(&Row) -> Vec<f32>, other: &dyn Fn(&Row) -> Vec<f32>| {
            let all = |of: &dyn Fn(&Row) -> Vec<f32>| -> Vec<f32> {
                batch.rows.iter().flat_map(of).collect()
            };
            match (halves, prompted_first) {
                (false, _) => all(prompted),
                (true, true) => [all(prompted), all(other)].concat(),
                (true, false) => [all(other), all(prompted)].concat(),
            }
        };
        let text = order(&|r| r.prompt.clone(), &|r| r.negative.clone());
        let pooled = order(&|r| r.pooled[0].clone(), &|r| r.pooled[1].clone());
        let image = |i: usize| {
            let planes = |r: &Row| picture::to_planes(&r.images[i]);
            order(&planes, &planes)
        };
        let images: Vec<Vec<f32>> = (0..self.networks.control_images()).map(image).collect();
        let rows = batch.rows.len() * if halves { 2 } else { 1 };
        let (fw, fh) = (width as f32, height as f32);
        self.networks.begin()?;
        match &self.schedule {
            Some(schedule) => self.networks.follow(schedule)?,
            None => {
                let sampler = self.sampler.method.name();
                self.networks.follow_for(settings.steps, sampler)?;
            }
        }
        let mut seconds = Vec::new();
        for index in 0..settings.steps {
            let start = Instant::now();
            let scaled = sampler
                .scaled(index, &latent)
                .repeat(if halves { 2 } else { 1 });
            let scale = settings.scale_at(index);
            // The plan's own schedule refreshes where its control switches.
            let own = self.plan.as_ref().is_none_or(|p| p.steps == settings.steps);
            if !own && index > 0 && scale != settings.scale_at(index - 1) {
                self.networks.refresh_next();
            }
            let scales = vec![scale; images.len()];
            let step = Step {
                latent: &scaled,
                shape: [rows, channels, h, w],
                timestep: sampler.timesteps()[index],
                text: &text,
                text_shape: batch.text_shape,
                pooled: &pooled,
                time_ids: [fh, fw, 0.0, 0.0, fh, fw],
                guidance: settings.guidance,
                images: &images,
                image_size: [height as usize, width as usize],
                scales: &scales,
                residuals: &[],
            };
            let noise = evaluator.predict(index, &step, &mut self.networks)?;
            let guided = if halves && noise.len() == 2 * latent.len() {
                let (a, b) = noise.split_at(latent.len());
                let (prompted, other) = if prompted_first { (a, b) } else { (b, a) };
                let g = settings.guidance as f32;
                let guide = |(p, o): (&f32, &f32)| o + g * (p - o);
                prompted.iter().zip(other).map(guide).collect()
            } else {
                noise
            };
            if guided.len() != latent.len() {
                return Err(PipelineError::NotThis {
                    file: self.networks.unet.1.clone(),
                    what: "noise of the latent's shape as first",
                    role: "UNet",
                });
            }
            let place = || format!(" on step {index}");
            check_finite(&guided, &self.networks.unet.1, place)?;
            let mut fresh = |_: usize| normal(&mut random, row);
            latent = sampler.next(index, &latent, &guided, &mut fresh);
            seconds.push(start.elapsed().as_secs_f64());
            progress(index, seconds[index]);
        }
        Ok(Denoised {
            latents: Tensor::from_f32(&[batch.rows.len(), channels, h, w], &latent)?,
            seconds,
            ran: self.networks.unet.0.ran(),
        })
    }
}

/// Normal noise of `row` values for each generator.
fn normal(random: &mut [ChaCha8Rng], row: usize) -> Vec<f32> {
    let draw = |rng: &mut ChaCha8Rng| -> Vec<f32> {
        let one = |_| StandardNormal.sample(rng);
        (0..row).map(one).collect()
    };
    random.iter_mut().flat_map(draw).collect()
}
