//! A rewritten model's inputs and outputs by what they are for.

use super::error::{EngineError, Result};
use super::kinds::KindSessions;
use super::model::{Dim, ValueInfo};
use super::session::Session;
use super::tensor::DType;
use crate::convention::{PAST_PREFIX, PRESENT_PREFIX, STEP, key, present as present_name};
use crate::plan::Schedule;
use crate::plan::flow::Flow;
use crate::sidecar::Sidecar;

/// A cached value: an input and the output that feeds it.
#[derive(Clone, Debug)]
pub(super) struct CachePort {
    pub past: ValueInfo,
    pub present: ValueInfo,
    /// Whether past and present may share one buffer.
    pub in_place: bool,
}

/// Inputs and outputs of a rewritten model, sorted by what they are for.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub steps: usize,
    pub sites: Vec<CachePort>,
    /// The inputs of the original model.
    pub inputs: Vec<ValueInfo>,
    /// The outputs of the original model, in order.
    pub outputs: Vec<ValueInfo>,
    /// Names of inputs that the caches rely on.
    pub constants: Vec<String>,
    /// What its kinds do; none in models of an older compiler.
    pub description: Option<Box<Description>>,
}

/// The kinds of a rewritten model and what may follow what.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub sidecar: Sidecar,
    pub flow: Flow,
    /// Kind and row of each evaluation that is counted.
    pub counted: Vec<(usize, usize)>,
}

impl Description {
    /// Reads the description inside a model; the schedules of the one beside it go first.
    fn of(session: &Session, beside: Option<Sidecar>) -> std::result::Result<Option<Self>, String> {
        let Some(text) = session.metadata(key::MODEL) else {
            return Ok(None);
        };
        let sidecar = Sidecar::parse(&text, session.file()).map_err(|e| e.to_string())?;
        let mut description = Self::new(sidecar);
        if let Some(other) = beside {
            let own = &description.sidecar;
            if (&other.graph, &other.kinds, &other.states) != (&own.graph, &own.kinds, &own.states)
            {
                return Err("the hgc.json beside it describes another model".to_owned());
            }
            description.sidecar.schedules = other.schedules;
        }
        Ok(Some(description))
    }

    /// Of a sidecar whose first schedule is the one that is counted.
    fn new(sidecar: Sidecar) -> Self {
        let counted = sidecar.schedules.first().into_iter().flat_map(|schedule| {
            let kinds = schedule.kinds.iter().enumerate();
            kinds.filter_map(|(e, name)| Some((sidecar.kind(name)?, schedule.row(e))))
        });
        Self {
            counted: counted.collect(),
            flow: sidecar.flow(),
            sidecar,
        }
    }

    /// The kind, and the row of the weights, that the value of `hgc.step` stands for.
    pub fn named(&self, step: i64) -> Option<(usize, usize)> {
        match usize::try_from(step) {
            Ok(counted) => self.counted.get(counted).copied(),
            Err(_) => self.sidecar.named(step),
        }
    }

    /// The kind alone.
    pub fn kind(&self, step: i64) -> Option<usize> {
        self.named(step).map(|(kind, _)| kind)
    }
}

