//! The compiler as a caller has it: a folder in, a folder out.

use std::path::{Path, PathBuf};

use crate::analysis::shapes::Sizes;
use crate::compile::{
    CompileError, Compiled, Configured, InputError, Inputs, Planned, Project, SizesError, Target,
};
use crate::plan::Plan;
use crate::plan::parameter::Parameters;
use crate::plan::policy::{DEFAULT, Policy};
use crate::sampler::solver::told_by;

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompilerError {
    /// A model cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A configuration file beside the model cannot be used.
    #[error(transparent)]
    Sizes(#[from] SizesError),
    /// The models cannot be compiled together.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Nothing in them can be cached.
    #[error("the policy {policy} found nothing to cache in {file}: {reasons}")]
    Nothing {
        /// The policy.
        policy: String,
        /// The first model.
        file: String,
        /// Why each candidate was refused.
        reasons: String,
    },
}

/// Compiles pipelines, all in the same way.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let compiled = hgc::Compiler::new(20).compile("sd15".as_ref())?;
/// println!("{:.1} % of the MACs are saved", 100.0 * compiled.saved());
/// compiled.write("sd15-cached".as_ref(), false, &mut |_, _| {})?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Compiler<'p> {
    policy: &'p dyn Policy,
    parameters: Parameters,
    sizes: Option<Sizes>,
    plan: Option<Plan>,
    target: Target,
}

impl Compiler<'static> {
    /// A compiler for generations of `steps` model evaluations, with the default policy.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self {
            policy: DEFAULT,
            parameters: Parameters::new(steps),
            sizes: None,
            plan: None,
            target: Target::Any,
        }
    }
}

impl<'p> Compiler<'p> {
    /// The same with another policy, one of [`policy`](crate::policy) or one of your own.
    #[must_use]
    pub fn policy<'q>(self, policy: &'q dyn Policy) -> Compiler<'q> {
        Compiler {
            policy,
            parameters: self.parameters,
            sizes: self.sizes,
            plan: self.plan,
            target: self.target,
        }
    }

    /// The same for another target than [`Target::Any`].
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// The same with these parameters of the policy.
    #[must_use]
    pub fn parameters(mut self, parameters: Parameters) -> Self {
        self.parameters = parameters;
        self
    }

    /// The same with sizes that are assumed where the export leaves them open; without, they are
    /// those of the configuration files, or the usual ones. They weigh costs: a compiled model with
    /// open sizes runs at any.
    #[must_use]
    pub fn sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = Some(sizes);
        self
    }

    /// The same by a plan that was made before, in the place of a policy.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// Compiles a pipeline folder, or one UNet.
    ///
    /// # Errors
    /// [`CompilerError`] naming the file, node or parameter.
    pub fn compile(&self, pipeline: &Path) -> Result<Compiled, CompilerError> {
        self.compile_with(pipeline, &[])
    }

    /// Compiles a UNet, or a pipeline without ControlNets, with these ControlNets.
    ///
    /// # Errors
    /// [`CompilerError`] naming the file, node or parameter.
    pub fn compile_with(
        &self,
        unet: &Path,
        controlnets: &[PathBuf],
    ) -> Result<Compiled, CompilerError> {
        let inputs = Inputs::read(unet, controlnets)?;
        let sizes = match self.sizes {
            Some(sizes) => sizes,
            None => Configured::of(unet)?.sizes(),
        };
        let project = Project::new(&inputs, sizes)?;
        let planned = match &self.plan {
            Some(plan) => self.limited(&project, project.adopt(plan.clone())?)?,
            None => {
                let base = self
                    .target
                    .parameters(Parameters::new(self.parameters.steps));
                let base = told_by(unet, base);
                let parameters = self.parameters.over(base);
                let planned = project.plan(self.policy, &parameters)?;
                let planned = self.limited(&project, planned)?;
                project.for_both_solvers(planned, self.policy, &parameters)?
            }
        };
        if planned.plan.found_nothing() {
            let refusals = planned.plan.models.iter().flat_map(|m| &m.refusals);
            let reasons = refusals.map(|r| format!("{}: {}", r.candidate, r.reason));
            return Err(CompilerError::Nothing {
                policy: planned.plan.policy.clone(),
                file: unet.display().to_string(),
                reasons: reasons.collect::<Vec<_>>().join("; "),
            });
        }
        Ok(project.compile_as(&planned, self.target.form())?)
    }

    /// With as many kinds as the target can have.
    fn limited(&self, project: &Project<'_>, planned: Planned) -> Result<Planned, CompilerError> {
        Ok(match self.target.kinds() {
            Some(most) => project.limit(&planned, most)?,
            None => planned,
        })
    }
}
