//! Noise levels: betas, cumulated alphas, chosen timesteps and their sigmas.

use super::SamplerError;
use super::config::{BetaSchedule, Config, FinalSigma, Method, Spacing};

/// Exponent of the levels of Karras et al.
const RHO: f64 = 7.0;
/// Trained steps of a file that is taken seriously; models have 1000.
const MOST_TRAINED: usize = 100_000;

/// `alphas_cumprod`: the share of the picture left after each trained step.
///
/// # Errors
/// [`SamplerError::Betas`] if the configuration gives no usable betas.
pub(super) fn alphas(config: &Config) -> Result<Vec<f64>, SamplerError> {
    let count = config.trained_steps;
    if !(2..=MOST_TRAINED).contains(&count) {
        return Err(SamplerError::Trained {
            count,
            most: MOST_TRAINED,
        });
    }
    let (start, end) = config.betas;
    let mut betas: Vec<f64> = match (&config.trained_betas, config.beta_schedule) {
        (Some(betas), _) => betas.clone(),
        (None, BetaSchedule::Linear) => linspace(start, end, count),
        (None, BetaSchedule::ScaledLinear) => linspace(start.sqrt(), end.sqrt(), count)
            .iter()
            .map(|b| b * b)
            .collect(),
        (None, BetaSchedule::SquaredcosCapV2) => squared_cosine(count),
    };
    let usable = betas.iter().all(|b| *b > 0.0 && *b < 1.0);
    if betas.len() != count || !usable {
        return Err(SamplerError::Betas);
    }
    if config.zero_snr {
        betas = to_zero_snr(&betas);
    }
    let mut left = 1.0;
    let mut alphas: Vec<f64> = betas
        .iter()
        .map(|b| {
            left *= 1.0 - b;
            left
        })
        .collect();
    if config.zero_snr && config.method != Method::Ddim {
        // Sigmas must be finite: 2^-24 is what diffusers uses.
        if let Some(last) = alphas.last_mut() {
            *last = f64::powi(2.0, -24);
        }
    }
    Ok(alphas)
}

#[allow(clippy::cast_precision_loss)]
fn squared_cosine(count: usize) -> Vec<f64> {
    let bar = |t: f64| {
        ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
            .cos()
            .powi(2)
    };
    let at = |i: usize| bar(i as f64 / count as f64);
    (0..count)
        .map(|i| (1.0 - at(i + 1) / at(i)).min(0.999))
        .collect()
}

/// Rescales betas so that nothing of the picture is left at the end (arXiv 2305.08891,
/// algorithm 1).
fn to_zero_snr(betas: &[f64]) -> Vec<f64> {
    let mut left = 1.0;
    let roots: Vec<f64> = betas
        .iter()
        .map(|b| {
            left *= 1.0 - b;
            f64::sqrt(left)
        })
        .collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let bars: Vec<f64> = roots
        .iter()
        .map(|r| ((r - last) * first / (first - last)).powi(2))
        .collect();
    let before = std::iter::once(1.0).chain(bars.iter().copied());
    bars.iter().zip(before).map(|(a, b)| 1.0 - a / b).collect()
}

/// `numpy.linspace`.
#[allow(clippy::cast_precision_loss)]
pub(super) fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    let last = count.saturating_sub(1).max(1) as f64;
    (0..count)
        .map(|i| start + (end - start) * i as f64 / last)
        .collect()
}

/// The timesteps of a run, the noisiest first.
#[allow(clippy::cast_precision_loss)]
pub(super) fn timesteps(config: &Config, steps: usize) -> Vec<f64> {
    let trained = config.trained_steps;
    let last = trained as f64 - 1.0;
    // Multistep solvers of diffusers space one more step, and drop the cleanest.
    let extra = usize::from(config.method.is_multistep());
    let rounds = !matches!(config.method, Method::Euler | Method::EulerAncestral);
    let mut chosen: Vec<f64> = match config.spacing {
        Spacing::Linspace => linspace(0.0, last, steps + extra)
            .iter()
            .rev()
            .take(steps)
            .map(|t| if rounds { t.round_ties_even() } else { *t })
            .collect(),
        Spacing::Leading => {
            let gap = trained / (steps + extra);
            let all = (0..steps + extra).rev().take(steps);
            all.map(|i| (i * gap + config.offset) as f64).collect()
        }
        Spacing::Trailing => {
            let gap = trained as f64 / steps as f64;
            let at = |i: usize| (trained as f64 - i as f64 * gap).round_ties_even() - 1.0;
            (0..steps).map(at).collect()
        }
    };
    chosen.iter_mut().for_each(|t| *t = t.clamp(0.0, last));
    chosen
}

/// Sigmas of the chosen timesteps and after the last one. With Karras' levels the
/// timesteps are changed to those of their levels.
pub(super) fn sigmas(config: &Config, alphas: &[f64], timesteps: &mut [f64]) -> Vec<f64> {
    let all: Vec<f64> = alphas.iter().map(|a| ((1.0 - a) / a).sqrt()).collect();
    let mut chosen: Vec<f64> = timesteps.iter().map(|t| interpolate(&all, *t)).collect();
    if config.karras {
        // The multistep solvers span all trained levels, Euler those it chose.
        let (highest, lowest) = if config.method == Method::Euler {
            (chosen.first(), chosen.last())
        } else {
            (all.last(), all.first())
        };
        let (highest, lowest) = (highest.copied(), lowest.copied());
        let root = |s: Option<f64>| s.unwrap_or(1.0).powf(1.0 / RHO);
        chosen = linspace(root(highest), root(lowest), timesteps.len())
            .iter()
            .map(|r| r.powf(RHO))
            .collect();
        let logs: Vec<f64> = all.iter().map(|s| s.ln()).collect();
        for (t, sigma) in timesteps.iter_mut().zip(&chosen) {
            *t = timestep_of(&logs, sigma.ln());
            if config.method != Method::Euler {
                *t = t.round_ties_even();
            }
        }
    }
    chosen.push(match config.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => all.first().copied().unwrap_or(0.0),
    });
    chosen
}

/// `table` at a fractional index, linear in between.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn interpolate(table: &[f64], at: f64) -> f64 {
    let low = (at.floor() as usize).min(table.len() - 1);
    let high = (low + 1).min(table.len() - 1);
    let share = at - low as f64;
    table[low] * (1.0 - share) + table[high] * share
}

/// The fractional timestep of a noise level.
#[allow(clippy::cast_precision_loss)]
fn timestep_of(logs: &[f64], log: f64) -> f64 {
    let below = logs.partition_point(|l| *l <= log).saturating_sub(1);
    let low = below.min(logs.len().saturating_sub(2));
    let share = (logs[low] - log) / (logs[low] - logs[low + 1]);
    low as f64 + share.clamp(0.0, 1.0)
}
