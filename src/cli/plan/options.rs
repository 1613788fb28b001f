//! Options that say which models to plan, and how.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hgc::unstable::compile::{Caches, Inputs, Planned, Project, Target};
use hgc::unstable::plan::CacheType;
use hgc::unstable::plan::parameter::{self, Kind, Parameter, Parameters, Value};
use hgc::unstable::plan::policy::{self, Point};
use hgc::unstable::sampler::solver::told_by;

use crate::cli::args::{finite, read_plan};
use crate::cli::evaluations::EvaluationArgs;
use crate::cli::terminal::warn;

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

impl ModelArgs {
    /// Reads the models.
    pub fn read(&self) -> anyhow::Result<Inputs> {
        Ok(Inputs::read(&self.model, &self.controlnet)?)
    }
}

/// Policy and its parameters, or a plan that was made before.
#[derive(clap::Args)]
pub struct PolicyArgs {
    /// How to choose what is cached: none, lossless, deepcache, faster-diffusion, tgate, hgc-paper
    /// or hgc, with parameters or without: hgc:cut=2,lambda-inter=0.3
    #[arg(
        long,
        value_name = "POLICY[:KEY=VALUE,...]",
        default_value = "hgc",
        conflicts_with = "plan"
    )]
    policy: String,
    #[command(flatten)]
    evaluations: EvaluationArgs,
    /// Plan to use instead of a policy (see `hgc plan -o`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["steps", "inference_steps"])]
    plan: Option<PathBuf>,
    /// Where it will run: any (slower than the original nowhere), cpu, cuda, tensorrt, openvino,
    /// directml, coreml, qnn, migraphx or webgpu
    #[arg(long, default_value_t, value_name = "TARGET")]
    pub target: Target,
    /// Most kinds of evaluations; gates are rounded towards refreshing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    max_kinds: Option<u64>,
    /// In what caches are kept: f16 for those of single precision (half of the memory), int8 for all (a
    /// quarter, half of those in half precision; scaled by channel)
    #[arg(long, value_enum, value_name = "TYPE")]
    cache_type: Option<CacheTypes>,
    /// Most megabytes that all caches may take: over it the largest go into half precision, then into
    /// 8 bits, then those are left out that save least for their size
    #[arg(long, value_name = "MB", value_parser = finite::<f64>)]
    cache_budget: Option<f64>,
    #[command(flatten)]
    told: Told,
}

/// In what caches are kept.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum CacheTypes {
    /// As the values are
    Same,
    /// Half precision
    F16,
    /// 8 bits, scaled by channel
    Int8,
}

impl PolicyArgs {
    /// Plans `project` as asked.
    pub fn plan(&self, project: &Project<'_>, pipeline: &Path) -> anyhow::Result<Planned> {
        let (planned, point) = self.with_fewer_kinds(project, pipeline)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let caches = Caches {
            cache: match self.cache_type {
                Some(CacheTypes::F16) => CacheType::F16,
                Some(CacheTypes::Int8) => CacheType::Int8,
                Some(CacheTypes::Same) | None => CacheType::Same,
            },
            budget: self.cache_budget.map(|mb| (mb.max(0.0) * 1e6) as u64),
        };
        let planned = project.keep(planned, caches)?;
        match point {
            Some(p) => Ok(project.for_both_solvers(planned, p.policy, &p.parameters)?),
            None => Ok(planned),
        }
    }

    fn with_fewer_kinds(
        &self,
        project: &Project<'_>,
        pipeline: &Path,
    ) -> anyhow::Result<(Planned, Option<Point>)> {
        let (planned, point) = self.with_all_kinds(project, pipeline)?;
        let told = self.max_kinds.and_then(|n| usize::try_from(n).ok());
        // A plan that was made before has the kinds that it has.
        let of_target = self.target.kinds().filter(|_| self.plan.is_none());
        match told.or(of_target) {
            Some(most) => Ok((project.limit(&planned, most)?, point)),
            None => Ok((planned, point)),
        }
    }

