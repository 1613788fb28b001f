//! Options that say which models to plan, and how.

use std::path::PathBuf;
use std::str::FromStr;

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
    #[command(flatten)]
    given: Given,
}

/// Parameters of policies; what is not given has the policy's default.
#[derive(clap::Args)]
struct Given {
    /// Outermost decoder skip connections that still run on a reuse step [default: as many as
    /// make 5 % of the MACs]
    #[arg(long, conflicts_with = "plan")]
    cut: Option<usize>,
    /// deepcache: steps from one refresh to the next [default: 3]
    #[arg(long, conflicts_with = "plan")]
    interval: Option<usize>,
    /// faster-diffusion: steps on which the encoder runs [default: the published ones]; hgc:
    /// steps on which deeper blocks refresh, in place of --lambda-inter
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["plan", "lambda_inter"])]
    key_steps: Option<Vec<usize>>,
    /// Step from which guidance is fused; the number of steps for never [default: nine tenths
    /// of the steps with hgc, half with tgate and hgc-paper]
    #[arg(long, conflicts_with = "plan")]
    gate_step: Option<usize>,
    /// Share of steps on which deeper blocks refresh [default: 0.4]
    #[arg(long, conflicts_with = "plan")]
    lambda_inter: Option<f64>,
    /// Share of refreshed steps on which the modules inside a block do [default: 0.5]
    #[arg(long, conflicts_with = "plan")]
    lambda_intra: Option<f64>,
    /// hgc: share of refreshed steps before the gate step on which both halves run
    /// [default: 0.9]
    #[arg(long, conflicts_with = "plan")]
    lambda_guidance: Option<f64>,
    /// hgc: what is read on a reuse step, hold (the last value) or linear (a forecast)
    /// [default: hold]
    #[arg(long, conflicts_with = "plan")]
    reuse: Option<Reuse>,
    /// The ControlNet refreshes on every n-th refresh of the UNet [default: 1]
    #[arg(long, conflicts_with = "plan")]
    control_interval: Option<usize>,
    /// Share of the generation after which control switches on [default: 0]
    #[arg(long, conflicts_with = "plan")]
    control_start: Option<f64>,
    /// Share of the generation after which control switches off [default: 1]
    #[arg(long, conflicts_with = "plan")]
    control_end: Option<f64>,
    /// Which half of a guided batch carries the prompt: last or first; none where the model
    /// runs without classifier-free guidance [default: last]
    #[arg(long, conflicts_with = "plan")]
    prompted: Option<Half>,
    /// Run both halves of a guided batch on every step. For CUDA, where a batch that changes
    /// between steps costs more than the half that it saves
    #[arg(long, conflicts_with = "plan")]
    whole_batch: bool,
}

/// The half of a batch with the prompt, if there are two.
#[derive(Clone, Copy)]
struct Half(Option<Prompted>);

impl FromStr for Half {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self(Some(Prompted::Last))),
            "first" => Ok(Self(Some(Prompted::First))),
            "none" => Ok(Self(None)),
            _ => Err(format!("{text:?} is none of last, first, none")),
        }
    }
}

impl PolicyArgs {
    /// Plans `session` as asked.
    pub fn plan(&self, session: &Session<'_>) -> anyhow::Result<Planned> {
        for (file, count) in session.uncounted() {
            eprintln!(
                "hgc: warning: {file}: shapes of {count} multiplying nodes are unknown; their MACs \
                 are not counted (`hgc inspect --format json` lists them)"
            );
        }
        if let Some(path) = &self.plan {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the plan {}", path.display()))?;
            let plan: Plan = toml::from_str(&text)
                .with_context(|| format!("{} is not a plan", path.display()))?;
            return session
                .adopt(plan)
                .with_context(|| format!("plan {}", path.display()));
        }
        for name in self.given.unused_by(self.policy) {
            eprintln!(
                "hgc: warning: {} has no --{name}; it is ignored",
                self.policy
            );
        }
        let options = self.given.options(self.steps.unwrap_or_default());
        if self.given.is_daring(self.policy, options.steps) {
            eprintln!(
                "hgc: warning: of few steps ({}) much changes from one to the next; pictures stay closer \
                 with --lambda-inter 0.6 --lambda-intra 1 --lambda-guidance 1, for less saved \
                 (docs/EVAL.md)",
                options.steps
            );
        }
        Ok(session.plan(self.policy, &options)?)
    }
}

/// Steps below which the defaults of `hgc` cost more than they should (docs/EVAL.md).
const FEW_STEPS: usize = 16;

impl Given {
    /// Whether these are the defaults of `hgc` for few steps.
    fn is_daring(&self, policy: Policy, steps: usize) -> bool {
        let own = self.key_steps.is_some() || self.lambda_inter.is_some();
        policy == Policy::Hgc && steps < FEW_STEPS && !own
    }

    /// What was given but changes nothing with `policy`.
    fn unused_by(&self, policy: Policy) -> Vec<&'static str> {
        let given = [
            ("cut", self.cut.is_some()),
            ("interval", self.interval.is_some()),
            ("key-steps", self.key_steps.is_some()),
            ("gate-step", self.gate_step.is_some()),
            ("lambda-inter", self.lambda_inter.is_some()),
            ("lambda-intra", self.lambda_intra.is_some()),
            ("lambda-guidance", self.lambda_guidance.is_some()),
            ("reuse", self.reuse.is_some()),
            ("control-interval", self.control_interval.is_some()),
            ("control-start", self.control_start.is_some()),
            ("control-end", self.control_end.is_some()),
            ("prompted", self.prompted.is_some()),
            ("whole-batch", self.whole_batch),
        ];
        let used = policy.parameters();
        let unused = given.iter().filter(|(n, set)| *set && !used.contains(n));
        unused.map(|(name, _)| *name).collect()
    }

    fn options(&self, steps: usize) -> Options {
        let usual = Options::new(steps);
        Options {
            steps,
            cut: self.cut,
            interval: self.interval.unwrap_or(usual.interval),
            key_steps: self.key_steps.clone(),
            gate_step: self.gate_step,
            lambda_inter: self.lambda_inter.unwrap_or(usual.lambda_inter),
            lambda_intra: self.lambda_intra.unwrap_or(usual.lambda_intra),
            lambda_guidance: self.lambda_guidance.unwrap_or(usual.lambda_guidance),
            reuse: self.reuse.unwrap_or(usual.reuse),
            control_interval: self.control_interval.unwrap_or(usual.control_interval),
            control_start: self.control_start.unwrap_or(usual.control_start),
            control_end: self.control_end.unwrap_or(usual.control_end),
            prompted: self.prompted.map_or(usual.prompted, |half| half.0),
            whole_batch: self.whole_batch,
        }
    }
}
