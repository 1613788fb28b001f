//! A rewritten model's inputs and outputs by what they are for, and where a generation stands.

use std::path::Path;

use super::device::{Content, Feed};
use super::error::{EngineError, Result};
use super::kinds::KindSessions;
use super::model::{Dim, ValueInfo};
use super::session::Session;
use super::tensor::DType;
use crate::convention::{PAST_PREFIX, PRESENT_PREFIX, STEP, key, present as present_name};
use crate::plan::Schedule;
use crate::plan::flow::{Flow, Holding};
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
    /// The kind of each evaluation that is counted.
    pub counted: Vec<usize>,
}

impl Description {
    /// Reads the description inside a model, and the one beside it, whose schedules go first.
    fn of(session: &Session, beside: Option<&Path>) -> std::result::Result<Option<Self>, String> {
        let Some(text) = session.metadata(key::MODEL) else {
            return Ok(None);
        };
        let sidecar = Sidecar::parse(&text, session.file()).map_err(|e| e.to_string())?;
        let mut description = Self::new(sidecar);
        let beside = beside
            .map(Sidecar::beside)
            .transpose()
            .map_err(|e| e.to_string())?;
        if let Some(other) = beside.flatten() {
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
        let counted = sidecar.schedules.first().into_iter().flat_map(|s| &s.kinds);
        Self {
            counted: counted.filter_map(|name| sidecar.kind(name)).collect(),
            flow: sidecar.flow(),
            sidecar,
        }
    }

    /// The kind that the value of `hgc.step` stands for.
    pub fn kind(&self, step: i64) -> Option<usize> {
        match usize::try_from(step) {
            Ok(counted) => self.counted.get(counted).copied(),
            Err(_) => usize::try_from(-1 - step).ok(),
        }
    }
}

impl Ports {
    /// Reads the convention off a loaded model.
    pub fn of(session: &Session, beside: Option<&Path>) -> Result<Self> {
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

/// Where a generation stands.
#[derive(Debug, Default)]
pub(super) struct Generation {
    /// Evaluations done.
    step: usize,
    /// Why no further evaluation is possible.
    ended: Option<String>,
    /// What the first evaluation was given.
    fixed: Option<Vec<Fixed>>,
    /// What the caches hold.
    holding: Option<Holding>,
}

/// What must not change of an input within a generation.
#[derive(Debug)]
struct Fixed {
    name: String,
    shape: Vec<usize>,
    /// The value, for inputs that the caches rely on.
    value: Option<Content>,
}

impl Generation {
    /// Evaluations done so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Refuses an evaluation that would read caches made for something else. The
    /// generation itself is not touched: the caller ends it.
    pub fn admit(&self, file: &str, evaluations: usize, given: &[(&str, Feed<'_>)]) -> Result<()> {
        let file = || file.to_owned();
        if let Some(reason) = &self.ended {
            return Err(EngineError::Poisoned {
                file: file(),
                reason: reason.clone(),
            });
        }
        if self.step >= evaluations {
            return Err(EngineError::OutOfSteps {
                file: file(),
                steps: evaluations,
            });
        }
        let Some(fixed) = &self.fixed else {
            return Ok(());
        };
        for Fixed { name, shape, value } in fixed {
            let (file, name) = (file(), name.clone());
            let Some((_, feed)) = given.iter().find(|(n, _)| *n == name) else {
                return Err(EngineError::InputSetChanged { file, name });
            };
            if feed.shape() != shape {
                let (before, now) = (shape.clone(), feed.shape().to_vec());
                return Err(EngineError::ShapeChanged {
                    file,
                    name,
                    before,
                    now,
                });
            }
            if value.as_ref().is_some_and(|v| *v != feed.content()) {
                return Err(EngineError::ConstantChanged { file, name });
            }
        }
        let added = given
            .iter()
            .find(|(name, _)| !fixed.iter().any(|f| f.name == *name));
        added.map_or(Ok(()), |(name, _)| {
            Err(EngineError::InputSetChanged {
                file: file(),
                name: (*name).to_owned(),
            })
        })
    }

    /// Refuses a kind that would read what no evaluation has left.
    pub fn admit_kind(&self, file: &str, ports: &Ports, step: i64) -> Result<()> {
        let Some(description) = &ports.description else {
            return Ok(());
        };
        let Description { sidecar, flow, .. } = description.as_ref();
        let nothing = flow.nothing();
        let holding = self.holding.as_ref().unwrap_or(&nothing);
        match description.kind(step) {
            Some(kind) if !flow.admits(kind, holding) => Err(EngineError::KindTooEarly {
                file: file.to_owned(),
                kind: sidecar.kinds[kind].name.clone(),
                evaluation: self.step,
                start: sidecar.kinds[0].name.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Counts an evaluation that succeeded.
    pub fn advance(&mut self, ports: &Ports, step: i64, given: &[(&str, Feed<'_>)]) {
        self.step += 1;
        if let Some(description) = &ports.description
            && let Some(kind) = description.kind(step)
        {
            let flow = &description.flow;
            flow.follow(kind, self.holding.get_or_insert_with(|| flow.nothing()));
        }
        let fix = |&(name, feed): &(&str, Feed<'_>)| Fixed {
            name: name.to_owned(),
            shape: feed.shape().to_vec(),
            value: ports
                .constants
                .iter()
                .any(|c| c == name)
                .then(|| feed.content()),
        };
        self.fixed
            .get_or_insert_with(|| given.iter().map(fix).collect());
    }

    /// Ends the generation: its caches can no longer be trusted.
    pub fn end(&mut self, reason: impl Into<String>) {
        self.ended = Some(reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Tensor;

    fn info(name: &str, dims: &[Dim]) -> ValueInfo {
        ValueInfo {
            name: name.to_owned(),
            dtype: DType::F32,
            dims: dims.to_vec(),
        }
    }

    fn ports() -> Ports {
        let symbol = |s: &str| Dim::Symbol(s.to_owned());
        let dims = [symbol("2*batch"), Dim::Fixed(4), Dim::Unknown];
        Ports {
            steps: 2,
            sites: vec![CachePort {
                past: info("hgc.past.a", &dims),
                present: info("hgc.present.a", &dims),
                in_place: true,
            }],
            inputs: vec![
                info("x", &[symbol("batch"), symbol("h")]),
                info("text", &[Dim::Unknown]),
            ],
            outputs: vec![info("y", &[])],
            constants: vec!["text".to_owned()],
            description: None,
        }
    }

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::from_f32(shape, &vec![1.0; shape.iter().product()]).unwrap()
    }

    #[test]
    fn first_values_are_empty_where_a_length_is_open() {
        assert_eq!(Ports::first_shape(&ports().sites[0]), [0, 4, 0]);
    }

    #[test]
    fn the_first_evaluation_fixes_shapes_and_constants() {
        let ports = ports();
        let mut generation = Generation::default();
        let (x, text) = (ones(&[2, 8]), ones(&[4]));
        let given = [("x", Feed::Host(&x)), ("text", Feed::Host(&text))];
        generation.admit("m", ports.steps, &given).unwrap();
        generation.advance(&ports, 0, &given);
        let other_x = Tensor::zeros(DType::F32, &[2, 8]).unwrap();
        generation
            .admit("m", ports.steps, &[("x", (&other_x).into()), given[1]])
            .unwrap();
        let refused = |given: &[(&str, &Tensor)]| {
            let given: Vec<_> = given.iter().map(|&(n, t)| (n, t.into())).collect();
            generation.admit("m", ports.steps, &given).unwrap_err()
        };
        let wide = ones(&[2, 9]);
        let error = refused(&[("x", &wide), ("text", &text)]);
        assert!(matches!(error, EngineError::ShapeChanged { .. }), "{error}");
        let other = Tensor::zeros(DType::F32, &[4]).unwrap();
        let error = refused(&[("x", &x), ("text", &other)]);
        assert!(
            matches!(error, EngineError::ConstantChanged { .. }),
            "{error}"
        );
        let error = refused(&[("x", &x)]);
        assert!(
            matches!(error, EngineError::InputSetChanged { .. }),
            "{error}"
        );
        let error = refused(&[("x", &x), ("text", &text), ("more", &x)]);
        assert!(
            matches!(error, EngineError::InputSetChanged { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_generation_ends_with_its_schedule_or_a_failure() {
        let ports = ports();
        let mut generation = Generation::default();
        let (x, text) = (ones(&[2, 8]), ones(&[4]));
        let given = [("x", Feed::Host(&x)), ("text", Feed::Host(&text))];
        generation.advance(&ports, 0, &given);
        generation.advance(&ports, 0, &given);
        let error = generation.admit("m", ports.steps, &given).unwrap_err();
        assert!(
            matches!(error, EngineError::OutOfSteps { steps: 2, .. }),
            "{error}"
        );
        let mut generation = Generation::default();
        generation.end("out of memory");
        let error = generation.admit("m", ports.steps, &given).unwrap_err();
        assert!(matches!(error, EngineError::Poisoned { .. }), "{error}");
    }
}
