//! Where a generation stands.

use super::device::{Content, Feed};
use super::error::{EngineError, Result};
use super::ports::{Description, Ports};
use crate::plan::flow::Holding;

/// Evaluations since the last reset.
#[derive(Debug, Default)]
pub(super) struct Generation {
    /// Evaluations done.
    step: usize,
    /// Why no further evaluation is possible.
    ended: Option<String>,
    /// What the first evaluation was given.
    fixed: Option<Vec<Fixed>>,
    /// What the last evaluation was given of inputs after whose change everything refreshes.
    watched: Vec<(String, Content)>,
    /// What the caches hold.
    holding: Option<Holding>,
}

/// The value of `hgc.step` that reads no cache.
pub(super) const REFRESH: i64 = -1;

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

    /// Whether an input has changed after whose change everything refreshes.
    pub fn asks_for_refresh(&self, given: &[(&str, Feed<'_>)]) -> bool {
        self.watched.iter().any(|(name, before)| {
            let now = given.iter().find(|(n, _)| n == name);
            now.is_some_and(|(_, feed)| feed.content() != *before)
        })
    }

    /// Refuses an evaluation that would read caches made for something else; one that reads none may
    /// be given other constants. The generation itself is not touched: the caller ends it.
    pub fn admit(
        &self,
        file: &str,
        (step, evaluations): (i64, usize),
        given: &[(&str, Feed<'_>)],
    ) -> Result<()> {
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
            if step != REFRESH && value.as_ref().is_some_and(|v| *v != feed.content()) {
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
        if step == REFRESH {
            self.fixed = None;
        }
        self.fixed
            .get_or_insert_with(|| given.iter().map(fix).collect());
        let is_watched = |name: &str| ports.watched().any(|w| w == name);
        let watched = given.iter().filter(|(name, _)| is_watched(name));
        self.watched = watched
            .map(|(name, feed)| ((*name).to_owned(), feed.content()))
            .collect();
    }

    /// Ends the generation: its caches can no longer be trusted.
    pub fn end(&mut self, reason: impl Into<String>) {
        self.ended = Some(reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Dim, ValueInfo};
    use super::super::ports::CachePort;
    use super::super::tensor::{DType, Tensor};
    use super::*;

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
        generation.admit("m", (0, ports.steps), &given).unwrap();
        generation.advance(&ports, 0, &given);
        let other_x = Tensor::zeros(DType::F32, &[2, 8]).unwrap();
        generation
            .admit("m", (1, ports.steps), &[("x", (&other_x).into()), given[1]])
            .unwrap();
        let admitted = |step: i64, given: &[(&str, &Tensor)]| {
            let given: Vec<_> = given.iter().map(|&(n, t)| (n, t.into())).collect();
            generation.admit("m", (step, ports.steps), &given)
        };
        let refused = |given: &[(&str, &Tensor)]| admitted(1, given).unwrap_err();
        let wide = ones(&[2, 9]);
        let error = refused(&[("x", &wide), ("text", &text)]);
        assert!(matches!(error, EngineError::ShapeChanged { .. }), "{error}");
        let other = Tensor::zeros(DType::F32, &[4]).unwrap();
        let error = refused(&[("x", &x), ("text", &other)]);
        assert!(
            matches!(error, EngineError::ConstantChanged { .. }),
            "{error}"
        );
        // Nothing is read that was made for the old one.
        admitted(-1, &[("x", &x), ("text", &other)]).unwrap();
        let error = admitted(-1, &[("x", &wide), ("text", &text)]).unwrap_err();
        assert!(matches!(error, EngineError::ShapeChanged { .. }), "{error}");
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
        let error = generation.admit("m", (0, ports.steps), &given).unwrap_err();
        assert!(
            matches!(error, EngineError::OutOfSteps { steps: 2, .. }),
            "{error}"
        );
        let mut generation = Generation::default();
        generation.end("out of memory");
        let error = generation.admit("m", (0, ports.steps), &given).unwrap_err();
        assert!(matches!(error, EngineError::Poisoned { .. }), "{error}");
    }
}
