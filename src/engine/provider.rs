//! Execution providers: where the nodes of a session run.
//!
//! A provider that was asked for and cannot be had is an error. Running on the CPU
//! instead would hide a wrong installation behind slow results.

use std::fmt;
use std::str::FromStr;

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
    /// Intel `OpenVINO`, built in or a plugin, with the CPU for what it does not take.
    OpenVino,
    /// NVIDIA `TensorRT` for RTX, a plugin.
    TensorRtRtx,
}

impl Provider {
    /// All providers hgc knows.
    pub const ALL: [Self; 5] = [
        Self::Cpu,
        Self::Cuda,
        Self::TensorRt,
        Self::OpenVino,
        Self::TensorRtRtx,
    ];

    /// Its name, as it is given and printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::TensorRtRtx => "tensorrt-rtx",
        }
    }

    /// What a plugin calls itself, where the provider is one.
    #[must_use]
    pub fn plugin(self) -> Option<&'static str> {
        match self {
            Self::Cpu | Self::Cuda | Self::TensorRt => None,
            Self::OpenVino => Some("OpenVINOExecutionProvider"),
            Self::TensorRtRtx => Some("NvTensorRTRTXExecutionProvider"),
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
                "install `onnxruntime-gpu` and set ORT_DYLIB_PATH to its library, or use the provider cpu"
            }
            Self::TensorRt => {
                "install `onnxruntime-gpu` and `tensorrt<11` and set ORT_DYLIB_PATH to the library, \
                 or use the provider cuda or cpu"
            }
            Self::OpenVino => {
                "install `onnxruntime-openvino` and set ORT_DYLIB_PATH to its library; on hardware by Intel \
                 the plugin `onnxruntime-ep-openvino` will do: name its library, \
                 `libonnxruntime_providers_openvino_plugin.so`"
            }
            Self::TensorRtRtx => {
                "it is a plugin: install `onnxruntime-ep-nv-tensorrt-rtx-cu13` and name its library"
            }
        }
    }
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
            "openvino" => Ok(Self::OpenVino),
            "tensorrt-rtx" => Ok(Self::TensorRtRtx),
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

/// Parses an option of a provider, `key=value`.
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
