//! Every sampler, step by step, against what diffusers computed (`models/samplers.py`).
#![allow(clippy::unwrap_used, clippy::panic)]

use hgc::unstable::sampler::{Config, Method, Sampler, SamplerError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    config: serde_json::Value,
    initial_sigma: f64,
    timesteps: Vec<f64>,
    latents: Vec<Vec<f32>>,
}

/// The formula that stands for a model.
#[allow(clippy::cast_possible_truncation)]
fn predict(latent: &[f32], timestep: f64) -> Vec<f32> {
    let at = |x: &f32| {
        let x = f64::from(*x);
        (0.5 * x + 0.2 * (3.0 * x + timestep / 100.0).sin()) as f32
    };
    latent.iter().map(at).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn fresh(step: usize, length: usize) -> Vec<f32> {
    let at = |i: usize| (12.9 * (i as f64 + 1.0) + 78.2 * step as f64).sin() as f32;
    (0..length).map(at).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn check(case: &Case) -> Result<(), String> {
    let config = Config::parse(&case.config.to_string(), None).map_err(|e| e.to_string())?;
    let mut sampler = Sampler::new(&config, case.timesteps.len()).map_err(|e| e.to_string())?;
    let scale = case.initial_sigma.abs().max(1.0);
    if (sampler.initial_sigma() - case.initial_sigma).abs() > 1e-3 * scale {
        return Err(format!("initial sigma {}", sampler.initial_sigma()));
    }
    let length = case.latents[0].len();
    let first = |i: usize| ((i as f64 + 1.0).sin() * case.initial_sigma) as f32;
    let mut latent: Vec<f32> = (0..length).map(first).collect();
    for (step, (time, expected)) in case.timesteps.iter().zip(&case.latents).enumerate() {
        let own = sampler.timesteps()[step];
        if (own - time).abs() > 1e-2 {
            return Err(format!("step {step}: timestep {own}, diffusers has {time}"));
        }
        let prediction = predict(&sampler.scaled(step, &latent), *time);
        let mut noise = |length| fresh(step, length);
        latent = sampler.next(step, &latent, &prediction, &mut noise);
        let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        for (a, b) in latent.iter().zip(expected) {
            let near = (a - b).abs() <= 2e-4 * largest;
            if !near {
                return Err(format!(
                    "step {step}: {latent:?}, diffusers has {expected:?}"
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn all_agree_with_diffusers() {
    let text = include_str!("fixtures/samplers.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|c| check(c).err().map(|e| format!("{}\n  {e}", c.config)))
        .collect();
    assert!(
        failed.is_empty(),
        "{}/{} cases:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
    let classes: std::collections::BTreeSet<_> = cases
        .iter()
        .map(|c| c.config["_class_name"].to_string())
        .collect();
    assert_eq!(classes.len(), Method::ALL.len());
}

/// As diffusers writes it.
#[test]
fn an_unset_bound_is_read() {
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}"#;
    assert_eq!(Config::parse(text, None).unwrap().method, Method::DpmSolver);
}

/// The scheduler of the stock SD1.5 checkpoint: DDIM draws for it, with its timesteps.
#[test]
fn ddim_stands_for_classes_of_the_same_training() {
    let text = r#"{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "skip_prk_steps": true, "set_alpha_to_one": false,
        "steps_offset": 1, "clip_sample": true}"#;
    let config = Config::parse(text, None).unwrap();
    assert_eq!(config.method, Method::Ddim);
    assert_eq!(config.stands_for.as_deref(), Some("PNDMScheduler"));
    // Another class means other pictures by it.
    assert_eq!(config.clip, None);
    let sampler = Sampler::new(&config, 20).unwrap();
    assert_eq!(
        (sampler.timesteps()[0], sampler.timesteps()[19]),
        (951.0, 1.0)
    );
    let chosen = Config::parse(text, Some(Method::Euler)).unwrap();
    assert_eq!((chosen.method, chosen.stands_for), (Method::Euler, None));
}

/// Latents go beyond the bound that the class has by itself.
#[test]
fn latents_are_clipped_only_where_ddim_says_so() {
    let clip = |text: &str| Config::parse(text, Some(Method::Ddim)).unwrap().clip;
    assert_eq!(clip(r#"{"_class_name": "DDIMScheduler"}"#), None);
    assert_eq!(clip(r#"{"_class_name": "EulerDiscreteScheduler"}"#), None);
    let asked = clip(r#"{"_class_name": "DDIMScheduler", "clip_sample": true}"#);
    assert_eq!(asked, Some(1.0));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let of = |text: &str| Config::parse(text, None).unwrap_err().to_string();
    let lcm = of(r#"{"_class_name": "LCMScheduler"}"#);
    assert!(
        lcm.contains("LCMScheduler") && lcm.contains("--sampler"),
        "{lcm}"
    );
    let sde = of(
        r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}"#,
    );
    assert!(sde.contains("algorithm_type"), "{sde}");
    let thresholding = of(r#"{"_class_name": "DDIMScheduler", "thresholding": true}"#);
    assert!(thresholding.contains("thresholding"), "{thresholding}");
    assert!(matches!(
        Config::parse("[", None),
        Err(SamplerError::Json(_))
    ));
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let config = |text: &str| Config::parse(text, Some(Method::Ddim)).unwrap();
    let steps = |text: &str, n| Sampler::new(&config(text), n).unwrap_err();
    assert!(matches!(steps("{}", 0), SamplerError::Steps { .. }));
    assert!(matches!(
        steps("{}", 1001),
        SamplerError::Steps { most: 1000, .. }
    ));
    for betas in [
        r#"{"beta_end": 7.0}"#,
        r#"{"beta_start": 0.0}"#,
        r#"{"trained_betas": [0.1]}"#,
    ] {
        let error = Sampler::new(&config(betas), 1).unwrap_err();
        assert!(matches!(error, SamplerError::Betas), "{betas}: {error}");
    }
    let silent = |spacing: &str, prediction: &str| {
        let text = format!(
            r#"{{"rescale_betas_zero_snr": true, "timestep_spacing": "{spacing}",
                "prediction_type": "{prediction}"}}"#
        );
        Sampler::new(&config(&text), 20)
    };
    let error = silent("trailing", "epsilon").unwrap_err();
    assert!(matches!(error, SamplerError::NoSignal { timestep: 999.0 }));
    assert!(silent("trailing", "v_prediction").is_ok());
    assert!(silent("leading", "epsilon").is_ok());
    for count in ["0", "1", "1000000000000"] {
        let text = format!(r#"{{"num_train_timesteps": {count}, "use_karras_sigmas": true}}"#);
        let config = Config::parse(&text, Some(Method::Euler)).unwrap();
        let error = Sampler::new(&config, 1).unwrap_err();
        assert!(error.to_string().contains(count), "{error}");
    }
}
