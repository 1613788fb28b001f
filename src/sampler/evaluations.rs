//! How often a sampler calls the model. Steps, as pipelines count them, are not evaluations.

use serde::Deserialize;

use super::config::Config;
use super::{Sampler, SamplerError};

/// A generation as a pipeline is asked for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// `num_inference_steps`.
    pub steps: usize,
    /// `strength` of img2img: the share of the steps that runs; 1 is all.
    pub strength: f64,
    /// `denoising_end` of SDXL: the share of the noise after which a refiner takes over; 1 is all.
    pub end: f64,
}

/// How a class of sampler spends evaluations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spending {
    /// One a step.
    One,
    /// Two a step but the first: a predictor and a corrector.
    Two,
    /// One a step, and the second twice.
    Pndm,
    /// Three steps of Runge-Kutta with four evaluations each, then one a step.
    PndmWithRungeKutta,
}

#[derive(Deserialize)]
struct Class {
    #[serde(rename = "_class_name")]
    name: Option<String>,
    skip_prk_steps: Option<bool>,
}

/// The class that a `scheduler_config.json` names, and the evaluations that it makes of so many
/// steps.
///
/// As the schedulers of diffusers 0.39 set their timesteps: PNDM N + 1, with Runge-Kutta steps N + 9,
/// Heun, KDPM2 and DPM SDE 2 N - 1, all others N.
///
/// # Errors
/// [`SamplerError`] if it is no such file, or its timesteps cannot be told where `end` needs them.
pub fn evaluations(text: &str, asked: Asked) -> Result<(String, usize), SamplerError> {
    let clean = text.replace("-Infinity", "null");
    let class: Class = serde_json::from_str(&clean).map_err(SamplerError::Json)?;
    let name = class.name.unwrap_or_default();
    let spending = match name.as_str() {
        "HeunDiscreteScheduler"
        | "KDPM2DiscreteScheduler"
        | "KDPM2AncestralDiscreteScheduler"
        | "DPMSolverSDEScheduler" => Spending::Two,
        "PNDMScheduler" if class.skip_prk_steps == Some(true) => Spending::Pndm,
        "PNDMScheduler" => Spending::PndmWithRungeKutta,
        _ => Spending::One,
    };
    let n = asked.steps;
    let total = match spending {
        Spending::One => n,
        Spending::Two => (2 * n).saturating_sub(1),
        Spending::Pndm => n + 1,
        Spending::PndmWithRungeKutta => n + 9,
    };
    let order = if spending == Spending::Two { 2 } else { 1 };
    if asked.end < 1.0 {
        let config = Config::parse(text, None)?;
        let sampler = Sampler::new(&config, n)?;
        #[allow(clippy::cast_precision_loss)]
        let trained = config.trained_steps as f64;
        let cutoff = (trained - asked.end * trained).round();
        let kept = sampler.timesteps().iter().filter(|t| **t >= cutoff).count();
        let kept = (kept * order).saturating_sub(order - 1);
        return Ok((name, kept + total - (n * order).saturating_sub(order - 1)));
    }
    // The number of steps that img2img skips, rounded as it rounds.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let run = ((n as f64 * asked.strength) as usize).min(n);
    Ok((name, total.saturating_sub((n - run) * order)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(class: &str, asked: Asked) -> usize {
        evaluations(&format!(r#"{{"_class_name": "{class}"}}"#), asked)
            .unwrap()
            .1
    }

    const TWENTY: Asked = Asked {
        steps: 20,
        strength: 1.0,
        end: 1.0,
    };

    #[test]
    fn samplers_call_as_often_as_diffusers_does() {
        assert_eq!(of("DDIMScheduler", TWENTY), 20);
        assert_eq!(of("PNDMScheduler", TWENTY), 29);
        assert_eq!(of("HeunDiscreteScheduler", TWENTY), 39);
        let text = r#"{"_class_name": "PNDMScheduler", "skip_prk_steps": true}"#;
        assert_eq!(evaluations(text, TWENTY).unwrap().1, 21);
    }

    #[test]
    fn a_part_of_a_generation_is_a_part_of_the_evaluations() {
        let half = Asked {
            strength: 0.5,
            ..TWENTY
        };
        assert_eq!(of("DDIMScheduler", half), 10);
        assert_eq!(of("HeunDiscreteScheduler", half), 19);
        let most = Asked { end: 0.8, ..TWENTY };
        assert_eq!(of("EulerDiscreteScheduler", most), 16);
    }
}
