//! Options that choose where models run.

use std::path::PathBuf;

use anyhow::{Context, bail};
use hgc::unstable::engine::{Engine, EngineRequest, Provider, parse_option};
use hgc::unstable::plan::Plan;

use super::terminal::{note, warn};

/// Engine, provider and their options.
#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// Execution provider: cpu, cuda or tensorrt
    #[arg(long, default_value = "cpu")]
    pub ep: Provider,
    /// Option of the provider, key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_option)]
    pub ep_option: Vec<(String, String)>,
    /// ONNX Runtime library to use
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
}

/// Starts the engine, with the library of `--ort-lib` if it is given.
pub fn start(library: Option<PathBuf>) -> anyhow::Result<&'static Engine> {
    let told = library
        .as_ref()
        .map(|l| format!("--ort-lib {}", l.display()));
    let started = Engine::start(&EngineRequest::from_env(library)?);
    match told {
        Some(told) => started.context(told),
        None => Ok(started?),
    }
}

impl EngineArgs {
    /// Starts the engine and says so where it is not ONNX Runtime.
    pub fn start(&self) -> anyhow::Result<&'static Engine> {
        if let (Provider::Cpu, Some((key, _))) = (self.ep, self.ep_option.first()) {
            bail!("--ep-option {key}: the CPU provider takes no options; choose one with --ep")
        }
        let engine = start(self.ort_lib.clone())?;
        if let Some(notice) = engine.info().notice() {
            note(notice);
        }
        Ok(engine)
    }

    /// Says so where `plan` will be slow on the provider.
    pub fn warn_of(&self, plan: &Plan) {
        if self.ep == Provider::Cuda && plan.changes_batch() {
            warn(
                "this plan runs half of the batch on some steps, and ONNX Runtime on \
                 CUDA plans every convolution anew when the batch changes, which takes longer than \
                 the step: compile with --whole-batch for CUDA",
            );
        }
    }
}
