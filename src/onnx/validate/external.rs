//! External data: a regular file next to the model that is long enough. Files are looked up,
//! never opened, so a named pipe or a device cannot hang or hurt.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::onnx::external::{BadExternal, External};
use crate::onnx::proto::{ModelProto, TensorProto};
use crate::onnx::walk::{Place, each_tensor};

/// A reference to external data that does not hold or must not be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// No path is given.
    #[error("{file}: tensor {tensor} is external but says no location; export the model again")]
    NoLocation {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Offset or length is not a number of bytes.
    #[error(
        "{file}: tensor {tensor}: external {key} {value:?} is not a number of bytes; \
         export the model again"
    )]
    BadNumber {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// `offset` or `length`.
        key: String,
        /// What is there instead.
        value: String,
    },
    /// A key stands twice.
    #[error(
        "{file}: tensor {tensor}: external {key} is given twice, and readers differ in which one \
         they take; export the model again"
    )]
    Twice {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// `location`, `offset` or `length`.
        key: String,
    },
    /// The path is absolute.
    #[error(
        "{file}: tensor {tensor}: external location {location:?} is absolute; \
         data must be next to the model and be named relative to it"
    )]
    Absolute {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The path.
        location: String,
    },
    /// The path climbs out of the folder.
    #[error(
        "{file}: tensor {tensor}: external location {location:?} leads out of the model's \
         folder; data must be next to the model"
    )]
    Escapes {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The path.
        location: String,
    },
    /// The path has a NUL byte.
    #[error(
        "{file}: tensor {tensor}: external location {location:?} has a NUL byte; \
         the file is damaged or hostile"
    )]
    Nul {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The path.
        location: String,
    },
    /// A link on the path leads elsewhere.
    #[error(
        "{file}: tensor {tensor}: external location {location:?} is a link to {target}, which \
         is outside of the model's folder; replace the link by the file"
    )]
    LinkLeaves {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The path.
        location: String,
        /// Where it leads.
        target: PathBuf,
    },
    /// There is no such file.
    #[error(
        "{file}: tensor {tensor}: external data {data} does not exist; \
         put the data file next to the model"
    )]
    Missing {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The data file.
        data: PathBuf,
    },
    /// A folder, device, pipe or the like.
    #[error("{file}: tensor {tensor}: external data {data} is not a regular file; replace it")]
    NotAFile {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The data file.
        data: PathBuf,
    },
    /// The file cannot be looked up.
    #[error("{file}: tensor {tensor}: cannot look up external data {data}")]
    Lookup {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The data file.
        data: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data would end after the file.
    #[error(
        "{file}: tensor {tensor}: external data {data} has {size} bytes, but the tensor needs \
         {length} from {offset} on; the data file is cut short, download or export it again"
    )]
    PastEnd {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The data file.
        data: PathBuf,
        /// First byte.
        offset: u64,
        /// Bytes wanted.
        length: u64,
        /// Bytes in the file.
        size: u64,
    },
    /// The stated length is not what type and dimensions ask for.
    #[error(
        "{file}: tensor {tensor} with dimensions {dims:?} needs {expected} bytes but its \
         external length is {found}; export the model again"
    )]
    WrongLength {
        /// The model.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dimensions.
        dims: Vec<i64>,
        /// Bytes needed.
        expected: u64,
        /// Bytes stated.
        found: u64,
    },
}

/// Checks all references to external data of a model whose tensors are sound.
pub(super) fn validate_external(model: &ModelProto, file: &Path) -> Result<(), ExternalError> {
    let mut folder = Folder::new(file);
    each_tensor(model, &mut |place, tensor| {
        if !tensor.is_external() {
            return Ok(());
        }
        let reference = Reference {
            file,
            place,
            tensor,
        };
        reference.check(&mut folder)
    })
}

/// The folder of a model and what has been looked up in it.
struct Folder {
    dir: PathBuf,
    /// Where data may really be: the folder and, if the model is itself a link (as in download
    /// caches), the folder of its target.
    homes: Vec<PathBuf>,
    sizes: HashMap<String, u64>,
}

