//! Running models: sessions, execution providers, cache state.
//!
//! Two engines stand behind one interface. ONNX Runtime is loaded at run time from
//! a shared library ([`Place`] lists where it is looked for); where none is found,
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

pub(crate) mod adaptive;
mod backend;
mod cached;
mod cancel;
mod device;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod info;
mod kinds;
mod model;
mod onnx_runtime;
mod ports;
mod provider;
mod session;
mod state;
mod tensor;

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

pub use backend::Abilities;
pub use cached::CachedSession;
pub use cancel::CancelHandle;
pub use device::{DeviceTensor, Feed};
pub use error::{EngineError, Result};
pub use info::{EngineInfo, EngineKind, EngineRequest, Looked, Lookup};
pub use model::{Dim, ModelSource, ValueInfo};
pub use onnx_runtime::Place;
pub use provider::{Provider, parse_option};
pub use session::{Optimization, Session, SessionOptions};
pub use tensor::{DType, Tensor, TensorError};

use backend::{Backend, Model};

/// The engine of this process.
#[derive(Debug)]
pub struct Engine {
    backend: Box<dyn Backend>,
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

    /// What it can do besides running models.
    #[must_use]
    pub fn abilities(&self) -> Abilities {
        self.backend.abilities()
    }

    /// Loads a model; `file` names it in errors.
    fn load(
        &self,
        source: &ModelSource,
        file: &str,
        options: &SessionOptions,
    ) -> Result<Box<dyn Model>> {
        self.backend.load(&self.info, source, file, options)
    }

    fn satisfies(&self, request: &EngineRequest) -> Result<()> {
        let same_kind = request.kind.is_none_or(|kind| kind == self.info.kind);
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

    /// The first engine that is there, in order of speed.
    fn open(request: &EngineRequest) -> Result<Self> {
        let mut looked = Vec::new();
        if request.kind != Some(EngineKind::Embedded) {
            if let Some(engine) = onnx_runtime::open(request, &mut looked)? {
                return Ok(engine);
            }
            if request.kind.is_some() || cfg!(not(feature = "embedded")) {
                let paths = looked.iter().map(|l| l.path.display().to_string());
                return Err(EngineError::LibraryNotFound {
                    looked: paths.collect::<Vec<_>>().join(", "),
                });
            }
        }
        #[cfg(feature = "embedded")]
        return Ok(embedded::open(request, looked));
        #[cfg(not(feature = "embedded"))]
        Err(EngineError::NotBuilt)
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b || b.parent() == Some(a.as_path()),
        _ => a == b,
    }
}
