//! UNet and ControlNets of a pipeline, evaluated together.

use std::path::PathBuf;

use super::feeds::Step;
use super::{Network, PipelineError};
use crate::analysis::inputs::InputKind;
use crate::engine::{DeviceTensor, Dim, Tensor};
use crate::plan::Schedule;
use crate::sidecar::{self, Sidecar};

/// The networks of a pipeline, ready to run.
#[derive(Debug)]
pub struct Networks {
    /// The UNet, and its file.
    pub unet: (Network, PathBuf),
    /// The ControlNets, and their files.
    pub controlnets: Vec<(Network, PathBuf)>,
}

/// Decides what becomes of an evaluation: the networks as they are, or something in their place.
pub trait Evaluator {
    /// The prediction on evaluation `index`, for all rows that the step has.
    ///
    /// # Errors
    /// [`PipelineError`] if the engine refuses.
    fn predict(
        &mut self,
        index: usize,
        step: &Step<'_>,
        networks: &mut Networks,
    ) -> Result<Vec<f32>, PipelineError>;
}

/// The networks as they are.
pub struct AsTheyAre;

impl Evaluator for AsTheyAre {
    fn predict(
        &mut self,
        _: usize,
        step: &Step<'_>,
        networks: &mut Networks,
    ) -> Result<Vec<f32>, PipelineError> {
        networks.predict(step)
    }
}

impl Networks {
    /// Whether the networks fit together.
    pub(super) fn checked(self) -> Result<Self, PipelineError> {
        let is_unet = self.unet.0.of_kind(InputKind::Latent).next().is_some()
            && self.unet.0.of_kind(InputKind::Text).next().is_some();
        if !is_unet {
            return Err(PipelineError::NotThis {
                file: self.unet.1.clone(),
                what: "latent and text",
                role: "UNet",
            });
        }
        let predicted = self.unet.0.outputs.first().and_then(|o| o.dims.get(1));
        if let Some(&Dim::Fixed(given)) = predicted
            && given != self.latent_channels()
        {
            let what = format!(
                "{} takes {} channels and predicts {given}: an inpainting UNet, or one that predicts \
                 the variance too; it can be compiled, but `hgc run` does not draw with it",
                self.unet.1.display(),
                self.latent_channels()
            );
            return Err(PipelineError::Refused { what });
        }
        let taken = self.unet.0.of_kind(InputKind::Residual).count();
        for (network, file) in &self.controlnets {
            if network.of_kind(InputKind::ControlImage).next().is_none() {
                return Err(PipelineError::NotThis {
                    file: file.clone(),
                    what: "control image",
                    role: "ControlNet",
                });
            }
            if network.outputs.len() != taken {
                return Err(PipelineError::Residuals {
                    unet: taken,
                    found: network.outputs.len(),
                });
            }
        }
        if taken > 0 && self.controlnets.is_empty() {
            return Err(PipelineError::Residuals {
                unet: taken,
                found: 0,
            });
        }
        Ok(self)
    }

    /// Control images that a generation needs.
    #[must_use]
    pub fn control_images(&self) -> usize {
        let merged = self.unet.0.of_kind(InputKind::ControlImage).next();
        match merged.map(|info| info.dims.as_slice()) {
            // Stacked: one image for each ControlNet inside.
            Some([Dim::Fixed(count), _, _, _, _]) => *count,
            Some(_) => 1,
            None => self.controlnets.len(),
        }
    }

