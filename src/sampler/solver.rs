//! What policies are told of a pipeline's sampler: whether it looks at earlier predictions, and how long latents are
//! noise alone.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Config, noise};
use crate::limited;
use crate::plan::parameter::{NOISE, Parameters, SOLVER, Solver, Value};
use crate::plan::policy::shares::NOISY;

/// The parameters with what the scheduler of a pipeline folder says.
#[must_use]
pub fn told_by(pipeline: &Path, base: Parameters) -> Parameters {
    let text = limited::read_text(&file_in(pipeline)).unwrap_or_default();
    let base = base.with(&SOLVER, Value::Solver(solver_in(&text)));
    // Classes that are not known may have no betas (flow matching).
    match Config::parse(&text, None) {
        Ok(config) => with_noise(base, &config),
        Err(_) => base,
    }
}

/// The parameters with what a sampler says.
#[must_use]
pub fn told_of(sampler: &Config, base: Parameters) -> Parameters {
    let base = base.with(&SOLVER, Value::Solver(sampler.method.solver()));
    with_noise(base, sampler)
}

/// Variance of the picture that Stable Diffusion's last training step leaves.
const LEFT: f64 = 0.0046;

#[allow(clippy::cast_precision_loss)]
fn with_noise(base: Parameters, sampler: &Config) -> Parameters {
    let alphas = noise::alphas(sampler).unwrap_or_default();
    let noise = alphas.iter().filter(|left| **left < LEFT).count();
    let noise = noise as f64 / alphas.len().max(1) as f64;
    // Two digits read better, and less than moves refreshes is not told.
    match (100.0 * noise).round() / 100.0 {
        noise if noise > NOISY.0 => base.with(&NOISE, Value::Share(noise)),
        _ => base,
    }
}

fn file_in(pipeline: &Path) -> PathBuf {
    pipeline.join("scheduler").join("scheduler_config.json")
}

/// The solver that a `scheduler_config.json` names; first order where it cannot be read.
fn solver_in(text: &str) -> Solver {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "_class_name")]
        name: String,
    }
    let named = serde_json::from_str::<Named>(&text.replace("-Infinity", "null"));
    named.map_or(Solver::default(), |n| Solver::of(&n.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Method;

    fn noise_of(betas: &str) -> f64 {
        let text = format!("{{\"_class_name\": \"DDIMScheduler\", {betas}}}");
        let config = Config::parse(&text, None).unwrap();
        told_of(&config, Parameters::new(20)).noise()
    }

    #[test]
    fn what_has_no_betas_tells_no_noise() {
        let folder = tempfile::tempdir().unwrap();
        let told = |class: &str| {
            let file = file_in(folder.path());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{{\"_class_name\": \"{class}\"}}")).unwrap();
            told_by(folder.path(), Parameters::new(20)).noise()
        };
        assert!(
            told("DDIMScheduler") > 0.2,
            "the betas of diffusers' default"
        );
        assert_eq!(told("FlowMatchEulerDiscreteScheduler"), 0.0);
    }

    #[test]
    fn noise_is_told_by_betas() {
        let stable =
            r#""beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012"#;
        assert_eq!(noise_of(stable), 0.0);
        assert_eq!(noise_of(r#""beta_schedule": "squaredcos_cap_v2""#), 0.0);
        // DDPM's own betas (arXiv 2006.11239), and twice as large ones.
        let linear = r#""beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02"#;
        assert!(
            (noise_of(linear) - 0.27).abs() < 0.015,
            "{}",
            noise_of(linear)
        );
        let more = r#""beta_schedule": "linear", "beta_start": 0.0002, "beta_end": 0.04"#;
        assert!((noise_of(more) - 0.48).abs() < 0.015, "{}", noise_of(more));
    }

    #[test]
    fn samplers_agree_with_their_names() {
        for method in Method::ALL {
            assert_eq!(
                method.solver(),
                Solver::of(method.name()),
                "{}",
                method.name()
            );
        }
        assert_eq!(
            told_by(Path::new("no folder"), Parameters::new(20)).solver(),
            Solver::FirstOrder
        );
    }
}
