//! A UNet or ControlNet of a pipeline, original or compiled, fed by what its inputs mean.

use std::path::Path;

use super::PipelineError;
use crate::analysis::Analysis;
use crate::analysis::inputs::{InputKind, classify};
use crate::analysis::shapes::declare;
use crate::emit;
use crate::engine::{
    CachedSession, DeviceTensor, Engine, Feed, ModelSource, Session, SessionOptions, Tensor,
    ValueInfo,
};
use crate::graph::{Graph, ValueId};
use crate::onnx::Model;
use crate::onnx::proto::{ModelProto, TensorShapeProto, tensor_shape_proto};
use crate::plan::Schedule;
use crate::sidecar::{FormName, Sidecar};

/// Which graph of a file to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// As it is in the file.
    AsIs,
    /// Without caches: a compiled file is stripped first.
    Original,
}

/// A loaded UNet or ControlNet.
#[derive(Debug)]
pub struct Network {
    session: Runner,
    /// Inputs of the original graph, with what they mean.
    pub inputs: Vec<(ValueInfo, InputKind)>,
    /// Outputs of the original graph.
    pub outputs: Vec<ValueInfo>,
}

#[derive(Debug)]
enum Runner {
    Plain(Session),
    Cached(Box<CachedSession>),
}

impl Network {
    /// Loads a file.
    ///
    /// # Errors
    /// [`PipelineError`] if it cannot be read or loaded.
    pub fn open(
        engine: &'static Engine,
        path: &Path,
        version: Version,
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        let model = Model::read(path)?;
        let sidecar = Sidecar::beside(path)?;
        if sidecar.is_some_and(|s| s.form == FormName::Variants) && version == Version::AsIs {
            let source = ModelSource::File(path.to_owned());
            return Self::cached(engine, &model.proto, source, options);
        }
        let Ok(original) = emit::strip(&model.proto) else {
            let source = ModelSource::File(path.to_owned());
            return Self::plain(engine, &model.proto, source, options);
        };
        if version == Version::Original {
            let source = in_memory(path, &original)?;
            return Self::plain(engine, &original, source, options);
        }
        Self::cached(
            engine,
            &original,
            ModelSource::File(path.to_owned()),
            options,
        )
    }

    /// Loads a graph that was just rewritten, with weights from the folder of `path`.
    ///
    /// # Errors
    /// [`PipelineError`] if it cannot be loaded.
    pub fn compiled(
        engine: &'static Engine,
        path: &Path,
        original: &ModelProto,
        compiled: &ModelProto,
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        Self::cached(engine, original, in_memory(path, compiled)?, options)
    }

    /// Loads an original that shows these values of its graph as its outputs.
    ///
    /// # Errors
    /// [`PipelineError`] if it cannot be loaded.
    pub fn showing(
        engine: &'static Engine,
        (path, original): (&Path, &ModelProto),
        analysis: &Analysis<'_>,
        shown: &[ValueId],
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        let mut model = original.clone();
        if let Some(graph) = &mut model.graph {
            for value in shown.iter().skip(graph.output.len()) {
                let shape = analysis.shapes.get(*value);
                let open = tensor_shape_proto::Dimension::default();
                let dim = vec![open; shape.map_or(0, |s| s.dims.len())];
                let elem_type = shape.map_or(1, |s| s.elem_type);
                let name = analysis.graph.name(*value);
                let info = declare(name, elem_type, TensorShapeProto { dim });
                graph.output.push(info);
            }
        }
        let source = in_memory(path, &model)?;
        Self::plain(engine, &model, source, options)
    }

    fn plain(
        engine: &'static Engine,
        proto: &ModelProto,
        source: ModelSource,
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        let session = Session::load(engine, source, options)?;
        let (inputs, outputs) = declared(proto, &session);
        Ok(Self {
            inputs,
            outputs,
            session: Runner::Plain(session),
        })
    }

    fn cached(
        engine: &'static Engine,
        original: &ModelProto,
        source: ModelSource,
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        let cached = CachedSession::open(engine, source, options)?;
        let (inputs, outputs) = declared(original, cached.session());
        Ok(Self {
            inputs,
            outputs,
            session: Runner::Cached(Box::new(cached)),
        })
    }

