//! What each input of a UNet or ControlNet is given on a step.

use std::path::Path;

use super::{Network, PipelineError};
use crate::analysis::inputs::InputKind;
use crate::engine::{DType, DeviceTensor, Dim, Tensor, ValueInfo};

/// All that inputs may ask for on one step.
pub struct Step<'s> {
    /// Latent scaled for the model, both halves.
    pub latent: &'s [f32],
    /// Rows, channels, height, width of it.
    pub shape: [usize; 4],
    /// Time, as the model counts it.
    pub timestep: f64,
    /// States of all prompts.
    pub text: &'s [f32],
    /// Tokens and width of it.
    pub text_shape: [usize; 2],
    /// Their summaries.
    pub pooled: &'s [f32],
    /// Sizes and crops, as SDXL takes them.
    pub time_ids: [f32; 6],
    /// Guidance scale, for models distilled with it.
    pub guidance: f64,
    /// Control images, channels first, all rows of each.
    pub images: &'s [Vec<f32>],
    /// Height and width of them.
    pub image_size: [usize; 2],
    /// Strengths of control, one a ControlNet.
    pub scales: &'s [f32],
    /// What ControlNets give to the UNet.
    pub residuals: &'s [DeviceTensor],
}

impl Step<'_> {
    /// The inputs of a network, in order.
    pub(super) fn feed(
        &self,
        network: &Network,
        file: &Path,
    ) -> Result<Vec<(String, DeviceTensor)>, PipelineError> {
        let mut residuals = self.residuals.iter();
        let mut feeds = Vec::new();
        for (info, kind) in &network.inputs {
            let tensor = match kind {
                InputKind::Residual => {
                    let next = residuals.next();
                    let residual = next.ok_or(PipelineError::Residuals {
                        unet: network.of_kind(InputKind::Residual).count(),
                        found: self.residuals.len(),
                    })?;
                    if residual.dtype() == info.dtype {
                        residual.clone()
                    } else {
                        let values = residual.to_tensor()?.to_f32();
                        Tensor::from_f32_as(info.dtype, residual.shape(), &values)?.into()
                    }
                }
                // The second would be a noise level, which no sampler here gives.
                InputKind::Timestep if network.of_kind(InputKind::Timestep).count() > 1 => {
                    return Err(PipelineError::UnknownInput {
                        file: file.to_owned(),
                        name: info.name.clone(),
                    });
                }
                _ => self.one(info, *kind, file)?.into(),
            };
            feeds.push((info.name.clone(), tensor));
        }
        Ok(feeds)
    }

    fn one(&self, info: &ValueInfo, kind: InputKind, file: &Path) -> Result<Tensor, PipelineError> {
        let rows = self.shape[0];
        let float = |shape: &[usize], values: &[f32]| -> Result<Tensor, PipelineError> {
            Ok(Tensor::from_f32_as(info.dtype, shape, values)?)
        };
        match kind {
            InputKind::Latent => float(&self.shape, self.latent),
            InputKind::Timestep => self.time(info),
            InputKind::Text => {
                let [tokens, width] = self.text_shape;
                float(&[rows, tokens, width], self.text)
            }
            InputKind::PooledText => float(&[rows, self.pooled.len() / rows], self.pooled),
            InputKind::TimeIds => float(&[rows, 6], &self.time_ids.repeat(rows)),
            InputKind::GuidanceEmbedding => {
                let width = match info.dims.last() {
                    Some(Dim::Fixed(width)) => *width,
                    _ => 256,
                };
                let row = guidance_embedding(self.guidance, width);
                float(&[rows, width], &row.repeat(rows))
            }
            InputKind::ControlImage => self.image(info),
            InputKind::ControlScale => {
                // Scalar, [1], [n] or [n, 1].
                let mut shape = vec![1; info.dims.len()];
                if let Some(first) = shape.first_mut() {
                    *first = self.scales.len();
                }
                float(&shape, self.scales)
            }
            InputKind::Residual | InputKind::Concatenated | InputKind::Other => {
                Err(PipelineError::UnknownInput {
                    file: file.to_owned(),
                    name: info.name.clone(),
                })
            }
        }
    }

    /// Integer models count trained steps, so fractions are cut off.
    #[allow(clippy::cast_possible_truncation)]
    fn time(&self, info: &ValueInfo) -> Result<Tensor, PipelineError> {
        // `[B, 1]` in some exports.
        let size = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(1) => 1,
            _ if axis > 0 => 1,
            _ => self.shape[0],
        };
        let shape: Vec<usize> = info.dims.iter().enumerate().map(size).collect();
        let count = shape.iter().product();
        Ok(match info.dtype {
            DType::I64 => Tensor::from_i64(&shape, &vec![self.timestep as i64; count])?,
            DType::I32 => {
                let bytes = (self.timestep as i32).to_ne_bytes().repeat(count);
                Tensor::from_bytes(DType::I32, &shape, bytes)?
            }
            dtype => Tensor::from_f32_as(dtype, &shape, &vec![self.timestep as f32; count])?,
        })
    }

    /// `[B, 3, H, W]`, or `[n, B, 3, H, W]` for a merged graph.
    fn image(&self, info: &ValueInfo) -> Result<Tensor, PipelineError> {
        let rows = self.shape[0];
        let [height, width] = self.image_size;
        let values = self.images.concat();
        if info.dims.len() == 5 {
            let shape = [self.images.len(), rows, 3, height, width];
            return Ok(Tensor::from_f32_as(info.dtype, &shape, &values)?);
        }
        let shape = [rows, 3, height, width];
        Ok(Tensor::from_f32_as(info.dtype, &shape, &values)?)
    }
}

/// Sines and cosines of the guidance scale (arXiv 2310.04378, as diffusers computes it).
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn guidance_embedding(guidance: f64, width: usize) -> Vec<f32> {
    let half = width / 2;
    let scale = (guidance - 1.0) * 1000.0;
    let gap = 10_000f64.ln() / (half.max(2) - 1) as f64;
    let angles: Vec<f64> = (0..half).map(|i| scale * (-gap * i as f64).exp()).collect();
    let sines = angles.iter().map(|a| a.sin() as f32);
    let mut values: Vec<f32> = sines.chain(angles.iter().map(|a| a.cos() as f32)).collect();
    values.resize(width, 0.0);
    values
}
