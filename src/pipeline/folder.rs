//! The parts of a pipeline folder and what its configuration files say.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;

use super::PipelineError;
use super::tokenizer::Tokenizer;
use crate::analysis::shapes::Sizes;
use crate::compile;
use crate::emit::{compiled_plan, is_compiled};
use crate::limited::{JsonError, read_json};
use crate::onnx::Model;
use crate::plan::Plan;
use crate::sampler::{Config, Method};

/// Levels of most UNets; each halves the latent, and skip connections want whole values.
const USUAL_LEVELS: u32 = 4;

/// What a pipeline folder holds.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// The UNet, alone or merged with ControlNets.
    pub unet: PathBuf,
    /// ControlNets in the order of their folders.
    pub controlnets: Vec<PathBuf>,
    /// Text encoders: one, or two for SDXL.
    pub text_encoders: Vec<PathBuf>,
    /// Folders of their tokenizers.
    pub tokenizers: Vec<PathBuf>,
    /// The decoder of the VAE.
    pub vae_decoder: PathBuf,
    /// `scheduler_config.json`.
    pub scheduler: PathBuf,
    /// The plan of a compiled pipeline.
    pub plan: Option<Plan>,
    /// Latents are divided by this before they are decoded.
    pub scaling_factor: f32,
    /// Added to latents after that.
    pub shift_factor: f32,
    /// Mean and deviation of each channel of a latent, where the VAE was trained on normalised
    /// ones (SDXL): latents are multiplied by the one, and the other is added.
    pub normalised: Option<(Vec<f32>, Vec<f32>)>,
    /// What users should know of how configuration files were read.
    pub notes: Vec<String>,
    /// Pixels of a latent's side.
    pub down_sampling: usize,
    /// Latent size that the UNet was trained at.
    pub sample_size: Option<usize>,
    /// SDXL: the empty prompt is encoded as zeros.
    pub zeros_for_empty: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Index {
    force_zeros_for_empty_prompt: Option<bool>,
    /// Library and class; nulls where the pipeline goes without.
    text_encoder_2: Option<[Option<String>; 2]>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Vae {
    scaling_factor: Option<f32>,
    shift_factor: Option<f32>,
    block_out_channels: Option<Vec<usize>>,
    latents_mean: Option<Vec<f32>>,
    latents_std: Option<Vec<f32>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Unet {
    sample_size: Option<serde_json::Value>,
}

impl Folder {
    /// Looks for the parts of a pipeline.
    ///
    /// # Errors
    /// [`PipelineError`] naming what is missing and where it was looked for.
    pub fn read(path: &Path) -> Result<Self, PipelineError> {
        if !path.is_dir() {
            return Err(PipelineError::NotAFolder {
                path: path.to_owned(),
            });
        }
        let optional = |part: &str| compile::model_of(path, part).map(|m| path.join(m));
        let model = |part: &str| -> Result<PathBuf, PipelineError> {
            optional(part).ok_or_else(|| PipelineError::Missing {
                folder: path.to_owned(),
                part: format!("{part}/model.onnx"),
            })
        };
        let index: Index = config(&[path.join("model_index.json")])?;
        let mut text_encoders = vec![model("text_encoder")?];
        match &index.text_encoder_2 {
            Some([Some(_), Some(_)]) => text_encoders.push(model("text_encoder_2")?),
            _ => text_encoders.extend(optional("text_encoder_2")),
        }
        let mut tokenizers = vec![path.join("tokenizer")];
        if text_encoders.len() == 2 {
            tokenizers.push(path.join("tokenizer_2"));
        }
        let scheduler = path.join("scheduler").join("scheduler_config.json");
        if !scheduler.is_file() {
            return Err(PipelineError::Missing {
                folder: path.to_owned(),
                part: "scheduler/scheduler_config.json".to_owned(),
            });
        }
        let vae_decoder = model("vae_decoder")?;
        // What is damaged is told now, not when all steps have run.
        for file in text_encoders.iter().chain([&vae_decoder]) {
            Model::read(file)?;
        }
        let beside = vae_decoder.with_file_name("config.json");
        let vae_files = [beside, path.join("vae").join("config.json")];
        let vae: Vae = config(&vae_files)?;
        let unet: Unet = config(&[path.join("unet").join("config.json")])?;
        let unet_file = model("unet")?;
        let is_xl = text_encoders.len() == 2;
        let levels = vae
            .block_out_channels
            .as_ref()
            .map_or(4, |c| c.len().clamp(1, 16));
        let mut notes = Vec::new();
        if !vae_files.iter().any(|f| f.is_file()) {
            notes.push(format!(
                "there is no {}: latents are scaled as by {}, which may not fit this VAE",
                vae_files[0].display(),
                if is_xl { "SDXL's" } else { "SD1.5's" }
            ));
        }
        let normalised = normalisation(&vae, is_xl, &vae_files[0], &mut notes);
        let controlnets = compile::controlnets_of(path).map_err(Box::new)?;
        let trained = unet.sample_size.as_ref();
        Ok(Self {
            path: path.to_owned(),
            plan: plan(&unet_file)?,
            unet: unet_file,
            controlnets: controlnets.iter().map(|m| path.join(m)).collect(),
            text_encoders,
            tokenizers,
            vae_decoder,
            scheduler,
            scaling_factor: vae
                .scaling_factor
                .unwrap_or(if is_xl { 0.13025 } else { 0.18215 }),
            shift_factor: vae.shift_factor.unwrap_or(0.0),
            normalised,
            notes,
            down_sampling: 1 << (levels - 1),
            sample_size: trained
                .and_then(serde_json::Value::as_u64)
                .and_then(|s| usize::try_from(s).ok())
                .or(is_xl.then_some(128)),
            zeros_for_empty: index.force_zeros_for_empty_prompt.unwrap_or(true),
        })
    }

    /// The sampler that the scheduler's file describes; `method` overrides its own.
    ///
    /// # Errors
    /// [`PipelineError`] naming the file.
    pub fn sampler(&self, method: Option<Method>) -> Result<Config, PipelineError> {
        let file = &self.scheduler;
        let text = crate::limited::read_text(file).map_err(|source| PipelineError::Open {
            file: file.clone(),
            source,
        })?;
        Config::parse(&text, method).map_err(|source| PipelineError::Scheduler {
            file: file.clone(),
            source,
        })
    }

    /// Factor and offset of a channel of the latents before they are decoded, as diffusers has
    /// them.
    #[must_use]
    pub fn affine(&self, channel: usize) -> (f32, f32) {
        let of = |list: &[f32], usual: f32| list.get(channel).copied().unwrap_or(usual);
        let (mean, deviation) = match &self.normalised {
            Some((mean, deviation)) => (of(mean, 0.0), of(deviation, 1.0)),
            None => (0.0, 1.0),
        };
        (deviation / self.scaling_factor, mean + self.shift_factor)
    }

    /// Width and height to draw at: that of a control image cut to what UNets of four levels
    /// take, or what the model was trained at.
    #[must_use]
    pub fn size_for(&self, control: Option<&RgbImage>) -> (u32, u32) {
        if let Some((width, height)) = control.map(RgbImage::dimensions) {
            let whole = self.multiple();
            let round = |side: u32| (side / whole * whole).max(whole);
            return (round(width), round(height));
        }
        let trained = self.sample_size.and_then(|s| u32::try_from(s).ok());
        let side = trained.map_or(512, |s| s.saturating_mul(self.pixels()));
        (side, side)
    }

    /// Pixels that a value covers at the lowest level of a UNet of four levels: sides of
    /// pictures are multiples of it.
    #[must_use]
    pub fn multiple(&self) -> u32 {
        self.pixels() << (USUAL_LEVELS - 1)
    }

    /// Pixels that the side of a value of the latent covers.
    #[must_use]
    pub fn pixels(&self) -> u32 {
        u32::try_from(self.down_sampling).unwrap_or(8)
    }

    /// Tokens of an encoded prompt.
    ///
    /// # Errors
    /// [`PipelineError`] if the tokenizer cannot be read.
    pub fn tokens(&self) -> Result<usize, PipelineError> {
        let first = self.tokenizers.first().map(|f| Tokenizer::read(f));
        Ok(first.transpose()?.map_or(77, |t| t.length()))
    }

    /// Latent sizes of a picture, for analysis.
    #[must_use]
    pub fn sizes(&self, (width, height): (u32, u32), rows: usize, tokens: usize) -> Sizes {
        let step = self.down_sampling as u64;
        Sizes {
            batch: rows as u64,
            height: u64::from(height) / step,
            width: u64::from(width) / step,
            tokens: tokens as u64,
        }
    }
}

/// `latents_mean` and `latents_std`, which diffusers' SDXL pipelines use if both are there and
/// others do not.
fn normalisation(
    vae: &Vae,
    is_xl: bool,
    file: &Path,
    notes: &mut Vec<String>,
) -> Option<(Vec<f32>, Vec<f32>)> {
    match (&vae.latents_mean, &vae.latents_std) {
        (Some(mean), Some(deviation)) if is_xl => Some((mean.clone(), deviation.clone())),
        (None, None) => None,
        _ => {
            notes.push(format!(
                "{}: latents_mean and latents_std are not used, as in diffusers (they are where both \
                 are given and there are two text encoders)",
                file.display()
            ));
            None
        }
    }
}

/// The first of some configuration files that there is; the default where there is none.
pub(super) fn config<T: Default + for<'de> Deserialize<'de>>(
    files: &[PathBuf],
) -> Result<T, PipelineError> {
    for file in files {
        let found = read_json(file).map_err(|error| {
            let file = file.clone();
            match error {
                JsonError::Open(source) => PipelineError::Open { file, source },
                JsonError::Json(source) => PipelineError::Json { file, source },
            }
        });
        if let Some(found) = found? {
            return Ok(found);
        }
    }
    Ok(T::default())
}

/// The plan that a compiled UNet carries: a `plan.toml` beside it may be of anything.
fn plan(unet: &Path) -> Result<Option<Plan>, PipelineError> {
    let model = Model::read(unet)?;
    if !is_compiled(&model.proto) {
        return Ok(None);
    }
    let plan = compiled_plan(&model.proto).map_err(|source| PipelineError::Compiled {
        file: unet.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Some(plan))
}
