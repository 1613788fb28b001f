//! `scheduler_config.json`, with the defaults that diffusers gives each class.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::SamplerError;
use crate::plan::parameter::Solver;

/// A sampling method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// DDIM without added noise (arXiv 2010.02502).
    Ddim,
    /// Euler steps along the noise level (arXiv 2206.00364, algorithm 2 without churn).
    Euler,
    /// Euler steps that add noise again.
    EulerAncestral,
    /// DPM-Solver++ (2M), multistep, second order (arXiv 2211.01095).
    DpmSolver,
    /// `UniPC`, predictor and corrector of up to second order (arXiv 2302.04867).
    UniPc,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ddim,
        Self::Euler,
        Self::EulerAncestral,
        Self::DpmSolver,
        Self::UniPc,
    ];

    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-ancestral",
            Self::DpmSolver => "dpm++2m",
            Self::UniPc => "unipc",
        }
    }

    /// Whether a step looks back at the ones before it.
    #[must_use]
    pub fn is_multistep(self) -> bool {
        matches!(self, Self::DpmSolver | Self::UniPc)
    }

    /// How it uses predictions.
    #[must_use]
    pub fn solver(self) -> Solver {
        match self.is_multistep() {
            true => Solver::Multistep,
            false => Solver::FirstOrder,
        }
    }

    /// Whether a step adds new noise.
    #[must_use]
    pub fn adds_noise(self) -> bool {
        self == Self::EulerAncestral
    }

    /// What draws for a class that is not implemented: DDIM solves the same equation, of
    /// models trained in the same way, with the timesteps of the same settings.
    fn instead_of(class: &str) -> Option<Self> {
        const SAME_TRAINING: [&str; 10] = [
            "DDPMScheduler",
            "DEISMultistepScheduler",
            "DPMSolverSDEScheduler",
            "DPMSolverSinglestepScheduler",
            "HeunDiscreteScheduler",
            "IPNDMScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "KDPM2DiscreteScheduler",
            "LMSDiscreteScheduler",
            "PNDMScheduler",
        ];
        SAME_TRAINING.contains(&class).then_some(Self::Ddim)
    }

    /// The method of a diffusers class.
    fn of_class(class: &str) -> Option<Self> {
        Some(match class {
            "DDIMScheduler" => Self::Ddim,
            "EulerDiscreteScheduler" => Self::Euler,
            "EulerAncestralDiscreteScheduler" => Self::EulerAncestral,
            "DPMSolverMultistepScheduler" => Self::DpmSolver,
            "UniPCMultistepScheduler" => Self::UniPc,
            _ => return None,
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|m| m.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|m| m.name()).collect();
            let meant = crate::nearest::suggestion(text, names.iter().copied());
            format!(
                "unknown sampler {text:?}{meant}; one of {}",
                names.join(", ")
            )
        })
    }
}

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Prediction {
    /// The noise.
    #[serde(rename = "epsilon")]
    Epsilon,
    /// The velocity (arXiv 2202.00512).
    #[serde(rename = "v_prediction")]
    Velocity,
    /// The picture itself.
    #[serde(rename = "sample")]
    Sample,
}

/// How betas rise over the trained steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Evenly.
    Linear,
    /// Evenly in their square roots.
    ScaledLinear,
    /// From a squared cosine (arXiv 2102.09672).
    SquaredcosCapV2,
}

/// How the steps that are run are chosen among those trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// From the first to the last.
    Linspace,
    /// Multiples of a gap, from 0.
    Leading,
    /// Multiples of a gap, to the last.
    Trailing,
}

/// Noise level after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// None.
    Zero,
    /// The lowest one trained.
    SigmaMin,
}

