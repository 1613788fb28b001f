//! Models that belong together, analysed and planned.

use std::time::Instant;

use super::{CompileError, Inputs, Planned, Source};
use crate::analysis::shapes::Sizes;
use crate::analysis::{Analysis, Role};
use crate::emit;
use crate::onnx::graph_hash;
use crate::plan::cost::{Cost, Regions};
use crate::plan::layout::Layout;
use crate::plan::limit::{Limited, limit};
use crate::plan::parameter::{CUT, Parameters, Value};
use crate::plan::policy::{self, Analysed, Policy};
use crate::plan::{ModelPlan, Plan};

/// Analysed models that are planned and compiled together.
pub struct Project<'m> {
    pub(super) inputs: &'m Inputs,
    pub(super) analyses: Vec<Analysis<'m>>,
    pub(super) hashes: Vec<String>,
}

impl<'m> Project<'m> {
    /// Analyses all inputs and checks that they belong together.
    ///
    /// # Errors
    /// [`CompileError`] naming the file that does not fit.
    pub fn new(inputs: &'m Inputs, sizes: Sizes) -> Result<Self, CompileError> {
        let start = Instant::now();
        let mut analyses = Vec::new();
        let mut hashes = Vec::new();
        for (i, source) in inputs.sources.iter().enumerate() {
            let file = source.file();
            if emit::is_compiled(&source.model.proto) {
                return Err(CompileError::Compiled { file });
            }
            let analysis =
                Analysis::with_dynamics(&source.model.proto, sizes).map_err(|source| {
                    CompileError::Analysis {
                        file: file.clone(),
                        source,
                    }
                })?;
            let found = kind(&analysis);
            match (i, analysis.role) {
                (0, Role::Unet | Role::Merged) => {}
                (0, _) => return Err(inputs.not_a_unet(file, found, sizes)),
                (_, Role::Controlnet) => {}
                _ => return Err(CompileError::NotControlNet { file, found }),
            }
            tracing::info!(
                file,
                role = analysis.role.name(),
                blocks = analysis.blocks.len(),
                attention = analysis.attention.len(),
                unknown_shapes = analysis.shapes.unknown.len(),
                "analysed in {:.2?}",
                start.elapsed()
            );
            if let Err(unfit) = analysis.check_latent() {
                return Err(CompileError::Latent { file, unfit });
            }
            analyses.push(analysis);
            hashes.push(graph_hash(&source.model.proto));
        }
        let project = Self {
            inputs,
            analyses,
            hashes,
        };
        project.check_residuals()?;
        Ok(project)
    }

    /// The analyses, parallel to the inputs.
    #[must_use]
    pub fn analyses(&self) -> &[Analysis<'m>] {
        &self.analyses
    }

    fn check_residuals(&self) -> Result<(), CompileError> {
        use crate::analysis::inputs::InputKind;
        let Some((unet, controlnets)) = self.analyses.split_first() else {
            return Ok(());
        };
        let taken = unet.inputs(InputKind::Residual).count();
        for (i, controlnet) in controlnets.iter().enumerate() {
            let given = controlnet.graph.outputs().len();
            if given != taken {
                return Err(CompileError::Residuals {
                    controlnet: self.inputs.sources[i + 1].file(),
                    given,
                    unet: self.inputs.sources[0].file(),
                    taken,
                });
            }
        }
        Ok(())
    }

    /// Further cuts below that of plans with these parameters, which divide what lies below into parts of about
    /// as many MACs: at most `count`, each deeper than the one before, in numbers of outermost skips.
    #[must_use]
    pub fn inner_cuts(&self, parameters: &Parameters, count: usize) -> Vec<usize> {
        let cut = match parameters.get(&CUT) {
            Some(Value::Count(cut)) => Some(*cut),
            _ => None,
        };
        let analyses: Vec<&Analysis<'_>> = self.analyses.iter().collect();
        policy::inner_cuts(&analyses, cut, count)
    }

