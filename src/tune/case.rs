//! A sampler and a number of steps, and what the original draws with them.

use super::error::WORST;
use crate::engine::Tensor;
use crate::pipeline::{Batch, Denoised, Drawing, Evaluator, Loop, PipelineError};
use crate::sampler::Config;

/// What one schedule is for.
#[derive(Clone, Debug)]
pub struct Case {
    /// The sampler.
    pub sampler: Config,
    /// Its steps.
    pub steps: usize,
}

impl Case {
    /// What tells it from others.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.sampler.method, self.steps)
    }
}

/// Pictures of each batch, and the kinds that ran.
pub(super) type Ran = Vec<(usize, Vec<String>)>;

/// A case with the batches that are drawn in it and the latents that the original ends with.
pub(super) struct Drawn<'t> {
    pub case: Case,
    batches: &'t [Batch],
    wanted: Vec<Tensor>,
}

impl<'t> Drawn<'t> {
    /// Draws all batches; `told` hears of each.
    pub fn new(
        case: &Case,
        original: &mut Loop,
        run: &Drawing,
        batches: &'t [Batch],
        told: &mut dyn FnMut(),
    ) -> Result<Self, PipelineError> {
        let mut drawn = Self {
            case: case.clone(),
            batches,
            wanted: Vec::new(),
        };
        for batch in batches {
            drawn
                .wanted
                .push(drawn.drawn(original, run, batch)?.latents);
            told();
        }
        Ok(drawn)
    }

    /// The same latents, wanted of another case.
    pub fn of(&self, case: &Case) -> Self {
        Self {
            case: case.clone(),
            batches: self.batches,
            wanted: self.wanted.clone(),
        }
    }

    /// The latents that are wanted.
    pub fn wanted(&self) -> &[Tensor] {
        &self.wanted
    }

    /// What is drawn.
    pub fn batches(&self) -> &'t [Batch] {
        self.batches
    }

    /// Pictures that are drawn.
    pub fn pictures(&self) -> usize {
        self.batches.iter().map(|b| b.rows.len()).sum()
    }

    /// Draws all batches with `networks`.
    pub fn latents(
        &self,
        networks: &mut Loop,
        run: &Drawing,
    ) -> Result<Vec<Tensor>, PipelineError> {
        let drawn = self.batches.iter();
        drawn
            .map(|b| Ok(self.drawn(networks, run, b)?.latents))
            .collect()
    }

    /// The same, with pictures and kinds that ran of each batch.
    pub fn ran(
        &self,
        networks: &mut Loop,
        run: &Drawing,
    ) -> Result<(Vec<Tensor>, Ran), PipelineError> {
        let (mut latents, mut ran) = (Vec::new(), Vec::new());
        for batch in self.batches {
            let done = self.drawn(networks, run, batch)?;
            latents.push(done.latents);
            ran.push((batch.rows.len(), done.ran));
        }
        Ok((latents, ran))
    }

    fn drawn(
        &self,
        networks: &mut Loop,
        run: &Drawing,
        batch: &Batch,
    ) -> Result<Denoised, PipelineError> {
        networks.set_sampler(self.case.sampler.clone());
        let run = self.drawing(run);
        networks.run(batch, &run, &mut |_, _| {})
    }

    fn drawing(&self, run: &Drawing) -> Drawing {
        Drawing {
            steps: self.case.steps,
            ..run.clone()
        }
    }

    /// Draws one batch, with evaluations that are decided elsewhere.
    pub fn run_by(
        &self,
        evaluator: &mut dyn Evaluator,
        networks: &mut Loop,
        run: &Drawing,
        batch: &Batch,
    ) -> Result<(), PipelineError> {
        networks.set_sampler(self.case.sampler.clone());
        let run = self.drawing(run);
        networks.run_by(evaluator, batch, &run, &mut |_, _| {})?;
        Ok(())
    }

    /// Draws all batches with `networks`; how near the final latents are to those of the original, in
    /// dB: mean over pictures.
    pub fn ratio(&self, networks: &mut Loop, run: &Drawing) -> Result<f64, PipelineError> {
        Ok(self.ratio_of(&self.latents(networks, run)?))
    }

    /// The same for networks that compute everything, in fewer steps.
    pub fn fewer(
        &self,
        networks: &mut Loop,
        steps: usize,
        run: &Drawing,
    ) -> Result<f64, PipelineError> {
        let case = Case {
            steps,
            ..self.case.clone()
        };
        self.of(&case).ratio(networks, run)
    }

    /// The same of latents that were drawn.
    pub fn ratio_of(&self, latents: &[Tensor]) -> f64 {
        mean(&self.ratios_of(latents))
    }

    /// The same of each picture.
    pub fn ratios_of(&self, latents: &[Tensor]) -> Vec<f64> {
        let mut ratios = Vec::new();
        for ((batch, wanted), found) in self.batches.iter().zip(&self.wanted).zip(latents) {
            let rows = batch.rows.len();
            ratios.extend(ratios_by_row(&wanted.to_f32(), &found.to_f32(), rows));
        }
        ratios
    }

    /// Draws all batches; how near each picture is. What grows without bound is as far as can be.
    pub fn ratios(&self, networks: &mut Loop, run: &Drawing) -> Result<Vec<f64>, PipelineError> {
        match self.latents(networks, run) {
            Ok(latents) => Ok(self.ratios_of(&latents)),
            Err(PipelineError::NotFinite { .. }) => Ok(vec![WORST; self.pictures()]),
            Err(other) => Err(other),
        }
    }
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn mean(ratios: &[f64]) -> f64 {
    ratios.iter().sum::<f64>() / ratios.len().max(1) as f64
}

/// The most that a ratio counts, as for PSNR of pictures that are equal.
const MOST: f64 = 100.0;

/// Signal-to-noise ratio in dB of each of `rows` rows: variance of what is wanted over the mean square
/// of the difference.
fn ratios_by_row(wanted: &[f32], found: &[f32], rows: usize) -> Vec<f64> {
    let size = (wanted.len() / rows.max(1)).max(1);
    let row = |(wanted, found): (&[f32], &[f32])| {
        #[allow(clippy::cast_precision_loss)]
        let count = wanted.len() as f64;
        let mean = wanted.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let square = |v: f64| v * v;
        let signal: f64 = wanted.iter().map(|v| square(f64::from(*v) - mean)).sum();
        let pairs = wanted.iter().zip(found);
        let noise: f64 = pairs
            .map(|(w, f)| square(f64::from(*w) - f64::from(*f)))
            .sum();
        match noise > 0.0 {
            true => (10.0 * (signal / noise).log10()).clamp(-MOST, MOST),
            false => MOST,
        }
    };
    wanted
        .chunks(size)
        .zip(found.chunks(size))
        .map(row)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ratios_by_row;

    #[test]
    fn ratios_are_by_row() {
        let wanted = [1.0, -1.0, 2.0, -2.0];
        let found = ratios_by_row(&wanted, &[1.1, -1.1, 2.0, -2.0], 2);
        assert!((found[0] - 20.0).abs() < 1e-4, "{found:?}");
        assert!((found[1] - 100.0).abs() < 1e-9, "{found:?}");
    }
}