    /// All of them, the UNet first.
    pub fn all(&self) -> impl Iterator<Item = &Network> {
        std::iter::once(&self.unet)
            .chain(&self.controlnets)
            .map(|(network, _)| network)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Network> {
        std::iter::once(&mut self.unet)
            .chain(&mut self.controlnets)
            .map(|(network, _)| network)
    }

    /// Begins a generation.
    ///
    /// # Errors
    /// [`PipelineError`] if the engine refuses.
    pub fn begin(&mut self) -> Result<(), PipelineError> {
        self.all_mut().try_for_each(Network::begin)
    }

    /// Makes the next evaluation recompute everything.
    pub fn refresh_next(&mut self) {
        self.all_mut().for_each(Network::refresh_next);
    }

    /// Follows the schedule for so many evaluations: one that the networks have, or their first,
    /// spread.
    pub(super) fn follow_for(&mut self, steps: usize, sampler: &str) -> Result<(), PipelineError> {
        let Some(planned) = self.unet.0.counts() else {
            return Ok(());
        };
        let sidecars: Vec<&Sidecar> = self.all().filter_map(Network::sidecar).collect();
        let found = match sidecars.len() == self.all().count() {
            true => sidecar::schedule_for(&sidecars, steps, Some(sampler)),
            false => None,
        };
        match found {
            Some(schedule) => self.follow(&schedule),
            // Compiled before models had kinds: they run what they count.
            None if planned == steps => Ok(()),
            None => Err(PipelineError::Steps {
                planned,
                asked: steps,
            }),
        }
    }

    /// Follows a schedule.
    ///
    /// # Errors
    /// [`PipelineError`] if the networks have no such kinds.
    pub fn follow(&mut self, schedule: &Schedule) -> Result<(), PipelineError> {
        let mut all = self.all_mut();
        all.try_for_each(|network| network.follow(schedule))
    }

    /// Channels of a latent.
    pub fn latent_channels(&self) -> usize {
        let info = self.unet.0.of_kind(InputKind::Latent).next();
        match info.and_then(|i| i.dims.get(1)) {
            Some(Dim::Fixed(channels)) => *channels,
            _ => 4,
        }
    }

    /// The prediction for all rows of a step.
    ///
    /// # Errors
    /// [`PipelineError`] if the engine refuses.
    pub fn predict(&mut self, step: &Step<'_>) -> Result<Vec<f32>, PipelineError> {
        let outputs = self.evaluate(step)?.1;
        Ok(outputs.first().map(Tensor::to_f32).unwrap_or_default())
    }

    /// The outputs of the ControlNets, by network, and of the UNet.
    ///
    /// # Errors
    /// [`PipelineError`] if the engine refuses.
    pub fn evaluate(
        &mut self,
        step: &Step<'_>,
    ) -> Result<(Vec<Vec<DeviceTensor>>, Vec<Tensor>), PipelineError> {
        let (residuals, given) = self.residuals(step)?;
        let step = Step {
            residuals: &residuals,
            ..*step
        };
        let (unet, file) = &mut self.unet;
        let feeds = step.feed(unet, file)?;
        Ok((given, unet.run(&feeds)?))
    }

    /// The sum of what all ControlNets give, and what each of them gives; a model without a scale
    /// input is scaled here.
    fn residuals(
        &mut self,
        step: &Step<'_>,
    ) -> Result<(Vec<DeviceTensor>, Vec<Vec<DeviceTensor>>), PipelineError> {
        let taken = self.unet.0.of_kind(InputKind::Residual).count();
        let mut total: Vec<DeviceTensor> = Vec::new();
        let mut given = Vec::new();
        for (index, (network, file)) in self.controlnets.iter_mut().enumerate() {
            let own = Step {
                images: &step.images[index..=index],
                scales: &step.scales[index..=index],
                ..*step
            };
            let feeds = own.feed(network, file)?;
            let mut found = network.run_on_device(&feeds)?;
            given.push(found.clone());
            found.truncate(taken);
            let scale = step.scales.get(index).copied().unwrap_or(1.0);
            let scaled = network.of_kind(InputKind::ControlScale).next().is_some();
            if !scaled && scale != 1.0 {
                for tensor in &mut found {
                    let values = tensor.to_tensor()?.to_f32();
                    *tensor = like(
                        tensor,
                        &values.iter().map(|v| v * scale).collect::<Vec<_>>(),
                    )?;
                }
            }
            if total.is_empty() {
                total = found;
                continue;
            }
            for (sum, more) in total.iter_mut().zip(&found) {
                let (own, more) = (sum.to_tensor()?.to_f32(), more.to_tensor()?.to_f32());
                let values: Vec<f32> = own.iter().zip(&more).map(|(a, b)| a + b).collect();
                *sum = like(sum, &values)?;
            }
        }
        Ok((total, given))
    }
}

/// A tensor like `old` with other values.
fn like(old: &DeviceTensor, values: &[f32]) -> Result<DeviceTensor, PipelineError> {
    Ok(Tensor::from_f32_as(old.dtype(), old.shape(), values)?.into())
}
