//! Finds and reads the models to compile: bare files or a pipeline folder.

use std::path::{Path, PathBuf};

use crate::onnx::{Model, ReadError};

/// Why inputs could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum InputError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "{folder} has no unet/model.onnx and is no folder of one model; give a pipeline folder \
         or ONNX files{}", meant(.folder)
    )]
    NoUnet { folder: PathBuf },
    #[error(
        "{folder} is a pipeline folder and brings its own ControlNets; leave the others out, or \
         give the UNet alone: {}", .folder.join("unet").display()
    )]
    ControlNetTwice { folder: PathBuf },
    #[error("{folder} holds {} ONNX files; name the one that is meant", .files.len())]
    Several {
        folder: PathBuf,
        files: Vec<PathBuf>,
    },
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
        let start = std::time::Instant::now();
        let inputs = if is_pipeline(model) {
            Self::read_pipeline(model, controlnets)?
        } else {
            Self::read_files(model, controlnets)?
        };
        for source in &inputs.sources {
            let graph = source.model.proto.graph.as_ref();
            tracing::info!(
                file = source.file(),
                nodes = graph.map(|g| g.node.len()),
                "read"
            );
        }
        tracing::debug!("all files read in {:.2?}", start.elapsed());
        Ok(inputs)
    }

    fn read_files(model: &Path, controlnets: &[PathBuf]) -> Result<Self, InputError> {
        let mut sources = Vec::new();
        for path in std::iter::once(model).chain(controlnets.iter().map(PathBuf::as_path)) {
            sources.push(Source {
                model: Model::read(&only_model(path)?)?,
                relative: None,
            });
        }
        Ok(Self {
            sources,
            pipeline: None,
        })
    }

    fn read_pipeline(folder: &Path, controlnets: &[PathBuf]) -> Result<Self, InputError> {
        let mut sources = Vec::new();
        for relative in networks_of(folder)? {
            let model = Model::read(&folder.join(&relative))?;
            sources.push(Source {
                model,
                relative: Some(relative),
            });
        }
        if sources.len() > 1 && !controlnets.is_empty() {
            let folder = folder.to_owned();
            return Err(InputError::ControlNetTwice { folder });
        }
        for (i, path) in controlnets.iter().enumerate() {
            let part = match i {
                0 => "controlnet".to_owned(),
                _ => format!("controlnet_{i}"),
            };
            sources.push(Source {
                model: Model::read(&only_model(path)?)?,
                relative: Some(Path::new(&part).join("model.onnx")),
            });
        }
        Ok(Self {
            sources,
            pipeline: Some(folder.to_owned()),
        })
    }
}

/// A folder with a UNet in its place.
fn is_pipeline(path: &Path) -> bool {
    path.is_dir() && model_of(path, "unet").is_some()
}

/// A file, or the model in the folder of one part of a pipeline.
fn only_model(path: &Path) -> Result<PathBuf, InputError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    if let Some(model) = model_of(path, "") {
        return Ok(path.join(model));
    }
    let folder = path.to_owned();
    match onnx_files(path) {
        files if files.len() > 1 => Err(InputError::Several { folder, files }),
        _ => Err(InputError::NoUnet { folder }),
    }
}

/// The pipeline in or around a folder that is none.
fn meant(folder: &Path) -> String {
    let inside = folder.read_dir().into_iter().flatten().flatten();
    let mut inside = inside.map(|e| e.path()).filter(|p| is_pipeline(p));
    let around = || folder.ancestors().skip(1).find(|p| is_pipeline(p));
    match inside.next().or_else(|| around().map(Path::to_owned)) {
        Some(pipeline) => format!("; do you mean {}?", pipeline.display()),
        None => String::new(),
    }
}

fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let files = entries.map(|e| PathBuf::from(e.file_name()));
    files
        .filter(|p| p.extension().is_some_and(|e| e == "onnx"))
        .collect()
}

/// A file, or the files of UNet and ControlNets of a pipeline folder.
///
/// # Errors
/// [`InputError`] if a folder has no UNet or cannot be listed.
pub fn models_of(path: &Path) -> Result<Vec<PathBuf>, InputError> {
    if !is_pipeline(path) {
        return Ok(vec![only_model(path)?]);
    }
    let models = networks_of(path)?.into_iter();
    Ok(models.map(|m| path.join(m)).collect())
}

/// UNet and ControlNets of a pipeline, as paths inside of it.
fn networks_of(pipeline: &Path) -> Result<Vec<PathBuf>, InputError> {
    let no_unet = || InputError::NoUnet {
        folder: pipeline.to_owned(),
    };
    let mut files = vec![model_of(pipeline, "unet").ok_or_else(no_unet)?];
    files.extend(controlnets_of(pipeline)?);
    Ok(files)
}

/// The model of a part of a pipeline, as a path inside of it: `model.onnx`, or the only
/// ONNX file in the part's folder.
#[must_use]
pub fn model_of(pipeline: &Path, part: &str) -> Option<PathBuf> {
    let folder = pipeline.join(part);
    let usual = Path::new(part).join("model.onnx");
    if pipeline.join(&usual).is_file() {
        return Some(usual);
    }
    match onnx_files(&folder).as_slice() {
        [only] => Some(Path::new(part).join(only)),
        _ => None,
    }
}

/// The models of all folders `controlnet*`, by name; numbers at the end count as numbers.
///
/// # Errors
/// [`InputError`] if the folder cannot be listed.
pub fn controlnets_of(pipeline: &Path) -> Result<Vec<PathBuf>, InputError> {
    let list = |source| InputError::List {
        folder: pipeline.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in pipeline.read_dir().map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        names.extend(
            name.into_string()
                .ok()
                .filter(|n| n.starts_with("controlnet")),
        );
    }
    names.sort_by_key(|name| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = name[stem.len()..].parse::<u64>().unwrap_or(0);
        (stem.to_owned(), number, name.clone())
    });
    Ok(names.iter().filter_map(|n| model_of(pipeline, n)).collect())
}