/// The file as it is; `None` stands for the default of the class.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<BetaSchedule>,
    trained_betas: Option<Vec<f64>>,
    prediction_type: Option<Prediction>,
    timestep_spacing: Option<Spacing>,
    steps_offset: Option<usize>,
    set_alpha_to_one: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f64>,
    rescale_betas_zero_snr: Option<bool>,
    use_karras_sigmas: Option<bool>,
    final_sigmas_type: Option<FinalSigma>,
    solver_order: Option<usize>,
    solver_type: Option<String>,
    algorithm_type: Option<String>,
    lower_order_final: Option<bool>,
    euler_at_final: Option<bool>,
    predict_x0: Option<bool>,
    disable_corrector: Option<Vec<usize>>,
    interpolation_type: Option<String>,
    timestep_type: Option<String>,
    thresholding: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    use_lu_lambdas: Option<bool>,
    use_flow_sigmas: Option<bool>,
    lambda_min_clipped: Option<serde_json::Value>,
    variance_type: Option<serde_json::Value>,
    solver_p: Option<serde_json::Value>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
}

/// A sampler's settings, complete.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct Config {
    /// Method.
    pub method: Method,
    /// Steps of training.
    pub trained_steps: usize,
    /// First and last beta.
    pub betas: (f64, f64),
    /// How betas rise.
    pub beta_schedule: BetaSchedule,
    /// Betas given one by one.
    pub trained_betas: Option<Vec<f64>>,
    /// What the model predicts.
    pub prediction: Prediction,
    /// How steps are chosen.
    pub spacing: Spacing,
    /// Added to steps spaced [`Spacing::Leading`].
    pub offset: usize,
    /// DDIM: end without noise rather than at the first trained level.
    pub alpha_to_one: bool,
    /// DDIM: bound of the predicted picture.
    pub clip: Option<f64>,
    /// Rescale betas to end in pure noise (arXiv 2305.08891).
    pub zero_snr: bool,
    /// Noise levels of Karras et al. (arXiv 2206.00364, equation 5).
    pub karras: bool,
    /// Noise level after the last step.
    pub final_sigma: FinalSigma,
    /// Order of the solver.
    pub order: usize,
    /// DPM-Solver++: Heun's form of the second order; `UniPC`: the first form of B(h).
    pub alternative_form: bool,
    /// Lower the order at the end of short runs.
    pub lower_order_final: bool,
    /// DPM-Solver++: first order on the last step.
    pub euler_at_final: bool,
    /// `UniPC`: steps after which nothing is corrected.
    pub uncorrected: Vec<usize>,
    /// The class of the file, where it is not implemented and the method is not its own.
    pub stands_for: Option<String>,
}

impl Config {
    /// Reads a `scheduler_config.json`; `method` takes the place of its class. Where there is
    /// none, DDIM stands for classes of models that were trained alike (PNDM, LMS, Heun, ...).
    ///
    /// # Errors
    /// [`SamplerError`] if it is not such a file, or asks for what is not supported.
    pub fn parse(text: &str, method: Option<Method>) -> Result<Self, SamplerError> {
        // diffusers writes an unset `lambda_min_clipped` as Python does, which is no JSON.
        let text = text.replace("-Infinity", "null");
        let raw: Raw = serde_json::from_str(&text).map_err(SamplerError::Json)?;
        let class = raw.class.clone().unwrap_or_default();
        let own = Method::of_class(&class);
        let instead = Method::instead_of(&class).filter(|_| method.is_none());
        let Some(chosen) = method.or(own).or(instead) else {
            return Err(SamplerError::Class { class });
        };
        raw.refuse_unsupported(chosen, own == Some(chosen))?;
        let mut config = raw.complete(chosen, own == Some(chosen));
        config.stands_for = instead.map(|_| class);
        Ok(config)
    }
}