impl Ports {
    /// Reads the convention off a loaded model, `beside` which its sidecar may lie.
    pub fn of(session: &Session, beside: Option<Sidecar>) -> Result<Self> {
        let file = session.file();
        let broken = |problem: String| EngineError::Convention {
            file: file.to_owned(),
            problem,
        };
        let Some(step) = session.inputs().iter().find(|v| v.name == STEP) else {
            return Err(EngineError::NotRewritten {
                file: file.to_owned(),
            });
        };
        if step.dtype != DType::I64 || !step.dims.is_empty() {
            return Err(broken(format!("`{STEP}` is no int64 scalar")));
        }
        let text = session.metadata(key::STEPS).unwrap_or_default();
        let steps = text.trim().parse().ok().filter(|&n: &usize| n > 0);
        let steps = steps.ok_or_else(|| {
            broken(format!(
                "metadata `{}` is `{text}`, not a number of steps",
                key::STEPS
            ))
        })?;
        let mut ports = Self {
            steps,
            sites: sites(session).map_err(broken)?,
            inputs: session.inputs().to_vec(),
            outputs: session.outputs().to_vec(),
            constants: lines(session, key::CONSTANT_INPUTS),
            description: Description::of(session, beside)
                .map_err(broken)?
                .map(Box::new),
        };
        let own = |name: &str| name == STEP || name.starts_with(PAST_PREFIX);
        ports.inputs.retain(|v| !own(&v.name));
        ports
            .outputs
            .retain(|v| !v.name.starts_with(PRESENT_PREFIX));
        let known = |name: &String| ports.inputs.iter().any(|v| v.name == *name);
        let optional = |name: &String| session.optional_inputs().iter().any(|v| v.name == *name);
        if let Some(name) = ports.constants.iter().find(|n| !known(n) && !optional(n)) {
            let key = key::CONSTANT_INPUTS;
            return Err(broken(format!(
                "metadata `{key}` names `{name}`, which is no input"
            )));
        }
        Ok(ports)
    }

    /// Of a set of variants: what the start takes and gives but for cached values.
    pub fn of_variants(sessions: &KindSessions, sidecar: Sidecar) -> Self {
        let start = sessions.start();
        let mut ports = Self {
            steps: sidecar.schedules.first().map_or(0, Schedule::evaluations),
            sites: Vec::new(),
            inputs: start.inputs().to_vec(),
            outputs: start.outputs().to_vec(),
            constants: sidecar.constant_inputs.clone(),
            description: Some(Box::new(Description::new(sidecar))),
        };
        ports.inputs.retain(|v| !v.name.starts_with(PAST_PREFIX));
        ports
            .outputs
            .retain(|v| !v.name.starts_with(PRESENT_PREFIX));
        ports
    }

    /// Names of inputs after whose change everything refreshes.
    pub fn watched(&self) -> impl Iterator<Item = &String> {
        let described = self.description.iter();
        described.flat_map(|d| &d.sidecar.watched_inputs)
    }

    /// Shape of the first value of `site`, before any evaluation. The runtime takes
    /// a length of 0 for every dimension that is not fixed.
    pub fn first_shape(site: &CachePort) -> Vec<usize> {
        let size = |d: &Dim| if let Dim::Fixed(n) = d { *n } else { 0 };
        site.past.dims.iter().map(size).collect()
    }
}

/// Pairs each past input with its present output.
fn sites(session: &Session) -> std::result::Result<Vec<CachePort>, String> {
    let mut in_place = lines(session, key::IN_PLACE);
    let mut sites = Vec::new();
    for past in session.inputs() {
        let Some(name) = past.name.strip_prefix(PAST_PREFIX) else {
            continue;
        };
        let output = present_name(name);
        let Some(present) = session.outputs().iter().find(|o| o.name == output) else {
            return Err(format!("input `{}` has no output `{output}`", past.name));
        };
        if past.dtype != present.dtype || past.dims.len() != present.dims.len() {
            return Err(format!(
                "`{}` and `{output}` differ in type or rank",
                past.name
            ));
        }
        let shared = in_place.iter().position(|n| n == name);
        let in_place = shared.map(|i| in_place.swap_remove(i)).is_some();
        sites.push(CachePort {
            past: past.clone(),
            present: present.clone(),
            in_place,
        });
    }
    let presents = session
        .outputs()
        .iter()
        .filter(|o| o.name.starts_with(PRESENT_PREFIX));
    for output in presents {
        if !sites.iter().any(|s| s.present.name == output.name) {
            return Err(format!("output `{}` has no input to feed", output.name));
        }
    }
    match in_place.first() {
        Some(name) => Err(format!(
            "metadata `{}` names `{name}`, which is no site",
            key::IN_PLACE
        )),
        None => Ok(sites),
    }
}

fn lines(session: &Session, key: &str) -> Vec<String> {
    let text = session.metadata(key).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect()
}
