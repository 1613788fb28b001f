//! Execution providers: where the nodes of a session run.
//!
//! A provider that was asked for and cannot be had is an error. Running on the CPU
//! instead would hide a wrong installation behind slow results.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};

use prost::Message;

use super::error::{EngineError, Result};
use super::model::ModelSource;
use super::session::{Session, SessionOptions};
use super::{Engine, EngineInfo};
use crate::onnx::make_node;
use crate::onnx::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};

/// An execution provider of ONNX Runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The CPU.
    #[default]
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT, with CUDA for what it does not take.
    TensorRt,
}

impl Provider {
    /// All providers hgc knows.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::TensorRt];

    /// The value of `--ep` that selects it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// Whether a profile names every node that ran. TensorRT runs many as one.
    #[must_use]
    pub fn profiles_nodes(self) -> bool {
        matches!(self, Self::Cpu | Self::Cuda)
    }

    /// Starts a session of a model that does nothing on this provider.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn try_on(self, engine: &Engine) -> Result<()> {
        let source = ModelSource::Memory {
            name: "a model that does nothing".to_owned(),
            bytes: nothing().encode_to_vec().into(),
            folder: None,
        };
        Session::load(engine, source, &SessionOptions::on(self, &[])).map(drop)
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::Cuda => {
                "install `onnxruntime-gpu` and give its library with --ort-lib, or use --ep cpu"
            }
            Self::TensorRt => {
                "install `onnxruntime-gpu` and `tensorrt<11` and give the library with --ort-lib, \
                 or use --ep cuda or --ep cpu"
            }
        }
    }

    /// Whether the running library was built with it. Its own libraries (CUDA and
    /// so on) are looked for only when a session is created.
    pub(super) fn is_built_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => ep::CUDA::is_available().unwrap_or(false),
            Self::TensorRt => ep::TensorRT::is_available().unwrap_or(false),
        }
    }

    /// The device that this provider keeps values on, and its number.
    pub(super) fn device(self, options: &[(String, String)]) -> (AllocationDevice<'static>, i32) {
        let id = options.iter().rev().find(|(key, _)| key == "device_id");
        let id = id.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        match self {
            Self::Cpu => (AllocationDevice::CPU, 0),
            Self::Cuda | Self::TensorRt => (AllocationDevice::CUDA, id),
        }
    }

    /// Where this provider keeps values.
    pub(super) fn memory(self, options: &[(String, String)]) -> ort::Result<MemoryInfo<'static>> {
        memory(self.device(options))
    }
}

/// The memory of a device.
pub(super) fn memory(
    (device, id): (AllocationDevice<'static>, i32),
) -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = EngineError;

    fn from_str(value: &str) -> Result<Self> {
        match value.to_ascii_lowercase().as_str() {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "tensorrt" | "trt" => Ok(Self::TensorRt),
            _ => Err(EngineError::UnknownProvider {
                value: value.to_owned(),
            }),
        }
    }
}

/// A model with one `Identity`.
fn nothing() -> ModelProto {
    const FLOAT: i32 = 1;
    let value = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(FLOAT),
                shape: Some(TensorShapeProto::default()),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    };
    let graph = GraphProto {
        name: Some("nothing".to_owned()),
        node: vec![make_node("Identity", "same", ["x"], ["y"])],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            version: Some(13),
            ..Default::default()
        }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// Parses the value of `--ep-option`, `key=value`.
pub fn parse_option(text: &str) -> Result<(String, String)> {
    let bad = || EngineError::BadProviderOption {
        value: text.to_owned(),
    };
    let (key, value) = text.split_once('=').ok_or_else(bad)?;
    if key.is_empty() || text.contains('\0') {
        return Err(bad());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Says what is missing where the engine does not have `provider`.
pub(super) fn check(engine: &EngineInfo, provider: Provider) -> Result<()> {
    if engine.providers.contains(&provider) {
        return Ok(());
    }
    let available = engine
        .providers
        .iter()
        .map(|p| p.name())
        .collect::<Vec<_>>();
    Err(EngineError::ProviderMissing {
        engine: engine.to_string(),
        provider: provider.name(),
        available: available.join(", "),
        advice: provider.advice(),
    })
}

/// Registers `provider` with a session of ONNX Runtime.
pub(super) fn register(
    builder: SessionBuilder,
    engine: &EngineInfo,
    provider: Provider,
    options: &[(String, String)],
) -> Result<SessionBuilder> {
    check(engine, provider)?;
    if provider != Provider::Cpu {
        preload_cuda(engine.library.as_deref());
    }
    let registered = match provider {
        // Without this the binding lets the runtime pick a device by policy.
        Provider::Cpu => builder.with_auto_device(AutoDevicePolicy::PreferCPU),
        Provider::Cuda => {
            builder.with_execution_providers([configured(ep::CUDA::default(), options)
                .build()
                .error_on_failure()])
        }
        Provider::TensorRt => {
            let device: Vec<_> = options
                .iter()
                .filter(|(key, _)| key == "device_id")
                .cloned()
                .collect();
            builder.with_execution_providers([
                configured(ep::TensorRT::default(), options)
                    .build()
                    .error_on_failure(),
                configured(ep::CUDA::default(), &device)
                    .build()
                    .error_on_failure(),
            ])
        }
    };
    registered.map_err(|e| EngineError::ProviderFailed {
        engine: engine.to_string(),
        provider: provider.name(),
        source: Box::new(ort::Error::<()>::from(e)),
    })
}

fn configured<E: ArbitrarilyConfigurableExecutionProvider>(
    provider: E,
    options: &[(String, String)],
) -> E {
    options.iter().fold(provider, |p, (key, value)| {
        p.with_arbitrary_config(key, value)
    })
}

/// Loads the CUDA, cuDNN and TensorRT libraries that Python wheels put beside
/// `library`, so that the provider finds them without `LD_LIBRARY_PATH`. What is
/// not there is left to the system loader, whose message the provider relays.
fn preload_cuda(library: Option<&Path>) {
    let Some(site) = library.and_then(|l| l.ancestors().find(|d| d.ends_with("site-packages")))
    else {
        return;
    };
    let folders = library_folders(site);
    let wanted = ep::cuda::CUDA_DYLIBS.iter().chain(ep::cuda::CUDNN_DYLIBS);
    for name in wanted.chain(&["libnvinfer.so.10", "libnvonnxparser.so.10"]) {
        let path = folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        if let Some(path) = path
            && let Err(error) = ort::util::preload_dylib(&path)
        {
            tracing::debug!(path = %path.display(), %error, "cannot preload");
        }
    }
}

/// `nvidia/*/lib` and `tensorrt_libs` of a site-packages folder.
fn library_folders(site: &Path) -> Vec<PathBuf> {
    let packages = std::fs::read_dir(site.join("nvidia"))
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<_> = packages.map(|package| package.path().join("lib")).collect();
    folders.sort();
    folders.push(site.join("tensorrt_libs"));
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_parse_from_their_names() {
        for provider in Provider::ALL {
            assert_eq!(provider.name().parse::<Provider>().unwrap(), provider);
        }
        assert!("gpu".parse::<Provider>().is_err());
    }

    #[test]
    fn options_need_a_key() {
        let (key, value) = parse_option("device_id=1").unwrap();
        assert_eq!((key.as_str(), value.as_str()), ("device_id", "1"));
        assert_eq!(parse_option("a=b=c").unwrap().1, "b=c");
        assert!(parse_option("=1").is_err());
        assert!(parse_option("device_id").is_err());
    }
}
