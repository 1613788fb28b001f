//! Parameters of the policies.

use std::fmt;
use std::str::FromStr;

use crate::plan::data::{Prompted, Reuse};

/// A named way to make a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Cache nothing.
    None,
    /// Cache only what is the same on every step.
    Lossless,
    /// Cut at one skip connection, refresh at a fixed interval (DeepCache).
    DeepCache,
    /// Cache encoder skips and mid block, run the decoder (Faster Diffusion).
    FasterDiffusion,
    /// Cache cross-attention from a gate step, fuse guidance (T-GATE).
    TGate,
    /// Coarse and fine caches with held values and fused guidance (arXiv 2511.11031).
    HgcPaper,
    /// Coarse and fine caches as they measure best: refreshes dense at the start and the
    /// end, held guidance difference, fused guidance at the very end.
    Hgc,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Lossless,
        Self::DeepCache,
        Self::FasterDiffusion,
        Self::TGate,
        Self::HgcPaper,
        Self::Hgc,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lossless => "lossless",
            Self::DeepCache => "deepcache",
            Self::FasterDiffusion => "faster-diffusion",
            Self::TGate => "tgate",
            Self::HgcPaper => "hgc-paper",
            Self::Hgc => "hgc",
        }
    }

    /// The parameters that it uses, by their names on the command line.
    #[must_use]
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::None | Self::Lossless => &[],
            Self::DeepCache => &[
                "cut",
                "interval",
                "control-interval",
                "control-start",
                "control-end",
            ],
            Self::FasterDiffusion => &[
                "key-steps",
                "control-interval",
                "control-start",
                "control-end",
            ],
            Self::TGate => &[
                "gate-step",
                "control-start",
                "control-end",
                "prompted",
                "whole-batch",
            ],
            Self::HgcPaper => &[
                "cut",
                "gate-step",
                "lambda-inter",
                "lambda-intra",
                "control-interval",
                "control-start",
                "control-end",
                "prompted",
                "whole-batch",
            ],
            Self::Hgc => &[
                "cut",
                "key-steps",
                "gate-step",
                "lambda-inter",
                "lambda-intra",
                "lambda-guidance",
                "reuse",
                "control-interval",
                "control-start",
                "control-end",
                "prompted",
                "whole-batch",
            ],
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|p| p.name()).collect();
                format!("no policy {text:?}; there are {}", names.join(", "))
            })
    }
}

/// What a policy can be told. What is `None` has a default that depends on the policy.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model evaluations in a generation.
    pub steps: usize,
    /// Outermost decoder skip connections that still run on a reuse step.
    pub cut: Option<usize>,
    /// Steps from one refresh to the next (`deepcache`).
    pub interval: usize,
    /// Steps on which the encoder runs (`faster-diffusion`), or on which the deeper blocks
    /// refresh, in place of `lambda_inter` (`hgc`).
    pub key_steps: Option<Vec<usize>>,
    /// Step from which guidance is fused; the number of steps for never.
    pub gate_step: Option<usize>,
    /// Share of steps on which deeper blocks refresh.
    pub lambda_inter: f64,
    /// Share of refreshed steps on which the modules inside a block do.
    pub lambda_intra: f64,
    /// Share of refreshed steps before the gate step on which both halves run (`hgc`).
    pub lambda_guidance: f64,
    /// What the sites of `hgc` give on a step that reuses them.
    pub reuse: Reuse,
    /// The ControlNet refreshes on every n-th refresh of the UNet.
    pub control_interval: usize,
    /// Share of the steps after which control switches on.
    pub control_start: f64,
    /// Share of the steps after which control switches off.
    pub control_end: f64,
    /// Which half of the batch carries the prompt; none where models run without
    /// classifier-free guidance, in one half.
    pub prompted: Option<Prompted>,
    /// Both halves run on every step, so that the batch never changes: ONNX Runtime on CUDA plans
    /// every convolution anew when it does.
    pub whole_batch: bool,
}

