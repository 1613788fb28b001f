//! A policy with parameters, as text: `deepcache:interval=2|3,cut=1`.

use super::{Policy, UnknownPolicy};
use crate::nearest::suggestion;
use crate::plan::parameter::{self, ParameterError, Parameters};

/// A policy with its parameters: a point in the plane of compute and fidelity.
#[derive(Clone, Debug)]
pub struct Point {
    /// The policy.
    pub policy: &'static dyn Policy,
    /// Its parameters.
    pub parameters: Parameters,
    /// What tells it from others: `deepcache:interval=3,cut=1`.
    pub label: String,
}

/// Why a text is no policy with parameters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum PointError {
    #[error(transparent)]
    Policy(#[from] UnknownPolicy),
    #[error("{text:?}: {pair:?} is not key=value")]
    Pair { text: String, pair: String },
    #[error("{text:?}: {key} is given twice; join values by |")]
    Twice { text: String, key: String },
    #[error("{text:?}: {policy} has no parameter {key:?}{meant}; it has {known}")]
    Unused {
        text: String,
        policy: &'static str,
        key: String,
        meant: String,
        known: String,
    },
    #[error("{key} stands in place of {replaced}; leave one out")]
    Both {
        key: &'static str,
        replaced: &'static str,
    },
    #[error("{text:?}: {error}")]
    Value { text: String, error: ParameterError },
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error("{text:?} gives several values; one is taken here")]
    Several { text: String },
}

impl Point {
    /// A policy with these parameters.
    #[must_use]
    pub fn new(policy: &'static dyn Policy, parameters: Parameters) -> Self {
        Self {
            policy,
            parameters,
            label: policy.name().to_owned(),
        }
    }

    /// Reads `policy` or `policy:key=a|b,key=c`: a point for every combination of values.
    /// Steps in a list are joined by `+`. What is not told is as in `base`.
    ///
    /// # Errors
    /// [`PointError`] that names what is wrong.
    pub fn parse(text: &str, base: &Parameters) -> Result<Vec<Self>, PointError> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let policy: &'static dyn Policy = name.parse()?;
        let mut points = vec![Self::new(policy, base.clone())];
        let mut keys: Vec<&str> = Vec::new();
        for pair in rest.split(',').filter(|p| !p.is_empty()) {
            let text = || text.to_owned();
            let Some((key, values)) = pair.split_once('=') else {
                let pair = pair.to_owned();
                return Err(PointError::Pair { text: text(), pair });
            };
            if keys.contains(&key) {
                let key = key.to_owned();
                return Err(PointError::Twice { text: text(), key });
            }
            keys.push(key);
            check_used(policy, key, &text())?;
            points = combined(&points, key, values).map_err(|error| PointError::Value {
                text: text(),
                error,
            })?;
        }
        points.iter().try_for_each(Self::check)?;
        Ok(points)
    }

    /// Checks ranges, and that nothing is told beside what stands in its place.
    ///
    /// # Errors
    /// [`PointError`] that names the parameter.
    pub fn check(&self) -> Result<(), PointError> {
        let told = |parameter| self.parameters.get(parameter).is_some();
        for used in self.policy.uses() {
            if let Some(replaced) = used.replaces.filter(|r| told(r) && told(used.parameter)) {
                return Err(PointError::Both {
                    key: used.parameter.name,
                    replaced: replaced.name,
                });
            }
        }
        let checked = self.parameters.check();
        checked.map_err(|error| match self.label.contains(':') {
            true => PointError::Value {
                text: self.label.clone(),
                error,
            },
            false => error.into(),
        })
    }

    /// Reads one point: no value may be a choice of several.
    ///
    /// # Errors
    /// [`PointError`] as for [`parse`](Self::parse), and for several.
    pub fn one(text: &str, base: &Parameters) -> Result<Self, PointError> {
        let mut points = Self::parse(text, base)?;
        match (points.pop(), points.is_empty()) {
            (Some(point), true) => Ok(point),
            _ => Err(PointError::Several {
                text: text.to_owned(),
            }),
        }
    }

    /// The published grid of a policy for a UNet with `skips` skip connections: see
    /// docs/POLICIES.md.
    #[must_use]
    pub fn grid(policy: &'static dyn Policy, base: &Parameters, skips: usize) -> Vec<Self> {
        let texts = policy.grid(base, skips);
        let parsed = texts
            .iter()
            .map(|t| Self::parse(t, base).unwrap_or_default());
        parsed.flatten().collect()
    }
}