    /// Plans all models together by a policy.
    ///
    /// # Errors
    /// [`CompileError::Parameter`] if a parameter is out of range.
    pub fn plan(
        &self,
        policy: &dyn Policy,
        parameters: &Parameters,
    ) -> Result<Planned, CompileError> {
        parameters.check()?;
        self.check_parameters(policy, parameters)?;
        let targets: Vec<Analysed<'_, '_>> = self
            .analyses
            .iter()
            .zip(&self.hashes)
            .zip(self.names())
            .map(|((analysis, hash), name)| Analysed {
                analysis,
                name,
                hash: hash.clone(),
            })
            .collect();
        let start = Instant::now();
        let planned = self.place(policy::make(policy, &targets, parameters))?;
        for (model, layout) in planned.plan.models.iter().zip(&planned.layouts) {
            tracing::info!(
                model = model.name,
                policy = policy.name(),
                gates = model.gates.len(),
                sites = layout.sites.len(),
                refused = model.refusals.len(),
                "planned"
            );
            for placed in &layout.sites {
                let (site, nodes) = (&placed.site, placed.region.count());
                tracing::debug!(site = site.name, gate = site.gate, nodes, "placed");
            }
        }
        tracing::info!("all models planned in {:.2?}", start.elapsed());
        Ok(planned)
    }

