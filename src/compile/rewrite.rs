//! A planned project, rewritten.

use std::time::Instant;

use super::{CompileError, Compiled, CompiledModel, OutputForm, Planned, Project};
use crate::emit::{Form, Gated, Placement, Variants};
use crate::onnx::proto::ModelProto;

impl Project<'_> {
    /// Rewrites all inputs as planned.
    ///
    /// # Errors
    /// [`CompileError::Rewrite`] naming the file, and [`CompileError::Hash`] for what another
    /// project planned.
    pub fn compile(&self, planned: &Planned) -> Result<Compiled, CompileError> {
        self.compile_as(planned, OutputForm::Gated)
    }

    /// Rewrites all inputs as planned, in this form.
    ///
    /// # Errors
    /// As for [`compile`](Self::compile), and for a model that decides for itself what runs where the
    /// form has no control flow.
    pub fn compile_as(
        &self,
        planned: &Planned,
        form: OutputForm,
    ) -> Result<Compiled, CompileError> {
        let start = Instant::now();
        let mut models = Vec::new();
        for (index, source) in self.inputs.sources.iter().enumerate() {
            let (graph, variants) = match form {
                OutputForm::Gated => (self.emit(planned, index, &Gated)?, None),
                OutputForm::Variants { fixed } => {
                    let (gated, set) = self.emit(planned, index, &Variants { fixed })?;
                    (gated, Some(set))
                }
            };
            let made = variants.iter().flat_map(|set| &set.variants);
            for model in made.map(|v| &v.model).chain([&graph]) {
                self.validate(model, index)?;
            }
            models.push(CompiledModel {
                name: self.model_plan(&planned.plan, index)?.name.clone(),
                graph,
                variants,
                original: source.model.proto.clone(),
                path: source.model.path.clone(),
                relative: source.relative.clone(),
            });
        }
        tracing::info!(models = models.len(), "emitted in {:.2?}", start.elapsed());
        Ok(Compiled {
            plan: planned.plan.clone(),
            costs: planned.costs.clone(),
            models,
            files: self
                .inputs
                .sources
                .iter()
                .flat_map(|s| s.model.files())
                .collect(),
            pipeline: self.inputs.pipeline.clone(),
        })
    }

    fn emit<F: Form>(
        &self,
        planned: &Planned,
        index: usize,
        form: &F,
    ) -> Result<F::Output, CompileError> {
        let source = &self.inputs.sources[index];
        let model_plan = self.model_plan(&planned.plan, index)?;
        let layout = planned.layouts.get(index).ok_or(CompileError::Count {
            planned: planned.layouts.len(),
            given: self.analyses.len(),
        })?;
        let placement = Placement {
            model: &source.model.proto,
            analysis: &self.analyses[index],
            plan: &planned.plan,
            model_plan,
            layout,
        };
        form.emit(&placement)
            .map_err(|error| CompileError::Rewrite {
                file: source.file(),
                source: error,
            })
    }

    fn validate(&self, compiled: &ModelProto, index: usize) -> Result<(), CompileError> {
        let source = &self.inputs.sources[index];
        crate::onnx::validate_graphs(compiled, &source.model.path).map_err(|error| {
            CompileError::Invalid {
                file: source.file(),
                source: error,
            }
        })
    }
}
