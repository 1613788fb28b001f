//! Options that say which models to plan, and how.

use std::path::PathBuf;

use anyhow::Context;
use hgc::compile::{Planned, Session};
use hgc::plan::policy::{Options, Policy};
use hgc::plan::{Plan, Prompted, Reuse};

/// The models to work on.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// UNet (an ONNX file) or pipeline folder
    #[arg(value_name = "UNET")]
    pub model: PathBuf,
    /// ControlNet that feeds the UNet; several are planned together
    #[arg(long, value_name = "CN")]
    pub controlnet: Vec<PathBuf>,
}

/// Policy and its parameters, or a plan that was made before.
#[derive(clap::Args)]
pub struct PolicyArgs {
    /// none, lossless, deepcache, faster-diffusion, tgate, hgc-paper or hgc
    #[arg(long, default_value = "hgc", conflicts_with = "plan")]
    policy: Policy,
    /// Model evaluations in a generation
    #[arg(long, required_unless_present = "plan")]
    steps: Option<usize>,
    /// Plan to use instead of a policy (see `hgc plan -o`)
    #[arg(long, value_name = "FILE", conflicts_with = "steps")]
    plan: Option<PathBuf>,
    /// Outermost decoder skip connections that still run on a reuse step
    #[arg(long)]
    cut: Option<usize>,
    /// deepcache: steps from one refresh to the next
    #[arg(long, default_value_t = 3)]
    interval: usize,
    /// faster-diffusion: steps on which the encoder runs
    #[arg(long, value_delimiter = ',')]
    key_steps: Option<Vec<usize>>,
    /// Step from which guidance is fused; the number of steps for never [default: nine tenths
    /// of the steps with hgc, half with tgate and hgc-paper]
    #[arg(long)]
    gate_step: Option<usize>,
    /// Share of steps on which deeper blocks refresh
    #[arg(long, default_value_t = Options::new(1).lambda_inter)]
    lambda_inter: f64,
    /// Share of refreshed steps on which the modules inside a block do
    #[arg(long, default_value_t = Options::new(1).lambda_intra)]
    lambda_intra: f64,
    /// hgc: share of refreshed steps before the gate step on which both halves run
    #[arg(long, default_value_t = Options::new(1).lambda_guidance)]
    lambda_guidance: f64,
    /// hgc: what is read on a reuse step, hold (the last value) or linear (a forecast)
    #[arg(long, default_value_t)]
    reuse: Reuse,
    /// The ControlNet refreshes on every n-th refresh of the UNet
    #[arg(long, default_value_t = 1)]
    control_interval: usize,
    /// Share of the generation after which control switches on
    #[arg(long, default_value_t = 0.0)]
    control_start: f64,
    /// Share of the generation after which control switches off
    #[arg(long, default_value_t = 1.0)]
    control_end: f64,
    /// Which half of a guided batch carries the prompt: last or first; none where the model
    /// runs without classifier-free guidance
    #[arg(long, default_value = "last", value_parser = parse_half)]
    prompted: Half,
}

/// The half of a batch with the prompt, if there are two. An alias: clap would take an
/// `Option` for an argument that may be left out.
type Half = Option<Prompted>;

fn parse_half(text: &str) -> Result<Half, String> {
    match text {
        "last" => Ok(Some(Prompted::Last)),
        "first" => Ok(Some(Prompted::First)),
        "none" => Ok(None),
        _ => Err(format!("{text:?} is none of last, first, none")),
    }
}

impl PolicyArgs {
    /// Plans `session` as asked.
    pub fn plan(&self, session: &Session<'_>) -> anyhow::Result<Planned> {
        if let Some(path) = &self.plan {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the plan {}", path.display()))?;
            let plan: Plan = toml::from_str(&text)
                .with_context(|| format!("{} is not a plan", path.display()))?;
            return session
                .adopt(plan)
                .with_context(|| format!("plan {}", path.display()));
        }
        let mut options = Options::new(self.steps.unwrap_or_default());
        options.cut = self.cut;
        options.interval = self.interval;
        options.key_steps.clone_from(&self.key_steps);
        options.gate_step = self.gate_step;
        options.lambda_inter = self.lambda_inter;
        options.lambda_intra = self.lambda_intra;
        options.lambda_guidance = self.lambda_guidance;
        options.reuse = self.reuse;
        options.control_interval = self.control_interval;
        options.control_start = self.control_start;
        options.control_end = self.control_end;
        options.prompted = self.prompted;
        Ok(session.plan(self.policy, &options)?)
    }
}
