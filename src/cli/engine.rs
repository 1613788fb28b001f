//! Options that choose where models run.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hgc::unstable::compile::{Installed, Target};
use hgc::unstable::engine::{Engine, EngineRequest, Provider, parse_option};
use hgc::unstable::plan::parameter::WHOLE_BATCH;
use hgc::unstable::sidecar::FormName;

use super::terminal::{note, warn};

/// Engine, provider and their options.
#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// Execution provider: cpu, cuda, tensorrt, openvino or tensorrt-rtx
    #[arg(long, default_value = "cpu")]
    pub ep: Provider,
    /// Library of a provider that is a plugin (openvino, tensorrt-rtx)
    #[arg(long, value_name = "FILE")]
    pub ep_lib: Option<PathBuf>,
    /// Option of the provider, key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_option)]
    pub ep_option: Vec<(String, String)>,
    /// ONNX Runtime library to use
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
}

/// Starts the engine, with the library of `--ort-lib` if it is given.
pub fn start(library: Option<PathBuf>, plugin: Option<PathBuf>) -> anyhow::Result<&'static Engine> {
    let told = library
        .as_ref()
        .map(|l| format!("--ort-lib {}", l.display()));
    let request = EngineRequest {
        plugin,
        ..EngineRequest::from_env(library)?
    };
    let started = Engine::start(&request);
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
        let engine = start(self.ort_lib.clone(), self.ep_lib.clone())?;
        if let Some(notice) = engine.info().notice() {
            note(notice);
        }
        Ok(engine)
    }

    /// What models are compiled for that run here.
    pub fn target(&self) -> Target {
        match self.ep {
            Provider::Cpu => Target::Cpu,
            Provider::Cuda => Target::Cuda,
            Provider::TensorRt | Provider::TensorRtRtx => Target::TensorRt,
            Provider::OpenVino => Target::OpenVino,
        }
    }

    /// Says so where a compiled pipeline and the provider do not fit.
    pub fn warn_of(&self, folder: &Path) {
        let Ok(installed) = Installed::open(folder) else {
            return;
        };
        let (plan, form) = (&installed.plan, installed.form());
        let whole = plan.parameters.get(WHOLE_BATCH.name).map(String::as_str) == Some("true");
        match (self.ep, form) {
            (Provider::Cuda, _) if plan.changes_batch() => warn(
                "this plan runs half of the batch on some steps, and ONNX Runtime on \
                 CUDA plans every convolution anew when the batch changes, which takes longer than \
                 the step: compile with --target cuda",
            ),
            (Provider::TensorRt, FormName::Gated) if plan.changes_anything() => warn(
                "this pipeline has branches, which TensorRT may run both of, or leave to CUDA: \
                 compile with --target tensorrt",
            ),
            (Provider::Cpu, FormName::Gated) if whole => note(
                "compiled to run the whole batch on every step; on the CPU steps on half of it save \
                 more: --target cpu",
            ),
            _ => {}
        }
    }
}
