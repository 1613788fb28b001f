//! Finds and reads the models to compile: bare files or a pipeline folder.

use std::path::{Path, PathBuf};

use crate::onnx::{Model, ReadError};

/// Why inputs could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InputError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{folder} has no unet/model.onnx; give a pipeline folder or ONNX files")]
    NoUnet { folder: PathBuf },
    #[error("{folder} is a pipeline folder and brings its own ControlNets; leave out --controlnet")]
    ControlNetTwice { folder: PathBuf },
    #[error("cannot list {folder}")]
    List {
        folder: PathBuf,
        source: std::io::Error,
    },
}

/// One model to compile.
pub struct Source {
    /// The model, mapped.
    pub model: Model,
    /// Path inside the pipeline folder; none for a bare file.
    pub relative: Option<PathBuf>,
}

impl Source {
    /// The path for messages.
    #[must_use]
    pub fn file(&self) -> String {
        self.model.path.display().to_string()
    }
}

/// The models of one run, UNet first.
pub struct Inputs {
    /// The models.
    pub sources: Vec<Source>,
    /// The pipeline folder, if one was given.
    pub pipeline: Option<PathBuf>,
}

impl Inputs {
    /// Reads `model` (a file or a pipeline folder) and bare `controlnets`.
    ///
    /// # Errors
    /// [`InputError`] naming the file.
    pub fn read(model: &Path, controlnets: &[PathBuf]) -> Result<Self, InputError> {
        if model.is_dir() {
            if !controlnets.is_empty() {
                return Err(InputError::ControlNetTwice {
                    folder: model.to_owned(),
                });
            }
            return Self::read_pipeline(model);
        }
        let mut sources = Vec::new();
        for path in std::iter::once(model).chain(controlnets.iter().map(PathBuf::as_path)) {
            sources.push(Source {
                model: Model::read(path)?,
                relative: None,
            });
        }
        Ok(Self {
            sources,
            pipeline: None,
        })
    }

    fn read_pipeline(folder: &Path) -> Result<Self, InputError> {
        let unet = PathBuf::from("unet").join("model.onnx");
        if !folder.join(&unet).is_file() {
            return Err(InputError::NoUnet {
                folder: folder.to_owned(),
            });
        }
        let mut files = vec![unet];
        files.extend(controlnet_files(folder)?);
        let mut sources = Vec::new();
        for relative in files {
            let model = Model::read(&folder.join(&relative))?;
            sources.push(Source {
                model,
                relative: Some(relative),
            });
        }
        Ok(Self {
            sources,
            pipeline: Some(folder.to_owned()),
        })
    }
}

/// `controlnet*/model.onnx`, in order of name.
fn controlnet_files(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let list = |source| InputError::List {
        folder: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in folder.read_dir().map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        let relative = PathBuf::from(&name).join("model.onnx");
        let is_controlnet = name.to_str().is_some_and(|n| n.starts_with("controlnet"));
        if is_controlnet && folder.join(&relative).is_file() {
            files.push(relative);
        }
    }
    files.sort();
    Ok(files)
}
