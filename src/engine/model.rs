//! Where models come from, and what they declare.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::tensor::DType;
use crate::onnx::proto::ModelProto;
use crate::onnx::{encode_model, folder_of, without_links};

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// A file; external data is read from its folder.
    File(PathBuf),
    /// A serialized model in memory.
    Memory {
        /// What errors call it.
        name: String,
        /// The bytes of the model.
        bytes: Bytes,
        /// The folder of its external data (ONNX Runtime only).
        folder: Option<PathBuf>,
    },
}

impl ModelSource {
    /// A graph in memory whose external data lie beside `path`.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn in_memory(model: &ModelProto, path: &Path) -> std::io::Result<Self> {
        let (model, folder) = without_links(Cow::Borrowed(model), &folder_of(path));
        let mut bytes = Vec::new();
        encode_model(&model, &mut bytes)?;
        Ok(Self::Memory {
            name: path.display().to_string(),
            bytes: bytes.into(),
            folder: Some(folder),
        })
    }

    /// What errors call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Memory { name, .. } => name.clone(),
        }
    }
}

impl From<&Path> for ModelSource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_path_buf())
    }
}

impl From<PathBuf> for ModelSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&PathBuf> for ModelSource {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

/// A declared dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Given a name, or an expression of names.
    Symbol(String),
    /// Not declared.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A declared input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions.
    pub dims: Vec<Dim>,
}

impl ValueInfo {
    /// Whether a tensor of `shape` fits the declared dimensions.
    #[must_use]
    pub fn accepts(&self, shape: &[usize]) -> bool {
        self.dims.len() == shape.len()
            && self
                .dims
                .iter()
                .zip(shape)
                .all(|(d, n)| !matches!(d, Dim::Fixed(m) if m != n))
    }

    /// The dimensions, for messages.
    pub(super) fn dims_text(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(Dim::to_string).collect();
        format!("[{}]", dims.join(", "))
    }
}
