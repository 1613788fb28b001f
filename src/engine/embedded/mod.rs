//! The embedded engine: tract, pure Rust, no library to install.

mod flat;
mod gemm;
mod model;
mod moved;
mod named_if;
mod program;

use super::Engine;
use super::backend::{self, Abilities, Backend};
use super::error::Result;
use super::info::{EngineInfo, EngineKind, EngineRequest, Looked};
use super::model::ModelSource;
use super::provider::Provider;
use super::session::SessionOptions;

/// Version of the embedded engine, as pinned in Cargo.toml.
const VERSION: &str = "0.23.9";

/// The engine; models hold all there is.
#[derive(Debug)]
struct Embedded;

impl Backend for Embedded {
    fn abilities(&self) -> Abilities {
        Abilities {
            profiles: false,
            repeats_bits: false,
            reads_data_beside_memory: false,
            prepares_at_load: false,
            decides_while_running: false,
        }
    }

    fn load(
        &self,
        _info: &EngineInfo,
        source: &ModelSource,
        file: &str,
        options: &SessionOptions,
    ) -> Result<Box<dyn backend::Model>> {
        let model = model::EmbeddedModel::load(file, source, options.optimization)?;
        Ok(Box::new(model))
    }
}

/// The embedded engine; it is always there.
pub(super) fn open(request: &EngineRequest, looked: Vec<Looked>) -> Engine {
    let info = EngineInfo {
        kind: EngineKind::Embedded,
        library: None,
        version: VERSION.to_owned(),
        build: format!("tract {VERSION}, pure Rust"),
        providers: vec![Provider::Cpu],
        looked,
        requested: request.clone(),
    };
    Engine {
        backend: Box::new(Embedded),
        info,
    }
}