impl Raw {
    /// Settings that change results and are not implemented must not be ignored.
    fn refuse_unsupported(&self, method: Method, own: bool) -> Result<(), SamplerError> {
        let on = |flag: Option<bool>| flag == Some(true);
        let other = |text: &Option<String>, fine: &[&str]| {
            text.as_deref().is_some_and(|t| !fine.contains(&t))
        };
        let multistep = own && method.is_multistep();
        let is_unipc = method == Method::UniPc;
        let forms: &[&str] = if is_unipc {
            &["bh1", "bh2"]
        } else {
            &["midpoint", "heun"]
        };
        let checks = [
            ("thresholding", on(self.thresholding)),
            ("use_exponential_sigmas", on(self.use_exponential_sigmas)),
            ("use_beta_sigmas", on(self.use_beta_sigmas)),
            ("use_lu_lambdas", on(self.use_lu_lambdas)),
            (
                "sigma_min",
                on(self.use_karras_sigmas) && self.sigma_min.is_some(),
            ),
            (
                "sigma_max",
                on(self.use_karras_sigmas) && self.sigma_max.is_some(),
            ),
            ("use_flow_sigmas", on(self.use_flow_sigmas)),
            (
                "interpolation_type",
                other(&self.interpolation_type, &["linear"]),
            ),
            ("timestep_type", other(&self.timestep_type, &["discrete"])),
            (
                "algorithm_type",
                multistep && other(&self.algorithm_type, &["dpmsolver++"]),
            ),
            ("solver_type", multistep && other(&self.solver_type, forms)),
            ("predict_x0", multistep && self.predict_x0 == Some(false)),
            (
                "solver_order",
                multistep && self.solver_order.is_some_and(|o| o == 0 || o > 2),
            ),
            (
                "lambda_min_clipped",
                multistep
                    && self
                        .lambda_min_clipped
                        .as_ref()
                        .is_some_and(|v| v.is_number()),
            ),
            (
                "variance_type",
                multistep && self.variance_type.as_ref().is_some_and(|v| !v.is_null()),
            ),
            (
                "solver_p",
                multistep && self.solver_p.as_ref().is_some_and(|v| !v.is_null()),
            ),
        ];
        match checks.iter().find(|(_, bad)| *bad) {
            Some((field, _)) => Err(SamplerError::Unsupported { field, method }),
            None => Ok(()),
        }
    }

    /// Fills in the defaults of the class. Fields of another class than `method`'s keep
    /// their meaning where both have them, as with `from_config` of diffusers.
    fn complete(self, method: Method, own: bool) -> Config {
        let form = self.solver_type.as_deref().unwrap_or_default();
        let spacing = match method {
            Method::Ddim => Spacing::Leading,
            _ => Spacing::Linspace,
        };
        // The class alone would clip, but latents go beyond its bound, and the pipelines of
        // diffusers switch it off.
        let clip = own && method == Method::Ddim && self.clip_sample == Some(true);
        Config {
            method,
            trained_steps: self.num_train_timesteps.unwrap_or(1000),
            betas: (
                self.beta_start.unwrap_or(0.0001),
                self.beta_end.unwrap_or(0.02),
            ),
            beta_schedule: self.beta_schedule.unwrap_or(BetaSchedule::Linear),
            trained_betas: self.trained_betas,
            prediction: self.prediction_type.unwrap_or(Prediction::Epsilon),
            spacing: self.timestep_spacing.unwrap_or(spacing),
            offset: self.steps_offset.unwrap_or(0),
            alpha_to_one: self.set_alpha_to_one.unwrap_or(true),
            clip: clip.then(|| self.clip_sample_range.unwrap_or(1.0)),
            zero_snr: self.rescale_betas_zero_snr.unwrap_or(false),
            karras: method != Method::Ddim
                && method != Method::EulerAncestral
                && self.use_karras_sigmas.unwrap_or(false),
            // Euler ancestral has no such setting.
            final_sigma: self
                .final_sigmas_type
                .filter(|_| method != Method::EulerAncestral)
                .unwrap_or(FinalSigma::Zero),
            order: if own {
                self.solver_order.unwrap_or(2)
            } else {
                2
            },
            alternative_form: own && matches!(form, "heun" | "bh1"),
            lower_order_final: self.lower_order_final.unwrap_or(true),
            euler_at_final: self.euler_at_final.unwrap_or(false),
            uncorrected: self.disable_corrector.unwrap_or_default(),
            stands_for: None,
        }
    }
}
