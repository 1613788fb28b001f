//! Which engine is asked for, and what is known about the one that runs.

use std::env;
use std::fmt;
use std::path::PathBuf;

use super::error::{EngineError, Result};
use super::onnx_runtime::Place;
use super::provider::Provider;

/// Which engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// A shared library of ONNX Runtime.
    OnnxRuntime,
    /// The embedded pure-Rust engine.
    Embedded,
}

impl EngineKind {
    /// The name of it in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::Embedded => "embedded",
        }
    }
}

/// Which engine to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineRequest {
    /// The library of ONNX Runtime: a file, or a folder that holds one.
    pub library: Option<PathBuf>,
    /// Nothing but this kind will do.
    pub kind: Option<EngineKind>,
    /// The library of a plugin provider.
    pub plugin: Option<PathBuf>,
}

impl EngineRequest {
    /// What the environment asks for: a library that is given here, or else the variable
    /// `ORT_DYLIB_PATH`; a kind by the variable `HGC_ENGINE`.
    pub fn from_env(library: Option<PathBuf>) -> Result<Self> {
        let value = env::var("HGC_ENGINE").unwrap_or_default();
        let kind = match value.as_str() {
            "" => None,
            "ort" => Some(EngineKind::OnnxRuntime),
            "tract" => Some(EngineKind::Embedded),
            _ => return Err(EngineError::UnknownEngine { value }),
        };
        Ok(Self {
            library,
            kind,
            plugin: None,
        })
    }
}

impl fmt::Display for EngineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.library, self.kind) {
            (_, Some(EngineKind::Embedded)) => f.write_str("the embedded engine"),
            (Some(path), _) => write!(f, "ONNX Runtime from `{}`", path.display()),
            (None, _) => f.write_str("ONNX Runtime"),
        }
    }
}

/// A place that was looked at for a library.
#[derive(Clone, Debug)]
pub struct Looked {
    /// A library, or a folder that holds none.
    pub path: PathBuf,
    /// Why it was looked at.
    pub place: Place,
    /// What came of it.
    pub outcome: Lookup,
}

/// What came of looking at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The library was loaded.
    Used,
    /// There is a library, but it does not load.
    Rejected(String),
    /// There is none.
    Nothing,
}

/// What is known about the running engine.
#[derive(Clone, Debug)]
pub struct EngineInfo {
    /// Which engine it is.
    pub kind: EngineKind,
    /// The library, for ONNX Runtime.
    pub library: Option<PathBuf>,
    /// Its version.
    pub version: String,
    /// What it says about its build.
    pub build: String,
    /// The providers it was built with.
    pub providers: Vec<Provider>,
    /// Where a library was looked for, in order.
    pub looked: Vec<Looked>,
    pub(super) requested: EngineRequest,
}

impl EngineInfo {
    /// Engine and version, without the path of the library.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.library {
            Some(_) => format!("ONNX Runtime {}", self.version),
            None => format!("embedded engine (tract {})", self.version),
        }
    }

    /// A line for the user where the embedded engine runs only because no library
    /// was found; `None` otherwise.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        if self.kind == EngineKind::OnnxRuntime || self.requested.kind.is_some() {
            return None;
        }
        Some(
            "no ONNX Runtime library found: running on the embedded engine, which is slower \
             (`hgc doctor` says where it was looked for)"
                .to_owned(),
        )
    }
}

impl fmt::Display for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.library {
            Some(path) => write!(f, "ONNX Runtime {} (`{}`)", self.version, path.display()),
            None => write!(f, "the embedded engine (tract {})", self.version),
        }
    }
}
