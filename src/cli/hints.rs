//! What to do about an error of the library, in the words of the command line.

use hgc::CompileError;
use hgc::unstable::compile::output::OutputError;
use hgc::unstable::measure::MeasureError;
use hgc::unstable::onnx::WriteError;
use hgc::unstable::pipeline::PipelineError;

/// What to do, if options can do something about it.
pub fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        of_write(cause.downcast_ref())
            .or_else(|| match cause.downcast_ref()? {
                OutputError::Write(error) => of_write(Some(error)),
                _ => None,
            })
            .or_else(|| match cause.downcast_ref()? {
                CompileError::Latent { .. } => Some("--height and --width give sizes"),
                _ => None,
            })
            .or_else(|| of_measure(cause.downcast_ref()))
            .or_else(|| of_pipeline(cause.downcast_ref()))
    })
}

fn of_write(error: Option<&WriteError>) -> Option<&'static str> {
    matches!(error?, WriteError::Exists { .. }).then_some("--force replaces it")
}

fn of_measure(error: Option<&MeasureError>) -> Option<&'static str> {
    Some(match error? {
        MeasureError::OddBatch { .. } => "--batch 2",
        MeasureError::Latent { .. } => "--height and --width give sizes",
        MeasureError::UnknownInput { .. } => "--height, --width and --tokens give sizes",
        MeasureError::NotFinite { .. } => "--seed 1 makes up other inputs",
        _ => return None,
    })
}

fn of_pipeline(error: Option<&PipelineError>) -> Option<&'static str> {
    Some(match error? {
        PipelineError::ControlImages { .. } => "give --control once for each ControlNet",
        PipelineError::Steps { .. } => "leave out --steps to take those of the plan",
        _ => return None,
    })
}