impl Folder {
    fn new(file: &Path) -> Self {
        let dir = crate::onnx::folder_of(file);
        let target = file.canonicalize().ok();
        let target = target.as_deref().and_then(Path::parent).map(Path::to_owned);
        Self {
            homes: dir.canonicalize().into_iter().chain(target).collect(),
            dir,
            sizes: HashMap::new(),
        }
    }
}

struct Reference<'a> {
    file: &'a Path,
    place: Place<'a>,
    tensor: &'a TensorProto,
}

impl Reference<'_> {
    fn check(&self, folder: &mut Folder) -> Result<(), ExternalError> {
        let at = External::parse(self.tensor).map_err(|e| self.unreadable(e))?;
        let size = match folder.sizes.get(&at.location) {
            Some(size) => *size,
            None => {
                self.location(&at.location)?;
                let size = self.look_up(folder, &at.location)?;
                folder.sizes.insert(at.location.clone(), size);
                size
            }
        };
        let expected = self.tensor.byte_len().unwrap_or(0);
        if let Some(found) = at.length.filter(|l| *l != expected) {
            return Err(ExternalError::WrongLength {
                file: self.file.to_owned(),
                tensor: self.label(),
                dims: self.tensor.dims.clone(),
                expected,
                found,
            });
        }
        let end = at.offset.checked_add(expected);
        if end.is_some_and(|end| end <= size) {
            return Ok(());
        }
        Err(ExternalError::PastEnd {
            file: self.file.to_owned(),
            tensor: self.label(),
            data: folder.dir.join(&at.location),
            offset: at.offset,
            length: expected,
            size,
        })
    }

    /// Rules on the text of a location, before anything is looked up.
    fn location(&self, location: &str) -> Result<(), ExternalError> {
        let file = self.file.to_owned();
        let (tensor, location) = (self.label(), location.to_owned());
        if location.contains('\0') {
            return Err(ExternalError::Nul {
                file,
                tensor,
                location,
            });
        }
        // A file made on one system must not mean something else on another.
        let drive = location.as_bytes().get(1) == Some(&b':');
        if location.starts_with(['/', '\\']) || drive || Path::new(&location).is_absolute() {
            return Err(ExternalError::Absolute {
                file,
                tensor,
                location,
            });
        }
        let climbs = Path::new(&location)
            .components()
            .any(|c| c == Component::ParentDir);
        if climbs || location.split(['/', '\\']).any(|part| part == "..") {
            return Err(ExternalError::Escapes {
                file,
                tensor,
                location,
            });
        }
        Ok(())
    }

    /// The size of the file at `location`, if it is one and within the folder.
    fn look_up(&self, folder: &Folder, location: &str) -> Result<u64, ExternalError> {
        let data = folder.dir.join(location);
        let failed = |source: io::Error| self.lookup_failed(&data, source);
        let target = data.canonicalize().map_err(failed)?;
        if !folder.homes.iter().any(|home| target.starts_with(home)) {
            return Err(ExternalError::LinkLeaves {
                file: self.file.to_owned(),
                tensor: self.label(),
                location: location.to_owned(),
                target,
            });
        }
        let meta = target.metadata().map_err(failed)?;
        if meta.is_file() {
            return Ok(meta.len());
        }
        Err(ExternalError::NotAFile {
            file: self.file.to_owned(),
            tensor: self.label(),
            data,
        })
    }

    fn lookup_failed(&self, data: &Path, source: io::Error) -> ExternalError {
        let (file, tensor, data) = (self.file.to_owned(), self.label(), data.to_owned());
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                ExternalError::Missing { file, tensor, data }
            }
            _ => ExternalError::Lookup {
                file,
                tensor,
                data,
                source,
            },
        }
    }

    fn unreadable(&self, bad: BadExternal) -> ExternalError {
        let (file, tensor) = (self.file.to_owned(), self.label());
        match bad {
            BadExternal::NoLocation => ExternalError::NoLocation { file, tensor },
            BadExternal::Twice { key } => ExternalError::Twice { file, tensor, key },
            BadExternal::BadNumber { key, value } => ExternalError::BadNumber {
                file,
                tensor,
                key,
                value,
            },
        }
    }

    fn label(&self) -> String {
        self.place.label(self.tensor)
    }
}
