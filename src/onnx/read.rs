//! Opening a model: map, decode, check. Weights stay where they are.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::external::folder_of;
use super::map::map_file;
use super::proto::ModelProto;
use super::validate::{GraphError, ValidateError, sort, validate};
use super::walk::each_tensor;
use super::wire::{self, Outline};
use crate::convention::is_compiled;

/// First line of the text file that stands for a large file in a Git repository.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// A decoded and checked model.
///
/// Inline weights are slices of the mapped file; external ones are references relative to
/// the folder of [`path`](Self::path).
#[derive(Clone, Debug)]
pub struct Model {
    /// The contents.
    pub proto: ModelProto,
    /// The file it came from.
    pub path: PathBuf,
}

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or mapped.
    #[error("{file}: cannot read the file")]
    Open {
        /// The model.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, device, pipe or the like.
    #[error("{file}: not a regular file; name the .onnx file itself")]
    NotAFile {
        /// The path.
        file: PathBuf,
    },
    /// Zero bytes.
    #[error("{file}: the file is empty; download or export it again")]
    Empty {
        /// The model.
        file: PathBuf,
    },
    /// A Git LFS pointer instead of the file.
    #[error("{file}: this is a Git LFS pointer, not the model; run `git lfs pull` to fetch it")]
    LfsPointer {
        /// The model.
        file: PathBuf,
    },
    /// Bytes that are no model.
    #[error("{file}: not an ONNX model; name the .onnx file itself")]
    NotOnnx {
        /// The file.
        file: PathBuf,
    },
    /// The file ends inside of a field.
    #[error(
        "{file}: the file is cut short: it has {size} bytes and needs at least {needed}; \
         download or export it again"
    )]
    Truncated {
        /// The model.
        file: PathBuf,
        /// Bytes there.
        size: u64,
        /// Bytes needed at least.
        needed: u64,
    },
    /// Graphs or types nested too deep.
    #[error(
        "{file}: the model is nested deeper than the 100 levels protobuf allows; \
         flatten its subgraphs"
    )]
    TooDeep {
        /// The model.
        file: PathBuf,
    },
    /// The outer structure is right, something inside is not.
    #[error("{file}: the model is damaged inside; download or export it again")]
    Malformed {
        /// The model.
        file: PathBuf,
        /// Where and how.
        source: prost::DecodeError,
    },
    /// A field that this tool does not know and would lose.
    #[error(
        "{file}: field {field} of {message} is unknown, so a rewrite would lose it; \
         use a newer hgc, or export the model for IR version 14 or older"
    )]
    UnknownField {
        /// The model.
        file: PathBuf,
        /// Message type that has it.
        message: &'static str,
        /// Number of the field.
        field: u32,
    },
    /// A compiled model that another tool made wrong.
    #[error(
        "{file}: the model was changed after hgc compiled it, by a tool that does not look into branches; \
         convert, optimise and quantise the original, then compile it"
    )]
    Changed {
        /// The model.
        file: PathBuf,
        /// What is wrong now.
        source: Box<ValidateError>,
    },
    /// A well-formed file with a wrong model in it.
    #[error(transparent)]
    Invalid(#[from] ValidateError),
}

impl Model {
    /// Opens the model at `path`. No weight is read, inline or external.
    ///
    /// # Errors
    /// If the file cannot be read, is no complete ONNX model, or the model is wrong in itself.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let file = || path.to_owned();
        let open = |source| ReadError::Open {
            file: path.to_owned(),
            source,
        };
        // Opening a named pipe would wait for ever.
        if !path.metadata().map_err(open)?.is_file() {
            return Err(ReadError::NotAFile { file: file() });
        }
        Self::from_bytes(map_file(path).map_err(open)?, path)
    }

    /// Decodes and checks a model whose bytes are, or could be, those of the file at `path`.
    ///
    /// # Errors
    /// If the bytes are no complete ONNX model or the model is wrong in itself.
    pub fn from_bytes(bytes: Bytes, path: &Path) -> Result<Self, ReadError> {
        let file = || path.to_owned();
        if bytes.is_empty() {
            return Err(ReadError::Empty { file: file() });
        }
        if bytes.starts_with(LFS_POINTER) {
            return Err(ReadError::LfsPointer { file: file() });
        }
        let proto = ModelProto::decode(bytes.clone()).map_err(|e| explain(e, &bytes, path))?;
        // Only a model that lost something, or was encoded oddly, has another length.
        if proto.encoded_len() != bytes.len()
            && let Some((message, field)) = wire::unknown_field(&bytes)
        {
            return Err(match wire::outline(&bytes) {
                Outline::Whole => ReadError::UnknownField {
                    file: file(),
                    message,
                    field,
                },
                _ => ReadError::NotOnnx { file: file() },
            });
        }
        Self::from_proto(proto, path)
    }

    /// Checks a model made in memory as if it were the file at `path`.
    ///
    /// ONNX wants nodes in topological order, but runtimes do not mind, and converters to half
    /// precision append the casts that they add: such a graph is brought into order.
    ///
    /// # Errors
    /// If the model is wrong in itself.
    pub fn from_proto(mut proto: ModelProto, path: &Path) -> Result<Self, ReadError> {
        let mut checked = validate(&proto, path);
        if let (Err(ValidateError::Graph(GraphError::Unsorted { .. })), Some(graph)) =
            (&checked, &mut proto.graph)
        {
            tracing::info!("the nodes of {} are not in order; sorted", path.display());
            sort(&mut graph.node);
            checked = validate(&proto, path);
        }
        checked.map_err(|source| match &source {
            ValidateError::Graph(_) if is_compiled(&proto) => ReadError::Changed {
                file: path.to_owned(),
                source: Box::new(source),
            },
            _ => ReadError::Invalid(source),
        })?;
        Ok(Self {
            proto,
            path: path.to_owned(),
        })
    }

    /// The files the model consists of: its own and those of its external data.
    pub fn files(&self) -> Vec<PathBuf> {
        let dir = folder_of(&self.path);
        let mut data = BTreeSet::new();
        // The visitor never fails.
        let _ = each_tensor::<()>(&self.proto, &mut |_, tensor| {
            data.extend(tensor.external().map(|e| dir.join(e.location)));
            Ok(())
        });
        std::iter::once(self.path.clone()).chain(data).collect()
    }
}

/// Says what decoding failed on in terms of the file.
fn explain(source: prost::DecodeError, bytes: &[u8], path: &Path) -> ReadError {
    let file = path.to_owned();
    // prost tells the cause in words only.
    if source.to_string().ends_with("recursion limit reached") {
        return ReadError::TooDeep { file };
    }
    match wire::outline(bytes) {
        Outline::Short { needed } => ReadError::Truncated {
            file,
            size: bytes.len() as u64,
            needed,
        },
        Outline::Foreign => ReadError::NotOnnx { file },
        Outline::Whole => ReadError::Malformed { file, source },
    }
}