    /// The plan, and the policy and parameters that made it.
    fn with_all_kinds(
        &self,
        project: &Project<'_>,
        pipeline: &Path,
    ) -> anyhow::Result<(Planned, Option<Point>)> {
        for (file, count) in project.uncounted() {
            warn(format_args!(
                "{file}: shapes of {count} multiplying nodes are unknown; their MACs are not \
                 counted (`hgc inspect --format json` lists them)"
            ));
        }
        if let Some(path) = &self.plan {
            if let Some((parameter, _)) = self.told.0.first() {
                bail!(
                    "{} says everything already; leave out --{}, or make a new plan",
                    path.display(),
                    parameter.name
                );
            }
            let adopted = project.adopt(read_plan(path)?);
            let planned = adopted.with_context(|| format!("plan {}", path.display()))?;
            return Ok((planned, None));
        }
        let Some(steps) = self.evaluations.of(pipeline)? else {
            bail!(
                "for how many evaluations of the model? give --steps N (or --inference-steps N, or \
                 --plan FILE)"
            )
        };
        let base = self.target.parameters(Parameters::new(steps));
        let base = told_by(pipeline, base);
        let point = self.told.point(&self.policy, base)?;
        Ok((project.plan(point.policy, &point.parameters)?, Some(point)))
    }
}

/// Parameters of policies that were given as options, one for each in the table.
#[derive(Clone, Debug, Default)]
pub struct Told(Vec<(&'static Parameter, Value)>);

impl Told {
    /// `base` with what was told.
    pub fn over(&self, mut base: Parameters) -> Parameters {
        for (parameter, value) in &self.0 {
            base.set(parameter, value.clone());
        }
        base
    }

    /// What was told of a parameter.
    pub fn get(&self, parameter: &Parameter) -> Option<&Value> {
        let found = self.0.iter().find(|(p, _)| p.name == parameter.name);
        found.map(|(_, value)| value)
    }

    /// The first of what was told that is none of these.
    pub fn other_than(&self, parameters: &[&Parameter]) -> Option<&'static Parameter> {
        let mut told = self.0.iter().map(|(parameter, _)| *parameter);
        told.find(|p| parameters.iter().all(|known| known.name != p.name))
    }

    /// The first of what was told that changes nothing but how models are compiled.
    pub fn of_plans(&self) -> Option<&'static Parameter> {
        let window = [parameter::CONTROL_START.name, parameter::CONTROL_END.name];
        let mut told = self.0.iter().map(|(parameter, _)| *parameter);
        told.find(|p| !window.contains(&p.name))
    }

    /// The policy that `text` names, with its parameters; warns of what should be known.
    pub fn point(&self, text: &str, base: Parameters) -> anyhow::Result<Point> {
        let point = Point::one(text, &self.over(base))?;
        point.check()?;
        let uses = point.policy.uses();
        for (parameter, _) in &self.0 {
            if uses.iter().all(|u| u.parameter.name != parameter.name) {
                warn(format_args!(
                    "{} has no --{}; it is ignored",
                    point.policy, parameter.name
                ));
            }
        }
        if let Some(text) = point.policy.caution(&point.parameters) {
            warn(text);
        }
        Ok(point)
    }
}

impl clap::Args for Told {
    fn augment_args(command: clap::Command) -> clap::Command {
        parameter::ALL
            .iter()
            .copied()
            .fold(command, |c, p| c.arg(option(p)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Told {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let told = parameter::ALL.iter().filter_map(|p| {
            let value: &Value = matches.get_one(p.name)?;
            Some((*p, value.clone()))
        });
        Ok(Self(told.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The option of a parameter.
fn option(parameter: &'static Parameter) -> clap::Arg {
    let option = clap::Arg::new(parameter.name)
        .long(parameter.name)
        .value_name(parameter.kind.placeholder())
        .help(policy::help(parameter))
        .help_heading("Parameters of policies")
        .value_parser(move |text: &str| parameter.read(text));
    match parameter.kind {
        Kind::Flag => option
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => option,
    }
}
