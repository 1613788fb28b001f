//! Sizes that an export leaves open: as options say, as its configuration says, or assumed.

use std::path::Path;

use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::compile::Configured;

/// Options for sizes; each goes before what configuration files say.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SizeArgs {
    /// Rows of the latent; with guidance, twice the number of pictures
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Latent height, an eighth of the picture's [default: sample_size of the UNet's
    /// config.json, or 64]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65536))]
    height: Option<u64>,
    /// Latent width [default: as the height]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65536))]
    width: Option<u64>,
    /// Tokens of the encoded prompt [default: max_position_embeddings of the text encoder's
    /// config.json, or 77]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65536))]
    tokens: Option<u64>,
}

/// Sizes, and where they are from.
pub struct Known {
    /// The sizes.
    pub sizes: Sizes,
    latent_from: &'static str,
    tokens_from: &'static str,
}

impl SizeArgs {
    /// The sizes of `model`, a pipeline folder or an ONNX file.
    pub fn of(&self, model: &Path) -> anyhow::Result<Known> {
        let configured = Configured::of(model)?;
        let found = configured.sizes();
        let from = |told: bool, found: bool| match (told, found) {
            (true, _) => "as told",
            (false, true) => "config.json",
            (false, false) => "assumed",
        };
        Ok(Known {
            sizes: Sizes {
                batch: self.batch,
                height: self.height.unwrap_or(found.height),
                // One side that is told stands for both.
                width: self.width.or(self.height).unwrap_or(found.width),
                tokens: self.tokens.unwrap_or(found.tokens),
            },
            latent_from: from(
                self.height.or(self.width).is_some(),
                configured.latent.is_some(),
            ),
            tokens_from: from(self.tokens.is_some(), configured.tokens.is_some()),
        })
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sizes {
            batch,
            height,
            width,
            tokens,
        } = self.sizes;
        let (latent_from, tokens_from) = (self.latent_from, self.tokens_from);
        write!(
            f,
            "batch {batch}, latent {height}x{width} ({latent_from}), {tokens} tokens ({tokens_from})"
        )
    }
}
