//! From a prompt and a control image to a picture, by a pipeline folder of ONNX files.

mod denoise;
mod drawing;
mod feeds;
pub mod folder;
pub mod network;
mod networks;
pub mod picture;
mod text;
pub mod tokenizer;

use std::path::{Path, PathBuf};

pub use denoise::{Batch, Denoised, Loop, Row};
pub use drawing::Drawing;
pub use feeds::Step;
pub use folder::Folder;
pub use network::{Network, Version};
pub use networks::{Evaluator, Networks};
pub use text::{Encoded, encode, shortened};

use crate::compile::InputError;
use crate::emit::StripError;
use crate::engine::{Engine, EngineError, Session, SessionOptions, Tensor, TensorError};
use crate::onnx::{ReadError, WriteError};
use crate::sampler::SamplerError;
use crate::sidecar::SidecarError;

/// Why a pipeline cannot be read or run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum PipelineError {
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Input(#[from] Box<InputError>),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] Box<WriteError>),
    #[error("{path} is not a folder; give a pipeline folder, with unet/model.onnx and the rest in it", path = path.display())]
    NotAFolder { path: PathBuf },
    #[error("{folder} has no {part}, which a picture needs; export the whole pipeline", folder = folder.display())]
    Missing { folder: PathBuf, part: String },
    #[error("{file}: not the configuration file it should be", file = file.display())]
    Json {
        file: PathBuf,
        source: serde_json::Error,
    },
    #[error("{file}", file = file.display())]
    Compiled {
        file: PathBuf,
        source: Box<StripError>,
    },
    #[error("{folder} has neither tokenizer.json nor vocab.json and merges.txt", folder = folder.display())]
    NoTokenizer { folder: PathBuf },
    #[error("{file}: {reason}", file = file.display())]
    Tokenizer { file: PathBuf, reason: String },
    #[error("{file}", file = file.display())]
    Scheduler { file: PathBuf, source: SamplerError },
    #[error("cannot open {file}", file = file.display())]
    Open {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{file} is not a picture that can be read or written (PNG, JPEG)", file = file.display())]
    Picture {
        file: PathBuf,
        source: image::ImageError,
    },
    #[error(
        "{file} gives states of {found} tokens, the first text encoder of {expected}; both \
         tokenizers must have the same model_max_length", file = file.display()
    )]
    Tokens {
        file: PathBuf,
        found: usize,
        expected: usize,
    },
    #[error("the VAE gave a tensor of shape {shape:?}, not pictures [B, 3, H, W]")]
    NotAPicture { shape: Vec<usize> },
    #[error(
        "{file} gave values that are not finite{place}; if it is an fp16 export, try the fp32 one", file = file.display()
    )]
    NotFinite { file: PathBuf, place: String },
    #[error("{file}: the graph could not be written", file = file.display())]
    Encode {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{file} has no {what} input or output; is it a {role}?", file = file.display())]
    NotThis {
        file: PathBuf,
        what: &'static str,
        role: &'static str,
    },
    #[error(
        "{file}: input {name:?} is not one that a pipeline knows how to feed",
        file = file.display()
    )]
    UnknownInput { file: PathBuf, name: String },
    #[error(
        "the UNet takes {unet} residuals, the ControlNets give {found}; they do not belong together"
    )]
    Residuals { unet: usize, found: usize },
    #[error(
        "the pipeline takes {controlnets} control images, one for each ControlNet, and {images} were \
         given"
    )]
    ControlImages { controlnets: usize, images: usize },
    #[error(
        "the pipeline was compiled for {planned} steps, {asked} were asked for; ask for \
         {planned}, or compile again for {asked}"
    )]
    Steps { planned: usize, asked: usize },
    #[error("{what}")]
    Refused { what: String },
}

/// Decodes latents `[B, C, h, w]` to pictures, one row after the other: the decoder takes
/// more memory than the UNet.
///
/// # Errors
/// [`PipelineError`] if the decoder refuses.
pub fn decode(
    engine: &'static Engine,
    folder: &Folder,
    options: &SessionOptions,
    latents: &[Tensor],
) -> Result<Vec<image::RgbImage>, PipelineError> {
    let mut session = Session::load(engine, &folder.vae_decoder, &options.clone().uncaptured())?;
    let missing = || PipelineError::NotThis {
        file: folder.vae_decoder.clone(),
        what: "latent",
        role: "VAE decoder",
    };
    let input = session.inputs().first().ok_or_else(missing)?.clone();
    let mut pictures = Vec::new();
    for batch in latents {
        let [rows, channels, height, width] = *batch.shape() else {
            return Err(missing());
        };
        let values = batch.to_f32();
        let row = channels * height * width;
        if let Some((mean, deviation)) = &folder.normalised
            && (mean.len() != channels || deviation.len() != channels)
        {
            let what = format!(
                "latents_mean and latents_std of the VAE have {} and {} numbers for {channels} \
                 channels",
                mean.len(),
                deviation.len()
            );
            return Err(PipelineError::Refused { what });
        }
        for i in 0..rows {
            let one: Vec<f32> = values[i * row..(i + 1) * row]
                .chunks(height * width)
                .enumerate()
                .flat_map(|(channel, values)| {
                    let (factor, offset) = folder.affine(channel);
                    values.iter().map(move |v| v * factor + offset)
                })
                .collect();
            let shape = [1, channels, height, width];
            let tensor = Tensor::from_f32_as(input.dtype, &shape, &one)?;
            let results = session.run(&[(&input.name, &tensor)], None)?;
            let (_, decoded) = results.first().ok_or_else(missing)?;
            pictures.extend(picture::from_tensor(decoded, &folder.vae_decoder)?);
        }
    }
    Ok(pictures)
}

/// Not-a-number would become black, and black pictures are all alike.
fn check_finite(
    values: &[f32],
    file: &Path,
    place: impl FnOnce() -> String,
) -> Result<(), PipelineError> {
    if values.iter().all(|v| v.is_finite()) {
        return Ok(());
    }
    Err(PipelineError::NotFinite {
        file: file.to_owned(),
        place: place(),
    })
}