    /// Files with multiplying nodes whose shapes are unknown, and how many: their MACs are not in
    /// any count.
    #[must_use]
    pub fn uncounted(&self) -> Vec<(String, usize)> {
        let counts = self.analyses.iter().map(|a| a.uncounted().len());
        let files = self.inputs.sources.iter().map(Source::file);
        files.zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// Decoder skip connections of the UNet.
    #[must_use]
    pub fn skips(&self) -> usize {
        self.analyses.first().map_or(0, |a| a.skips.len())
    }

    fn check_parameters(
        &self,
        policy: &dyn Policy,
        parameters: &Parameters,
    ) -> Result<(), CompileError> {
        let Some(unet) = self.analyses.first() else {
            return Ok(());
        };
        let (skips, batch) = (unet.skips.len(), unet.sizes.batch);
        if let Some(&Value::Count(cut)) = parameters.get(&CUT)
            && cut > skips
        {
            return Err(CompileError::Cut { cut, skips });
        }
        let halves = policy.wants_halves() && policy::unhalved(unet, parameters).is_none();
        if halves && batch % 2 == 1 {
            let policy = policy.name();
            return Err(CompileError::OddBatch { batch, policy });
        }
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        let mut controlnets = 0;
        self.analyses
            .iter()
            .map(|a| {
                if a.role != Role::Controlnet {
                    return a.role.name().to_owned();
                }
                controlnets += 1;
                match controlnets {
                    1 => "controlnet".to_owned(),
                    n => format!("controlnet_{}", n - 1),
                }
            })
            .collect()
    }

    /// Takes a plan that was made before, for the same graphs.
    ///
    /// # Errors
    /// [`CompileError::Hash`] if it was made for other graphs, and as for
    /// [`Project::plan`].
    pub fn adopt(&self, plan: Plan) -> Result<Planned, CompileError> {
        let (planned, given) = (plan.models.len(), self.analyses.len());
        if planned != given {
            return Err(CompileError::Count { planned, given });
        }
        for (i, expected) in self.names().into_iter().enumerate() {
            let found = self.model_plan(&plan, i)?.name.clone();
            // Names become files: a plan must not choose where they go.
            if found != expected {
                let file = self.inputs.sources[i].file();
                return Err(CompileError::Name {
                    file,
                    found,
                    expected,
                });
            }
        }
        self.place(plan)
    }

    /// The same plan with at most so many kinds of evaluations, rounded towards refreshing.
    ///
    /// # Errors
    /// As for [`Project::adopt`].
    pub fn limit(&self, planned: &Planned, kinds: usize) -> Result<Planned, CompileError> {
        let mut models = Vec::new();
        for (i, analysis) in self.analyses.iter().enumerate() {
            let own = self.model_plan(&planned.plan, i)?;
            let position = planned.plan.models.iter().position(|m| m.name == own.name);
            models.push(Limited {
                model: position.unwrap_or(i),
                layout: &planned.layouts[i],
                regions: Regions::new(analysis, &planned.layouts[i]),
            });
        }
        let mut plan = limit(&planned.plan, &models, kinds);
        plan.expand()?;
        self.place(plan)
    }

    /// Residuals of the prompted half alone would go to both halves of a UNet that runs whole.
    fn check_halves(&self, plan: &Plan) -> Result<(), CompileError> {
        let (mut unet, mut halving) = (None, None);
        for (i, analysis) in self.analyses.iter().enumerate() {
            let halves = self.model_plan(plan, i)?.halves;
            match analysis.role {
                Role::Controlnet if halves => halving = Some(i),
                Role::Unet if !halves => unet = Some(i),
                _ => {}
            }
        }
        match (unet, halving) {
            (Some(unet), Some(controlnet)) if plan.has_half() => Err(CompileError::Halves {
                unet: self.inputs.sources[unet].file(),
                controlnet: self.inputs.sources[controlnet].file(),
            }),
            _ => Ok(()),
        }
    }

    fn place(&self, mut plan: Plan) -> Result<Planned, CompileError> {
        plan.settle();
        self.check_halves(&plan)?;
        let layouts = self.layouts(&plan)?;
        // What is decided while it runs is counted as the most that may run.
        let fullest = match plan.schedules.first().filter(|s| s.adaptive.is_some()) {
            Some(schedule) => {
                let mut other = plan.clone();
                other.schedules = vec![schedule.fullest()];
                other.expand()?;
                Some((self.layouts(&other)?, other))
            }
            None => None,
        };
        let (counted, of) = match &fullest {
            Some((layouts, plan)) => (layouts, plan),
            None => (&layouts, &plan),
        };
        let mut costs = Vec::new();
        for (i, analysis) in self.analyses.iter().enumerate() {
            let model = self.model_plan(of, i)?;
            costs.push(Cost::new(analysis, of, model, &counted[i]));
        }
        for schedule in 1..plan.schedules.len() {
            self.check_schedule(&plan, schedule)?;
        }
        Ok(Planned {
            plan,
            layouts,
            costs,
            uncounted: self.uncounted().iter().map(|(_, count)| count).sum(),
        })
    }

    fn layouts(&self, plan: &Plan) -> Result<Vec<Layout>, CompileError> {
        let mut layouts = Vec::new();
        for (i, analysis) in self.analyses.iter().enumerate() {
            let model = self.model_plan(plan, i)?;
            let layout = Layout::new(analysis, plan, model);
            layouts.push(layout.map_err(|source| CompileError::Layout {
                file: self.inputs.sources[i].file(),
                source,
            })?);
        }
        Ok(layouts)
    }

    /// Whether the sites fit under a schedule that is not the first.
    fn check_schedule(&self, plan: &Plan, schedule: usize) -> Result<(), CompileError> {
        let other = plan.under(schedule)?;
        for (i, analysis) in self.analyses.iter().enumerate() {
            Layout::new(analysis, &other, self.model_plan(&other, i)?).map_err(|source| {
                CompileError::Schedule {
                    file: self.inputs.sources[i].file(),
                    schedule,
                    source,
                }
            })?;
        }
        Ok(())
    }

    /// The plan of the `index`-th input.
    ///
    /// # Errors
    /// [`CompileError::Hash`] if the plan was made for other graphs.
    pub fn model_plan<'p>(
        &self,
        plan: &'p Plan,
        index: usize,
    ) -> Result<&'p ModelPlan, CompileError> {
        let hash = &self.hashes[index];
        // Two ControlNets may be the same file: then position tells them apart.
        let at_position = plan.models.get(index).filter(|m| m.hash == *hash);
        at_position
            .or_else(|| plan.for_hash(hash))
            .ok_or_else(|| CompileError::Hash {
                file: self.inputs.sources[index].file(),
                hash: hash.clone(),
            })
    }
}

fn kind(analysis: &Analysis<'_>) -> String {
    match analysis.role {
        Role::Unet => "a UNet".to_owned(),
        Role::Controlnet => "a ControlNet".to_owned(),
        Role::Merged => "a UNet with merged ControlNets".to_owned(),
        Role::Other => format!(
            "not recognised as a diffusion UNet or ControlNet: {}",
            analysis.unrecognised().unwrap_or("nothing in it is known")
        ),
    }
}
