//! ONNX Runtime: loading and running a model.

use std::borrow::Cow;

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{OutputSelector, RunOptions, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, ValueType};

use super::error::{EngineError, Result};
use super::model::{Dim, ModelSource, ValueInfo};
use super::session::{Optimization, SessionOptions};
use super::tensor::Tensor;
use super::{EngineInfo, convert, provider};

/// Loads a model; `file` names it in errors.
pub(super) fn load(
    engine: &EngineInfo,
    environment: &Environment,
    source: &ModelSource,
    file: &str,
    options: &SessionOptions,
) -> Result<ort::session::Session> {
    let load = |source: ort::Error| EngineError::Load {
        file: file.to_owned(),
        source: Box::new(source),
    };
    let builder = ort::session::Session::builder(environment).map_err(load)?;
    let builder = provider::register(builder, engine, options.provider, &options.provider_options)?;
    configure(builder, options)
        .and_then(|b| commit(b, source))
        .map_err(load)
}

/// Runs a session and returns the outputs `names`; `all` says that they are all the
/// outputs there are.
pub(super) fn run(
    session: &mut ort::session::Session,
    inputs: &[(&str, &Tensor)],
    names: &[String],
    all: bool,
) -> ort::Result<Vec<(String, Tensor)>> {
    let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
    for &(name, tensor) in inputs {
        values.push((name.into(), convert::to_value(tensor)?.into()));
    }
    let selected = names
        .iter()
        .fold(OutputSelector::no_default(), |s, name| s.with(name));
    let options = RunOptions::new()?.with_outputs(selected);
    let mut results = match all {
        true => session.run(values)?,
        false => session.run_with_options(values, &options)?,
    };
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        tensors.push((
            name.clone(),
            convert::from_value(&take(&mut results, name)?)?,
        ));
    }
    Ok(tensors)
}

/// Takes the output `name` out of the results of a run.
pub(super) fn take(results: &mut SessionOutputs<'_>, name: &str) -> ort::Result<DynValue> {
    results
        .remove(name)
        .ok_or_else(|| ort::Error::new(format!("output `{name}` was not returned")))
}

fn configure(builder: SessionBuilder, options: &SessionOptions) -> ort::Result<SessionBuilder> {
    let mut builder = builder.with_optimization_level(match options.optimization {
        Optimization::Off => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::Default => GraphOptimizationLevel::All,
    })?;
    if options.no_memory_pattern {
        builder = builder.with_memory_pattern(false)?;
    }
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads)?;
    }
    if let Some(prefix) = &options.profile {
        builder = builder.with_profiling(prefix)?;
    }
    Ok(builder)
}

fn commit(mut builder: SessionBuilder, source: &ModelSource) -> ort::Result<ort::session::Session> {
    let (bytes, folder) = match source {
        ModelSource::File(path) => return builder.commit_from_file(path),
        ModelSource::Memory { bytes, folder, .. } => (bytes, folder),
    };
    if let Some(folder) = folder {
        let key = "session.model_external_initializers_file_folder_path";
        builder = builder.with_config_entry(key, folder.to_string_lossy())?;
    }
    builder.commit_from_memory(bytes)
}

/// A declared input or output.
pub(super) fn value_info(file: &str, name: &str, value_type: &ValueType) -> Result<ValueInfo> {
    let unsupported = || EngineError::UnsupportedType {
        file: file.to_owned(),
        value: name.to_owned(),
        found: value_type.to_string(),
    };
    let ValueType::Tensor {
        ty,
        shape,
        dimension_symbols,
    } = value_type
    else {
        return Err(unsupported());
    };
    let dtype = convert::dtype(*ty).ok_or_else(unsupported)?;
    let dims = shape
        .iter()
        .zip(dimension_symbols.iter())
        .map(
            |(&size, symbol)| match (usize::try_from(size), symbol.as_str()) {
                (Ok(size), _) => Dim::Fixed(size),
                (Err(_), "") => Dim::Unknown,
                (Err(_), symbol) => Dim::Symbol(symbol.to_owned()),
            },
        );
    Ok(ValueInfo {
        name: name.to_owned(),
        dtype,
        dims: dims.collect(),
    })
}