/// Whether ControlNets work on a step, given the shares of the generation between which
/// they do, as diffusers' `control_guidance_start` and `control_guidance_end` have it.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn control_is_on(step: usize, steps: usize, (start, end): (f64, f64)) -> bool {
    let n = steps as f64;
    step as f64 / n >= start && (step + 1) as f64 / n <= end + 1e-9
}

impl Options {
    /// Defaults for a number of steps.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self {
            steps,
            cut: None,
            interval: 3,
            key_steps: None,
            gate_step: None,
            lambda_inter: 0.4,
            lambda_intra: 0.5,
            lambda_guidance: 0.9,
            reuse: Reuse::Hold,
            control_interval: 1,
            control_start: 0.0,
            control_end: 1.0,
            prompted: Some(Prompted::Last),
            whole_batch: false,
        }
    }

    /// The gate step, or the middle of the generation.
    #[must_use]
    pub fn gate_or_middle(&self) -> usize {
        self.gate_step.unwrap_or(self.steps / 2).max(1)
    }

    /// The gate step, or where nine tenths of the generation are over: guidance adds little
    /// at low noise (arXiv 2404.07724).
    #[must_use]
    pub fn gate_or_late(&self) -> usize {
        self.gate_step.unwrap_or((9 * self.steps + 5) / 10).max(1)
    }

    /// Steps on which control switches on or off, without step 0.
    #[must_use]
    pub fn switches(&self) -> Vec<usize> {
        let window = (self.control_start, self.control_end);
        let on = |i: usize| control_is_on(i, self.steps, window);
        (1..self.steps).filter(|i| on(*i) != on(i - 1)).collect()
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// A sentence that names the option and what it takes.
    pub fn check(&self) -> Result<(), String> {
        let share = |name: &str, value: f64| {
            if value.is_finite() && (0.0..=1.0).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} is {value}; use a number from 0 to 1"))
            }
        };
        share("--lambda-inter", self.lambda_inter)?;
        share("--lambda-intra", self.lambda_intra)?;
        share("--lambda-guidance", self.lambda_guidance)?;
        share("--control-start", self.control_start)?;
        share("--control-end", self.control_end)?;
        if self.control_start >= self.control_end {
            return Err(format!(
                "--control-start is {} and --control-end {}; control must start before it ends",
                self.control_start, self.control_end
            ));
        }
        let below = |name: &str, step: Option<usize>| match step {
            Some(s) if s == 0 || s > self.steps => Err(format!(
                "{name} is {s}; use 1 to {} (the number of steps)",
                self.steps
            )),
            _ => Ok(()),
        };
        below("--gate-step", self.gate_step)?;
        if self.steps == 0 || self.steps > 10_000 {
            return Err(format!("--steps is {}; use 1 to 10000", self.steps));
        }
        if self.cut == Some(0) {
            return Err("--cut starts at 1: the last decoder block always runs".to_owned());
        }
        if self.interval == 0 || self.control_interval == 0 {
            return Err("--interval and --control-interval start at 1".to_owned());
        }
        match self.key_steps.iter().flatten().find(|s| **s >= self.steps) {
            Some(s) => Err(format!(
                "--key-steps has {s}, but the last step is {}",
                self.steps - 1
            )),
            None => Ok(()),
        }
    }

    /// Key steps: those given with step 0, or the published ones of `faster-diffusion` for
    /// 50 steps brought to this number.
    #[must_use]
    pub fn key_steps(&self) -> Vec<usize> {
        const PUBLISHED: [usize; 9] = [0, 1, 2, 3, 5, 10, 15, 25, 35];
        let scaled = || PUBLISHED.iter().map(|s| s * self.steps / 50).collect();
        let mut steps: Vec<usize> = self.key_steps.clone().unwrap_or_else(scaled);
        steps.push(0);
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}
