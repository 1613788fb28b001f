//! Execution providers of ONNX Runtime: which a library has, where they keep values.

use std::path::{Path, PathBuf};

use ort::device::Device;
use ort::environment::Environment;
use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider};
use ort::memory::{AllocationDevice, AllocatorType, DeviceType, MemoryInfo, MemoryType};
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};

use crate::engine::error::{EngineError, Result};
use crate::engine::info::EngineInfo;
use crate::engine::provider::Provider;

/// Whether the running library was built with it. Its own libraries (CUDA and
/// so on) are looked for only when a session is created.
pub(super) fn is_built_in(provider: Provider) -> bool {
    match provider {
        Provider::Cpu => true,
        Provider::Cuda => ep::CUDA::is_available().unwrap_or(false),
        Provider::TensorRt => ep::TensorRT::is_available().unwrap_or(false),
        Provider::OpenVino => ep::OpenVINO::is_available().unwrap_or(false),
        Provider::TensorRtRtx => false,
    }
}

/// Whether a plugin that was registered brings it.
pub(super) fn is_plugged_in(environment: &Environment, provider: Provider) -> bool {
    let name = provider.plugin();
    let mut devices = environment.devices();
    name.is_some() && devices.any(|d| d.ep().ok() == name)
}

/// The device that a provider keeps values on, and its number.
pub(super) fn device(
    provider: Provider,
    options: &[(String, String)],
) -> (AllocationDevice<'static>, i32) {
    let id = options.iter().rev().find(|(key, _)| key == "device_id");
    let id = id.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    match provider {
        // OpenVINO copies what it needs.
        Provider::Cpu | Provider::OpenVino => (AllocationDevice::CPU, 0),
        Provider::TensorRtRtx | Provider::Cuda | Provider::TensorRt => (AllocationDevice::CUDA, id),
    }
}

/// The memory of a device.
pub(super) fn memory(
    (device, id): (AllocationDevice<'static>, i32),
) -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)
}

/// Registers `provider` with a session of ONNX Runtime.
pub(super) fn register(
    builder: SessionBuilder,
    (environment, engine): (&Environment, &EngineInfo),
    provider: Provider,
    options: &[(String, String)],
) -> Result<SessionBuilder> {
    if provider != Provider::Cpu {
        preload_cuda(engine.library.as_deref());
    }
    let registered = match provider {
        // Without this the binding lets the runtime pick a device by policy.
        Provider::Cpu => builder.with_auto_device(AutoDevicePolicy::PreferCPU),
        Provider::Cuda => builder
            .with_execution_providers([configured(cuda(), options).build().error_on_failure()]),
        Provider::TensorRt => {
            let device: Vec<_> = options
                .iter()
                .filter(|(key, _)| key == "device_id")
                .cloned()
                .collect();
            let options = tensorrt(options, tensorrt_folder().as_deref());
            builder.with_execution_providers([
                configured(ep::TensorRT::default(), &options)
                    .build()
                    .error_on_failure(),
                configured(cuda(), &device).build().error_on_failure(),
            ])
        }
        // A runtime that has it built in: `onnxruntime-openvino`.
        Provider::OpenVino if is_built_in(provider) => {
            builder.with_execution_providers([configured(ep::OpenVINO::default(), options)
                .build()
                .error_on_failure()])
        }
        Provider::OpenVino | Provider::TensorRtRtx => {
            let (devices, options) = plugged(environment, provider, options);
            builder.with_devices(devices, Some(&options))
        }
    };
    registered.map_err(|e| EngineError::ProviderFailed {
        engine: engine.to_string(),
        provider: provider.name(),
        source: Box::new(ort::Error::<()>::from(e)),
    })
}

/// CUDA as it is by default here. The runtime's own default, EXHAUSTIVE, may compile engines while a
/// model runs, and a convolution is planned anew for every shape that it sees (onnxruntime issues 23006
/// and 22705); an option that is told goes before this.
fn cuda() -> ep::CUDA {
    ep::CUDA::default().with_arbitrary_config("cudnn_conv_algo_search", "HEURISTIC")
}

/// Options of TensorRT: an engine takes minutes to build, so engines and timings are kept in `folder`; what is
/// told goes before. The graphs of kinds are named after their content, so no engine is taken for another
/// (onnxruntime issue 32254).
fn tensorrt(told: &[(String, String)], folder: Option<&Path>) -> Vec<(String, String)> {
    let mut options = Vec::new();
    if let Some(folder) = folder {
        let path = folder.display().to_string();
        for what in ["engine", "timing"] {
            options.push((format!("trt_{what}_cache_enable"), "1".to_owned()));
            options.push((format!("trt_{what}_cache_path"), path.clone()));
        }
    }
    options.retain(|(key, _)| told.iter().all(|(other, _)| other != key));
    options.extend(told.iter().cloned());
    options
}

/// Where engines are kept: `hgc/tensorrt` in the user's folder of caches; none where it cannot be made.
fn tensorrt_folder() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let folder = set.and_then(absolute).or_else(home)?.join("hgc/tensorrt");
    std::fs::create_dir_all(&folder).ok().map(|()| folder)
}

/// The devices of a plugin, and its options as the runtime takes them. `device_type` chooses among
/// `cpu`, `gpu` and `npu`; without it OpenVINO runs on the CPU, all others on the GPU.
fn plugged<'e>(
    environment: &'e Environment,
    provider: Provider,
    options: &[(String, String)],
) -> (Vec<Device<'e>>, Vec<(String, String)>) {
    const CHOICE: &str = "device_type";
    let name = provider.plugin().unwrap_or_default();
    let told = options.iter().rev().find(|(key, _)| key == CHOICE);
    let told = told.map(|(_, value)| value.to_ascii_lowercase());
    let wanted = match (told.as_deref(), provider) {
        (Some("gpu"), _) => DeviceType::GPU,
        (Some("npu"), _) => DeviceType::NPU,
        (None, Provider::OpenVino) | (Some(_), _) => DeviceType::CPU,
        (None, _) => DeviceType::GPU,
    };
    let devices = environment
        .devices()
        .filter(|device| device.ep().ok() == Some(name) && device.hardware_device().ty() == wanted);
    let options = options.iter().filter(|(key, _)| key != CHOICE);
    let options = options.map(|(key, value)| (format!("{name}.{key}"), value.clone()));
    (devices.collect(), options.collect())
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
    fn engines_are_kept_unless_told_otherwise() {
        let told = [("trt_engine_cache_path".to_owned(), "/mine".to_owned())];
        let found = tensorrt(&told, Some(Path::new("/caches")));
        let of = |key: &str| {
            let mut values = found.iter().filter(|(k, _)| k == key);
            (values.next().map(|(_, v)| v.as_str()), values.count())
        };
        assert_eq!(of("trt_engine_cache_enable"), (Some("1"), 0));
        assert_eq!(of("trt_engine_cache_path"), (Some("/mine"), 0));
        assert_eq!(of("trt_timing_cache_path"), (Some("/caches"), 0));
        assert_eq!(tensorrt(&told, None), told);
    }
}
