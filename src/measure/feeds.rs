//! Made-up inputs for a diffusion graph: a seeded generation.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::MeasureError;
use crate::analysis::Analysis;
use crate::analysis::inputs::{InputKind, declared_type};
use crate::engine::{DType, Tensor, adaptive};
use crate::graph::ValueId;
use crate::plan::Given;

/// Inputs of one generation: what is constant, and what changes by step.
pub struct Feeds<'a, 'm> {
    analysis: &'a Analysis<'m>,
    seed: u64,
    batch: u64,
    steps: usize,
}

impl<'a, 'm> Feeds<'a, 'm> {
    /// Inputs for `steps` evaluations at the analysis' sizes.
    #[must_use]
    pub fn new(analysis: &'a Analysis<'m>, seed: u64, steps: usize) -> Self {
        Self {
            analysis,
            seed,
            batch: analysis.sizes.batch,
            steps,
        }
    }

    /// All inputs of evaluation `step`, in the graph's order.
    ///
    /// # Errors
    /// If a shape is unknown or a type cannot be made up.
    pub fn step(&self, step: usize) -> Result<Vec<(String, Tensor)>, MeasureError> {
        let inputs = self
            .analysis
            .graph
            .inputs()
            .iter()
            .zip(&self.analysis.kinds);
        inputs
            .enumerate()
            .map(|(i, (value, kind))| {
                let name = self.analysis.graph.name(*value).to_owned();
                Ok((name, self.tensor(i, *value, *kind, step)?))
            })
            .collect()
    }

    /// What decides while a model runs looks at, of evaluation `step`.
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn given(&self, step: usize) -> Result<Given, MeasureError> {
        let inputs = self.step(step)?;
        let of = |kind: InputKind| {
            let name = self.analysis.graph.name(self.analysis.input(kind)?);
            Some(&inputs.iter().find(|(n, _)| n == name)?.1)
        };
        let pair = of(InputKind::Latent).zip(of(InputKind::Timestep));
        Ok(pair.map(|(l, t)| adaptive::given(l, t)).unwrap_or_default())
    }

    fn tensor(
        &self,
        index: usize,
        value: ValueId,
        kind: InputKind,
        step: usize,
    ) -> Result<Tensor, MeasureError> {
        let graph = &self.analysis.graph;
        let name = || graph.name(value).to_owned();
        let elem_type = graph.input_info(value).map_or(0, declared_type);
        let dtype = DType::from_onnx(elem_type).ok_or_else(|| MeasureError::InputType {
            name: name(),
            elem_type,
        })?;
        let shape = self.analysis.shapes.get(value);
        let shape = shape.ok_or_else(|| MeasureError::UnknownInput { name: name() })?;
        let dims: Vec<usize> = shape
            .dims
            .iter()
            .map(|d| usize::try_from(d.at(self.batch)).unwrap_or_default())
            .collect();
        let count = dims.iter().product();
        // What is constant over a generation is drawn alike for all its steps.
        let moment = if kind.is_invariant() { 0 } else { step as u64 };
        let seed = self.seed ^ (index as u64).rotate_left(32) ^ moment.rotate_left(16);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = match kind {
            InputKind::Timestep => vec![self.timestep(step); count],
            // A driver refreshes everything where it changes.
            InputKind::ControlScale => vec![0.9; count],
            InputKind::TimeIds => (0..count)
                .map(|_| random.random_range(0..=1024) as f32)
                .collect(),
            InputKind::ControlImage => (0..count).map(|_| random.random::<f32>()).collect(),
            _ => (0..count)
                .map(|_| StandardNormal.sample(&mut random))
                .collect(),
        };
        Ok(Tensor::from_f32_as(dtype, &dims, &values)?)
    }

    /// Descending, as a sampler gives them.
    fn timestep(&self, step: usize) -> f32 {
        let share = small(step) / small(self.steps.max(1));
        (999.0 * (1.0 - share)).round().max(0.0)
    }
}

fn small(n: usize) -> f32 {
    f32::from(u16::try_from(n).unwrap_or(u16::MAX))
}
