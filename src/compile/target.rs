//! Where compiled models will run: it decides their form, and whether they may change the batch.

use std::fmt;
use std::str::FromStr;

use super::OutputForm;
use crate::nearest::suggestion;
use crate::plan::parameter::{Parameters, Value, WHOLE_BATCH};

/// A runtime's execution provider, or a family of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// What is slower than the original nowhere: gated, every step on the whole batch.
    #[default]
    Any,
    /// ONNX Runtime on the CPU: steps on half of the batch pay.
    Cpu,
    /// ONNX Runtime on CUDA. It plans a convolution anew when its shape changes (onnxruntime issue
    /// 23006), so the batch does not.
    Cuda,
    /// `TensorRT`, as a provider or by itself: an engine a kind, with fixed shapes.
    TensorRt,
    /// `OpenVINO`: an `If` over dynamic ranks is refused.
    OpenVino,
    /// `DirectML`: control flow falls back to the CPU.
    DirectMl,
    /// `CoreML`: no control flow.
    CoreMl,
    /// Qualcomm's `QNN`: no control flow, fixed shapes.
    Qnn,
    /// AMD's `MIGraphX`: branches must agree in shape.
    MiGraphX,
    /// WebGPU: runs `If` itself.
    WebGpu,
}

/// A target that is none.
#[derive(Debug, thiserror::Error)]
#[error("there is no target {name:?}{}; there are {}", suggestion(.name, Target::names()), Target::names().join(", "))]
pub struct UnknownTarget {
    name: String,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Any,
        Self::Cpu,
        Self::Cuda,
        Self::TensorRt,
        Self::OpenVino,
        Self::DirectMl,
        Self::CoreMl,
        Self::Qnn,
        Self::MiGraphX,
        Self::WebGpu,
    ];

    /// Its name, as it is given and printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::DirectMl => "directml",
            Self::CoreMl => "coreml",
            Self::Qnn => "qnn",
            Self::MiGraphX => "migraphx",
            Self::WebGpu => "webgpu",
        }
    }

    fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|t| t.name()).collect()
    }

    /// How models are written for it.
    #[must_use]
    pub fn form(self) -> OutputForm {
        match self {
            Self::Any | Self::Cpu | Self::Cuda | Self::WebGpu => OutputForm::Gated,
            Self::TensorRt
            | Self::OpenVino
            | Self::DirectMl
            | Self::CoreMl
            | Self::Qnn
            | Self::MiGraphX => OutputForm::Variants { fixed: true },
        }
    }

    /// The most kinds of evaluations: each is a file of its own, and an engine to build.
    #[must_use]
    pub fn kinds(self) -> Option<usize> {
        match self.form() {
            OutputForm::Gated => None,
            OutputForm::Variants { .. } => Some(4),
        }
    }

    /// Whether a step on half of the batch takes less time than one on all of it.
    #[must_use]
    pub fn halves(self) -> bool {
        self == Self::Cpu
    }

    /// Parameters of policies as they are best for it, where nobody tells others.
    #[must_use]
    pub fn parameters(self, base: Parameters) -> Parameters {
        match self.halves() {
            true => base,
            false => base.with(&WHOLE_BATCH, Value::Flag(true)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        let found = Self::ALL.iter().find(|t| t.name() == text);
        found.copied().ok_or_else(|| UnknownTarget {
            name: text.to_owned(),
        })
    }
}