    /// Begins a generation.
    ///
    /// # Errors
    /// [`PipelineError`] if the engine refuses.
    pub fn begin(&mut self) -> Result<(), PipelineError> {
        if let Runner::Cached(cached) = &mut self.session {
            cached.reset()?;
        }
        Ok(())
    }

    /// What a compiled model says of itself.
    pub fn sidecar(&self) -> Option<&Sidecar> {
        match &self.session {
            Runner::Plain(_) => None,
            Runner::Cached(cached) => cached.sidecar(),
        }
    }

    /// Evaluations that the network counts by itself.
    pub fn counts(&self) -> Option<usize> {
        match &self.session {
            Runner::Plain(_) => None,
            Runner::Cached(cached) => Some(cached.steps()),
        }
    }

    /// From now on follows this schedule.
    ///
    /// # Errors
    /// [`PipelineError`] if the network has no such kinds.
    pub fn follow(&mut self, schedule: &Schedule) -> Result<(), PipelineError> {
        match &mut self.session {
            Runner::Plain(_) => Ok(()),
            Runner::Cached(cached) => Ok(cached.follow(schedule)?),
        }
    }

    /// Kinds of the evaluations of this generation so far; none of an original.
    pub fn ran(&self) -> Vec<String> {
        let (Runner::Cached(cached), Some(sidecar)) = (&self.session, self.sidecar()) else {
            return Vec::new();
        };
        let kinds = cached.ran().iter().filter_map(|k| sidecar.kinds.get(*k));
        kinds.map(|k| k.name.clone()).collect()
    }

    /// Makes the next evaluation recompute everything.
    pub fn refresh_next(&mut self) {
        if let Runner::Cached(cached) = &mut self.session {
            cached.refresh_next();
        }
    }

    /// Evaluates the next step.
    ///
    /// # Errors
    /// [`PipelineError`] if the engine refuses.
    pub fn run(&mut self, feeds: &[(String, DeviceTensor)]) -> Result<Vec<Tensor>, PipelineError> {
        let read = |tensor: DeviceTensor| Ok(tensor.to_tensor()?);
        self.run_on_device(feeds)?.into_iter().map(read).collect()
    }

    /// Evaluates the next step and leaves the outputs where they are.
    ///
    /// # Errors
    /// [`PipelineError`] if the engine refuses.
    pub fn run_on_device(
        &mut self,
        feeds: &[(String, DeviceTensor)],
    ) -> Result<Vec<DeviceTensor>, PipelineError> {
        let given: Vec<(&str, Feed<'_>)> =
            feeds.iter().map(|(n, t)| (n.as_str(), t.into())).collect();
        let results = match &mut self.session {
            Runner::Plain(session) => session.run_on_device(&given)?,
            Runner::Cached(cached) => cached.run_on_device(&given)?,
        };
        Ok(results.into_iter().map(|(_, tensor)| tensor).collect())
    }

    /// Inputs of one meaning, in order.
    pub fn of_kind(&self, kind: InputKind) -> impl Iterator<Item = &ValueInfo> {
        self.inputs
            .iter()
            .filter(move |(_, k)| *k == kind)
            .map(|(info, _)| info)
    }
}

/// The inputs and outputs of the original graph, as the session declares them.
fn declared(
    original: &ModelProto,
    session: &Session,
) -> (Vec<(ValueInfo, InputKind)>, Vec<ValueInfo>) {
    let Some(proto) = &original.graph else {
        return (Vec::new(), Vec::new());
    };
    let graph = Graph::new(proto);
    let kinds = classify(&graph);
    let by_name = |name: &str| session.inputs().iter().find(|i| i.name == name).cloned();
    let inputs = graph
        .inputs()
        .iter()
        .zip(kinds)
        .filter_map(|(value, kind)| by_name(graph.name(*value)).map(|info| (info, kind)));
    let count = proto.output.len();
    (
        inputs.collect(),
        session.outputs().iter().take(count).cloned().collect(),
    )
}

fn in_memory(path: &Path, proto: &ModelProto) -> Result<ModelSource, PipelineError> {
    ModelSource::in_memory(proto, path).map_err(|source| PipelineError::Encode {
        file: path.to_owned(),
        source,
    })
}