/// Whether the policy takes a parameter of this name.
fn check_used(policy: &'static dyn Policy, key: &str, text: &str) -> Result<(), PointError> {
    let uses = policy.uses();
    if uses.iter().any(|u| u.parameter.name == key) {
        return Ok(());
    }
    let known: Vec<_> = uses.iter().map(|u| u.parameter.name).collect();
    Err(PointError::Unused {
        text: text.to_owned(),
        policy: policy.name(),
        key: key.to_owned(),
        meant: suggestion(key, known.iter().copied()),
        known: match known.is_empty() {
            true => "none".to_owned(),
            false => known.join(", "),
        },
    })
}

/// Every point with every one of the values, which are joined by `|`.
fn combined(points: &[Point], key: &str, values: &str) -> Result<Vec<Point>, ParameterError> {
    let parameter = parameter::named(key)?;
    let mut next = Vec::new();
    for point in points {
        for text in values.split('|') {
            let mut point = point.clone();
            let separator = if point.label.contains(':') { ',' } else { ':' };
            point.label = format!("{}{separator}{key}={text}", point.label);
            point.parameters.set(parameter, parameter.read(text)?);
            next.push(point);
        }
    }
    Ok(next)
}

/// Steps that are to all steps as `of_twenty` to 20.
#[must_use]
pub fn scaled(steps: usize, of_twenty: &[usize]) -> Vec<usize> {
    let mut scaled: Vec<usize> = of_twenty.iter().map(|n| n * steps / 20).collect();
    scaled.dedup();
    scaled
}

/// Gate steps that are to all steps as `of_twenty` to 20.
#[must_use]
pub fn gates(steps: usize, of_twenty: &[usize]) -> Vec<usize> {
    let mut gates = scaled(steps, of_twenty);
    gates.retain(|g| *g > 0);
    gates
}

/// Values joined by a separator.
pub fn by<T: ToString>(separator: &str, values: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    texts.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parameter::{CUT, INTERVAL, KEY_STEPS, PROMPTED, Value};

    #[test]
    fn combinations() -> Result<(), PointError> {
        let base = Parameters::new(20);
        let points = Point::parse("deepcache:interval=2|5,cut=1|3", &base)?;
        let labels: Vec<&str> = points.iter().map(|p| p.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "deepcache:interval=2,cut=1",
                "deepcache:interval=2,cut=3",
                "deepcache:interval=5,cut=1",
                "deepcache:interval=5,cut=3",
            ]
        );
        let told = |p: &Point, parameter| p.parameters.get(parameter).cloned();
        assert_eq!(told(&points[3], &INTERVAL), Some(Value::Count(5)));
        assert_eq!(told(&points[3], &CUT), Some(Value::Count(3)));
        let keys = Point::one("faster-diffusion:key-steps=0+4+9", &base)?;
        assert_eq!(told(&keys, &KEY_STEPS), Some(Value::Steps(vec![0, 4, 9])));
        let none = Point::one("hgc:prompted=none,control-end=0.8", &base)?;
        assert_eq!(told(&none, &PROMPTED), Some(Value::Half(None)));
        assert_eq!(none.parameters.control_window(), (0.0, 0.8));
        Ok(())
    }

    #[test]
    fn mistakes_are_named() {
        let base = Parameters::new(20);
        for (text, part) in [
            ("nothing", "no policy"),
            ("hgc:lambda=3", "no parameter \"lambda\"; it has cut"),
            (
                "lossless:cut=3",
                "lossless has no parameter \"cut\"; it has none",
            ),
            ("deepcache:lambda-inter=0.3", "deepcache has no parameter"),
            ("hgc:lambda-inter=x", "no value"),
            ("hgc:lambda-inter=3", "from 0 to 1"),
            ("tgate:gate-step", "not key=value"),
            ("tgate:gate-step=2,gate-step=3", "given twice"),
            ("hgc:key-steps=0+3,lambda-inter=0.3", "leave one out"),
            ("faster-diffusion:key-steps=99", "19, the last one"),
            ("hgc:cut=1|2", "several values"),
        ] {
            let error = Point::one(text, &base).map_err(|e| e.to_string());
            let error = error.err().unwrap_or_default();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
