//! Running models: sessions, execution providers, cache state.
//!
//! Two engines stand behind one interface. ONNX Runtime is loaded at run time from
//! a shared library ([`library`] lists where it is looked for); where none is found,
//! an embedded engine in pure Rust runs the models whose operators it has, slower.
//! The interface pointer of the `ort` crate belongs to the process, so there is one
//! [`Engine`] per process: the first [`Engine::start`] decides.
//!
//! A [`Session`] runs any model, step by step, and keeps nothing between runs. A
//! [`CachedSession`] runs a rewritten model: it owns the step counter and the cached
//! values, so that a caller feeds the inputs of the original model and nothing else.
//! `docs/CALLERS.md` describes the same convention for callers in other languages.
//!
//! | | ONNX Runtime | embedded |
//! |---|---|---|
//! | providers | CPU, CUDA, TensorRT | CPU |
//! | cached values | stay on the device, one buffer as past and present where safe | moved in host memory |
//! | planning | when a model is loaded | at the first step of each pattern of gates, and of each size |
//! | cancelling | within a run | between runs |
//! | profiling | yes | no |
//!
//! The variable `HGC_ENGINE` forces one: `ort` makes a missing library an error,
//! `tract` uses the embedded engine even where a library is found.

mod bound;
mod cached;
mod cancel;
mod convert;
mod device;
mod embedded;
mod error;
pub mod library;
mod model;
mod moved;
mod provider;
mod runtime;
mod session;
mod state;
mod tensor;

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

pub use cached::CachedSession;
pub use cancel::CancelHandle;
pub use device::{DeviceTensor, Feed};
pub use error::{EngineError, Result};
pub use model::{Dim, ModelSource, ValueInfo};
pub use provider::{Provider, parse_option};
pub use session::{Optimization, Session, SessionOptions};
pub use tensor::{DType, Tensor, TensorError};

use library::{Candidate, Place, Search};

/// Version of the embedded engine, as pinned in Cargo.toml.
const EMBEDDED_VERSION: &str = "0.23.9";

/// Which engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// A shared library of ONNX Runtime.
    OnnxRuntime,
    /// The embedded pure-Rust engine.
    Embedded,
}

/// Which engine to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineRequest {
    /// The library of `--ort-lib`.
    pub library: Option<PathBuf>,
    /// Nothing but this kind will do.
    pub kind: Option<EngineKind>,
}

impl EngineRequest {
    /// The request of a command line: `--ort-lib` and the variable `HGC_ENGINE`.
    pub fn from_env(library: Option<PathBuf>) -> Result<Self> {
        let value = env::var("HGC_ENGINE").unwrap_or_default();
        let kind = match value.as_str() {
            "" => None,
            "ort" => Some(EngineKind::OnnxRuntime),
            "tract" => Some(EngineKind::Embedded),
            _ => return Err(EngineError::UnknownEngine { value }),
        };
        Ok(Self { library, kind })
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
    pub outcome: Outcome,
}

/// What came of looking at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
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
    requested: EngineRequest,
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

/// The engine of this process.
#[derive(Debug)]
pub struct Engine {
    /// `None` for the embedded engine.
    environment: Option<Environment>,
    info: EngineInfo,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

impl Engine {
    /// The engine of this process, started on the first call.
    ///
    /// A later call must be satisfied by the engine that runs; another library or
    /// kind than the running one is an error.
    pub fn start(request: &EngineRequest) -> Result<&'static Self> {
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = ENGINE.get() {
            return engine.satisfies(request).map(|()| engine);
        }
        let engine = Self::open(request)?;
        Ok(ENGINE.get_or_init(|| engine))
    }

    /// What is known about it.
    #[must_use]
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Which engine it is.
    #[must_use]
    pub fn kind(&self) -> EngineKind {
        self.info.kind
    }

    pub(crate) fn environment(&self) -> Option<&Environment> {
        self.environment.as_ref()
    }

    fn satisfies(&self, request: &EngineRequest) -> Result<()> {
        let same_kind = request.kind.is_none_or(|kind| kind == self.kind());
        let same_library = match (&request.library, &self.info.library) {
            (None, _) => true,
            (Some(_), _) if request.kind == Some(EngineKind::Embedded) => true,
            (Some(asked), Some(used)) => {
                self.info.requested.library.as_ref() == Some(asked) || same_file(asked, used)
            }
            (Some(_), None) => false,
        };
        if same_kind && same_library {
            return Ok(());
        }
        Err(EngineError::OneEngineOnly {
            running: self.info.to_string(),
            requested: request.to_string(),
        })
    }

    fn open(request: &EngineRequest) -> Result<Self> {
        if request.kind == Some(EngineKind::Embedded) {
            return Ok(Self::embedded(request, Vec::new()));
        }
        let search = Search::new(request.library.as_deref());
        let mut looked: Vec<Looked> = Vec::new();
        for Candidate { path, place } in search.candidates {
            match library::try_load(&path) {
                Ok(version) => {
                    looked.push(Looked {
                        path: path.clone(),
                        place,
                        outcome: Outcome::Used,
                    });
                    return Self::onnx_runtime(request, path, version, looked);
                }
                Err(reason) if place.is_request() => {
                    let asked_by = place.name();
                    return Err(EngineError::LibraryRejected {
                        path,
                        asked_by,
                        reason,
                    });
                }
                Err(reason) => {
                    looked.push(Looked {
                        path,
                        place,
                        outcome: Outcome::Rejected(reason),
                    });
                }
            }
        }
        let nothing = |(path, place)| Looked {
            path,
            place,
            outcome: Outcome::Nothing,
        };
        looked.extend(search.empty.into_iter().map(nothing));
        if request.kind == Some(EngineKind::OnnxRuntime) {
            let looked = looked
                .iter()
                .map(|l| l.path.display().to_string())
                .collect::<Vec<_>>();
            return Err(EngineError::LibraryNotFound {
                looked: looked.join(", "),
            });
        }
        Ok(Self::embedded(request, looked))
    }

    fn onnx_runtime(
        request: &EngineRequest,
        path: PathBuf,
        version: String,
        looked: Vec<Looked>,
    ) -> Result<Self> {
        let failed = |source| EngineError::Start {
            engine: format!("ONNX Runtime {version} (`{}`)", path.display()),
            source,
        };
        let builder = ort::init_from(&path).map_err(|e| failed(Box::new(e)))?;
        let environment = builder.with_name("hgc").with_telemetry(false).build();
        let environment = environment.map_err(|e| failed(Box::new(e)))?;
        // What goes wrong comes back as an error; the runtime need not print it too.
        if env::var_os("ORT_LOG").is_none() {
            environment.set_log_level(LogLevel::Fatal);
        }
        let info = EngineInfo {
            kind: EngineKind::OnnxRuntime,
            version,
            build: ort::info().to_owned(),
            providers: Provider::ALL
                .into_iter()
                .filter(|p| p.is_built_in())
                .collect(),
            library: Some(path),
            looked,
            requested: request.clone(),
        };
        Ok(Self {
            environment: Some(environment),
            info,
        })
    }

    fn embedded(request: &EngineRequest, looked: Vec<Looked>) -> Self {
        let info = EngineInfo {
            kind: EngineKind::Embedded,
            library: None,
            version: EMBEDDED_VERSION.to_owned(),
            build: format!("tract {EMBEDDED_VERSION}, pure Rust"),
            providers: vec![Provider::Cpu],
            looked,
            requested: request.clone(),
        };
        Self {
            environment: None,
            info,
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b || b.parent() == Some(a.as_path()),
        _ => a == b,
    }
}
