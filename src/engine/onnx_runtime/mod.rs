//! ONNX Runtime, loaded at run time from a shared library.

mod bound;
mod convert;
mod fixed;
mod library;
mod model;
mod provider;

use std::env;
use std::path::PathBuf;

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::Engine;
use super::backend::{Abilities, Backend, Model};
use super::error::{EngineError, Result};
use super::info::{EngineInfo, EngineKind, EngineRequest, Looked, Lookup};
use super::model::ModelSource;
use super::provider::Provider;
use super::session::SessionOptions;

pub use library::Place;

use library::{Candidate, Search};

/// The library, started.
#[derive(Debug)]
struct OnnxRuntime {
    environment: Environment,
}

impl Backend for OnnxRuntime {
    fn abilities(&self) -> Abilities {
        Abilities {
            profiles: true,
            repeats_bits: true,
            reads_data_beside_memory: true,
            prepares_at_load: true,
            decides_while_running: true,
        }
    }

    fn load(
        &self,
        info: &EngineInfo,
        source: &ModelSource,
        file: &str,
        options: &SessionOptions,
    ) -> Result<Box<dyn Model>> {
        let model = model::RuntimeModel::load(&self.environment, info, source, (file, options))?;
        Ok(Box::new(model))
    }
}

/// The first library that loads; none is no error where none was asked for by name. Adds where
/// it looked.
pub(super) fn open(request: &EngineRequest, looked: &mut Vec<Looked>) -> Result<Option<Engine>> {
    let search = Search::new(request.library.as_deref());
    for Candidate { path, place } in search.candidates {
        match library::try_load(&path) {
            Ok(version) => {
                looked.push(Looked {
                    path: path.clone(),
                    place,
                    outcome: Lookup::Used,
                });
                return start(request, path, version, std::mem::take(looked)).map(Some);
            }
            Err(reason) if place.is_request() => {
                let asked_by = place.name();
                return Err(EngineError::LibraryRejected {
                    path,
                    asked_by,
                    reason,
                });
            }
            Err(reason) => looked.push(Looked {
                path,
                place,
                outcome: Lookup::Rejected(reason),
            }),
        }
    }
    let nothing = |(path, place)| Looked {
        path,
        place,
        outcome: Lookup::Nothing,
    };
    looked.extend(search.empty.into_iter().map(nothing));
    Ok(None)
}

fn start(
    request: &EngineRequest,
    path: PathBuf,
    version: String,
    looked: Vec<Looked>,
) -> Result<Engine> {
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
    if let Some(plugin) = &request.plugin {
        let registered = environment.register_ep_library("hgc.plugin", plugin);
        registered.map_err(|source| EngineError::PluginRejected {
            path: plugin.clone(),
            source: Box::new(source),
        })?;
    }
    let has = |p: &Provider| provider::is_built_in(*p) || provider::is_plugged_in(&environment, *p);
    let info = EngineInfo {
        kind: EngineKind::OnnxRuntime,
        version,
        build: ort::info().to_owned(),
        providers: Provider::ALL.into_iter().filter(has).collect(),
        library: Some(path),
        looked,
        requested: request.clone(),
    };
    Ok(Engine {
        backend: Box::new(OnnxRuntime { environment }),
        info,
    })
}
