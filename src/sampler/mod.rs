//! Samplers: from a noise prediction to the next latent, as diffusers computes it.
//!
//! Coefficients are computed in f64, latents are f32. Every method is compared step by
//! step with numbers that diffusers gave (`tests/samplers.rs`).

mod config;
mod ddim;
mod dpm;
mod euler;
pub mod evaluations;
mod noise;
pub mod solver;
mod unipc;

pub use config::{BetaSchedule, Config, FinalSigma, Method, Prediction, Spacing};

/// Why there is no sampler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// Not JSON, or a field of the wrong type.
    #[error("not a scheduler configuration: {0}")]
    Json(serde_json::Error),
    /// A class that is not implemented.
    #[error(
        "scheduler class {class:?} is not supported; where the model was trained to predict noise \
         as Stable Diffusion's, --sampler ddim, euler, euler-ancestral, dpm++2m or unipc can take \
         its place"
    )]
    Class {
        /// As in the file.
        class: String,
    },
    /// A setting that is not implemented.
    #[error("the scheduler sets {field:?} to a value that {method} does not support here")]
    Unsupported {
        /// Field.
        field: &'static str,
        /// Method.
        method: Method,
    },
    /// A number of trained steps that makes no sense.
    #[error("the scheduler's num_train_timesteps is {count}; it must be 2 to {most}")]
    Trained {
        /// As in the file.
        count: usize,
        /// Most allowed.
        most: usize,
    },
    /// Betas that make no sense.
    #[error("the scheduler's betas are not between 0 and 1, or not one for each trained step")]
    Betas,
    /// A noise prediction where nothing but noise is left.
    #[error(
        "at timestep {timestep} the scheduler leaves no signal (rescale_betas_zero_snr), where a \
         noise prediction says nothing; the model was trained with another prediction_type \
         (v_prediction), or wants timestep_spacing \"leading\""
    )]
    NoSignal {
        /// Of the first step.
        timestep: f64,
    },
    /// Too few or too many steps.
    #[error("{asked} steps; the scheduler allows 1 to {most}")]
    Steps {
        /// As asked for.
        asked: usize,
        /// Most allowed.
        most: usize,
    },
}

/// What a step of any method knows of the levels.
#[derive(Clone, Debug)]
struct Levels {
    /// By step, and after the last one.
    sigmas: Vec<f64>,
    prediction: Prediction,
}

impl Levels {
    /// Share of picture and of noise at a level, their squares adding up to one.
    fn shares(&self, index: usize) -> (f64, f64) {
        let sigma = self.sigmas[index];
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        (alpha, sigma * alpha)
    }

    /// Half the logarithm of the signal-to-noise ratio; infinite without noise.
    fn lambda(&self, index: usize) -> f64 {
        let (alpha, sigma) = self.shares(index);
        alpha.ln() - sigma.ln()
    }

    /// The picture that a prediction means, from a latent of unit variance.
    fn picture(&self, index: usize, latent: &[f32], prediction: &[f32]) -> Vec<f32> {
        let (alpha, sigma) = self.shares(index);
        match self.prediction {
            Prediction::Epsilon => sum(&[(1.0 / alpha, latent), (-sigma / alpha, prediction)]),
            Prediction::Velocity => sum(&[(alpha, latent), (-sigma, prediction)]),
            Prediction::Sample => prediction.to_vec(),
        }
    }
}

/// The weighted sum of vectors of one length.
#[allow(clippy::cast_possible_truncation)]
fn sum(terms: &[(f64, &[f32])]) -> Vec<f32> {
    let length = terms.first().map_or(0, |(_, v)| v.len());
    let at = |i: usize| -> f64 { terms.iter().map(|(w, v)| w * f64::from(v[i])).sum() };
    (0..length).map(|i| at(i) as f32).collect()
}

/// Gives fresh normal noise of a length.
pub type Noise<'n> = &'n mut dyn FnMut(usize) -> Vec<f32>;

/// One method, part-way through a generation.
trait Solver: std::fmt::Debug {
    /// The latent as the model wants it.
    fn scaled(&self, _step: usize, latent: &[f32]) -> Vec<f32> {
        latent.to_vec()
    }

    /// The next latent.
    fn next(
        &mut self,
        step: usize,
        latent: &[f32],
        prediction: &[f32],
        noise: Noise<'_>,
    ) -> Vec<f32>;
}

/// The steps of one generation.
#[derive(Debug)]
pub struct Sampler {
    timesteps: Vec<f64>,
    initial_sigma: f64,
    solver: Box<dyn Solver>,
}

impl Sampler {
    /// Begins a generation of `steps` steps.
    ///
    /// # Errors
    /// [`SamplerError`] for unusable betas or numbers of steps.
    pub fn new(config: &Config, steps: usize) -> Result<Self, SamplerError> {
        let alphas = noise::alphas(config)?;
        let extra = usize::from(config.method.is_multistep());
        let most = config.trained_steps.saturating_sub(extra);
        if steps == 0 || steps > most {
            return Err(SamplerError::Steps { asked: steps, most });
        }
        let mut timesteps = noise::timesteps(config, steps);
        if config.method == Method::Ddim {
            let solver = ddim::Ddim::new(config, alphas, &timesteps);
            if let Some(step) = solver.silent() {
                let timestep = timesteps[step];
                return Err(SamplerError::NoSignal { timestep });
            }
            return Ok(Self {
                timesteps,
                initial_sigma: 1.0,
                solver: Box::new(solver),
            });
        }
        let sigmas = noise::sigmas(config, &alphas, &mut timesteps);
        let highest = sigmas.first().copied().unwrap_or(1.0);
        let levels = Levels {
            sigmas,
            prediction: config.prediction,
        };
        let (initial_sigma, solver): (f64, Box<dyn Solver>) = match config.method {
            Method::Euler | Method::EulerAncestral => {
                // Spaced from 0 the first level is below the highest trained one.
                let initial = match config.spacing {
                    Spacing::Leading => (highest * highest + 1.0).sqrt(),
                    Spacing::Linspace | Spacing::Trailing => highest,
                };
                let ancestral = config.method.adds_noise();
                (initial, Box::new(euler::Euler::new(levels, ancestral)))
            }
            Method::UniPc => (1.0, Box::new(unipc::UniPc::new(levels, config, steps))),
            Method::DpmSolver | Method::Ddim => {
                (1.0, Box::new(dpm::DpmSolver::new(levels, config, steps)))
            }
        };
        Ok(Self {
            timesteps,
            initial_sigma,
            solver,
        })
    }

    /// Timesteps, the noisiest first; Euler's may lie between those trained.
    #[must_use]
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// Standard deviation of the first latent.
    #[must_use]
    pub fn initial_sigma(&self) -> f64 {
        self.initial_sigma
    }

    /// The latent as the model wants it on a step.
    #[must_use]
    pub fn scaled(&self, step: usize, latent: &[f32]) -> Vec<f32> {
        self.solver.scaled(step, latent)
    }

    /// The latent after a step, from the one before it and the model's prediction. Call
    /// it once for each step, in order.
    pub fn next(
        &mut self,
        step: usize,
        latent: &[f32],
        prediction: &[f32],
        noise: Noise<'_>,
    ) -> Vec<f32> {
        self.solver.next(step, latent, prediction, noise)
    }
}
