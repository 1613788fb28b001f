//! Sizes that the configuration files beside a model tell.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::analysis::shapes::Sizes;
use crate::limited::{JsonError, read_json};

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum SizesError {
    #[error("cannot open {}", file.display())]
    Open {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not the configuration file it should be", file.display())]
    Json {
        file: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}: {key} is {value}; it must be from 1 to {MOST}", file.display())]
    Range {
        file: PathBuf,
        key: &'static str,
        value: String,
    },
}

/// Largest side of a latent, and most tokens.
const MOST: u64 = 65_536;

/// What configuration files tell, each with the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Height and width of the latent: `sample_size` of the UNet.
    pub latent: Option<([u64; 2], PathBuf)>,
    /// Tokens of an encoded prompt: `max_position_embeddings` of the text encoder.
    pub tokens: Option<(u64, PathBuf)>,
}

impl Configured {
    /// Sizes for analysis: two rows, and the usual ones for what no file tells.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let usual = Sizes::default();
        let [height, width] = self
            .latent
            .as_ref()
            .map_or([usual.height, usual.width], |(sides, _)| *sides);
        Sizes {
            height,
            width,
            tokens: self.tokens.as_ref().map_or(usual.tokens, |(n, _)| *n),
            ..usual
        }
    }

    /// Reads the files beside `model`, a pipeline folder or an ONNX file in a part of one.
    ///
    /// # Errors
    /// [`SizesError`] naming a file that is there and cannot be used.
    pub fn of(model: &Path) -> Result<Self, SizesError> {
        let (part, pipeline) = if model.is_dir() {
            (model.join("unet"), model.to_owned())
        } else {
            let part = model.parent().unwrap_or(Path::new("")).to_owned();
            let pipeline = part.join("..");
            (part, pipeline)
        };
        let mut found = Self::default();
        let unet = pipeline.join("unet").join("config.json");
        for file in [part.join("config.json"), unet] {
            if found.latent.is_none()
                && let Some(config) = read(&file)?
            {
                let sides = sides(&config["sample_size"], &file)?;
                found.latent = sides.map(|sides| (sides, file));
            }
        }
        let file = pipeline.join("text_encoder").join("config.json");
        if let Some(config) = read(&file)? {
            let key = "max_position_embeddings";
            let tokens = number(&config[key], key, &file)?;
            found.tokens = tokens.map(|tokens| (tokens, file));
        }
        Ok(found)
    }
}

/// The file as JSON, if there is one.
fn read(file: &Path) -> Result<Option<Value>, SizesError> {
    read_json(file).map_err(|error| {
        let file = file.to_owned();
        match error {
            JsonError::Open(source) => SizesError::Open { file, source },
            JsonError::Json(source) => SizesError::Json { file, source },
        }
    })
}

/// One side for both, or height and width.
fn sides(value: &Value, file: &Path) -> Result<Option<[u64; 2]>, SizesError> {
    let key = "sample_size";
    match value.as_array().map(Vec::as_slice) {
        Some([height, width]) => {
            let (height, width) = (number(height, key, file)?, number(width, key, file)?);
            Ok(height.zip(width).map(|(h, w)| [h, w]))
        }
        _ => Ok(number(value, key, file)?.map(|side| [side, side])),
    }
}

fn number(value: &Value, key: &'static str, file: &Path) -> Result<Option<u64>, SizesError> {
    if !value.is_number() {
        return Ok(None);
    }
    match value.as_u64().filter(|n| (1..=MOST).contains(n)) {
        Some(number) => Ok(Some(number)),
        None => Err(SizesError::Range {
            file: file.to_owned(),
            key,
            value: value.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, text: &str) {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    #[test]
    fn folder_and_file_tell_the_same() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path();
        assert_eq!(Configured::of(path).unwrap(), Configured::default());
        put(path, "unet/config.json", r#"{"sample_size": [12, 16]}"#);
        put(path, "controlnet/config.json", r#"{"sample_size": null}"#);
        put(
            path,
            "text_encoder/config.json",
            r#"{"max_position_embeddings": 24}"#,
        );
        for model in ["", "unet/model.onnx", "controlnet/model.onnx"] {
            let found = Configured::of(&path.join(model)).unwrap();
            assert_eq!(found.latent.unwrap().0, [12, 16], "{model}");
            assert_eq!(found.tokens.unwrap().0, 24, "{model}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let home = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("{", "unet/config.json"),
            (r#"{"sample_size": 0}"#, "sample_size is 0"),
            (r#"{"sample_size": 1e30}"#, "it must be from 1"),
        ] {
            put(home.path(), "unet/config.json", text);
            let error = Configured::of(home.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
