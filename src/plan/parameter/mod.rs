//! What policies can be told: one table, from which command line, `policy:key=value`, the
//! `[parameters]` of a plan and the docs come.
//!
//! A new parameter is one entry here and one line in each [policy](super::policy) that takes it.

mod given;
mod solver;

pub use given::{Parameters, control_is_on};
pub use solver::Solver;

use std::fmt;

use crate::nearest::suggestion;
use crate::plan::data::{Prompted, Reuse};

/// A parameter of policies.
#[derive(Debug)]
pub struct Parameter {
    /// Its name: `--NAME` on the command line, a key elsewhere.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it decides, in a sentence.
    pub doc: &'static str,
}

/// The values that a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from 1.
    Count,
    /// A step from 1 to the number of steps.
    Step,
    /// Steps from 0, joined by `+` or `,`.
    Steps,
    /// A number from 0 to 1.
    Share,
    /// `hold` or `linear`.
    Reuse,
    /// `last`, `first` or `none`.
    Half,
    /// `first-order` or `multistep`.
    Solver,
    /// `all` or `prompted`.
    Rows,
    /// `quality`, `balanced` or `fast`.
    Preset,
    /// `true` or `false`.
    Flag,
}

/// Rows of a guided batch that a pipeline gives its ControlNets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlRows {
    /// Those of the UNet.
    #[default]
    All,
    /// The prompted half, as `guess_mode` of diffusers does.
    Prompted,
}

/// How much is given for how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// Half of the compute saved, pictures hardly told apart.
    Quality,
    /// What the defaults are.
    #[default]
    Balanced,
    /// Three quarters saved.
    Fast,
}

/// A value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`Kind::Count`] and [`Kind::Step`].
    Count(usize),
    /// Of [`Kind::Steps`], with rising steps.
    Steps(Vec<usize>),
    /// Of [`Kind::Share`].
    Share(f64),
    /// Of [`Kind::Reuse`].
    Reuse(Reuse),
    /// Of [`Kind::Half`]; none where there is one half only.
    Half(Option<Prompted>),
    /// Of [`Kind::Solver`].
    Solver(Solver),
    /// Of [`Kind::Rows`].
    Rows(ControlRows),
    /// Of [`Kind::Preset`].
    Preset(Preset),
    /// Of [`Kind::Flag`].
    Flag(bool),
}

macro_rules! parameters {
    ($($constant:ident $name:literal $kind:ident: $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub static $constant: Parameter = Parameter {
                name: $name,
                kind: Kind::$kind,
                doc: $doc,
            };
        )*

        /// All parameters, in the order in which they are told.
        pub static ALL: &[&Parameter] = &[$(&$constant),*];
    };
}

parameters! {
    PRESET "preset" Preset:
        "What is given for what: quality saves about half of the MACs, balanced two thirds, fast three quarters";
    CUT "cut" Count:
        "Outermost decoder skip connections that still run on a reuse step";
    INTERVAL "interval" Count:
        "Steps from one refresh to the next";
    KEY_STEPS "key-steps" Steps:
        "Steps on which the cached blocks refresh, step 0 always";
    GATE_STEP "gate-step" Step:
        "Step from which guidance is fused; the number of steps for never";
    LAMBDA_INTER "lambda-inter" Share:
        "Share of steps on which deeper blocks refresh";
    LAMBDA_INTRA "lambda-intra" Share:
        "Share of refreshed steps on which the modules inside a block do";
    LAMBDA_GUIDANCE "lambda-guidance" Share:
        "Share of refreshed steps before the gate step on which both halves run";
    REUSE "reuse" Reuse:
        "What is read on a reuse step, hold (the last value), damped (blocks move half as far as their slope) or linear \
         (all of it, ControlNets and attention too)";
    CONTROL_INTERVAL "control-interval" Count:
        "The ControlNet refreshes on every n-th refresh of the UNet";
    CONTROL_START "control-start" Share:
        "Share of the generation after which control switches on";
    CONTROL_END "control-end" Share:
        "Share of the generation after which control switches off";
    SOLVER "solver" Solver:
        "What the sampler is, first-order (DDIM, Euler) or multistep (DPM++ 2M, UniPC), which also looks \
         at earlier predictions. Told by --sampler and the pipeline's scheduler where they are known";
    NOISE "noise" Share:
        "Share of the training steps that leave less of the picture (1/200 of the variance) than Stable Diffusion's \
         last one does: so long the latent is noise, and little changes. Told by the betas of the pipeline's scheduler";
    PROMPTED "prompted" Half:
        "Which half of a guided batch carries the prompt, last or first; none where the model runs \
         without classifier-free guidance";
    CONTROL_ROWS "control-rows" Rows:
        "Rows of a guided batch that ControlNets are given, all or prompted (guess_mode of diffusers): \
         then they never run half of what they are given";
    WHOLE_BATCH "whole-batch" Flag:
        "Run both halves of a guided batch on every step. For CUDA, where a batch that changes \
         between steps costs more than the half that it saves";
}

/// The parameter called `name`.
///
/// # Errors
/// [`ParameterError::Unknown`] with the nearest name.
pub fn named(name: &str) -> Result<&'static Parameter, ParameterError> {
    let found = ALL.iter().copied().find(|p| p.name == name);
    found.ok_or_else(|| ParameterError::Unknown {
        name: name.to_owned(),
        meant: suggestion(name, ALL.iter().map(|p| p.name)),
        known: ALL.iter().map(|p| p.name).collect::<Vec<_>>().join(", "),
    })
}

/// Why parameters cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ParameterError {
    #[error("no parameter {name:?}{meant}; there are {known}")]
    Unknown {
        name: String,
        meant: String,
        known: String,
    },
    #[error("{value:?} is no value of {name}; give {takes}")]
    Value {
        name: &'static str,
        value: String,
        takes: &'static str,
    },
    #[error("{name} is {value}; use {takes}")]
    Range {
        name: &'static str,
        value: String,
        takes: String,
    },
    #[error("control-start is {start} and control-end {end}; control must start before it ends")]
    Window { start: f64, end: f64 },
}

impl Kind {
    /// What it takes, for messages.
    #[must_use]
    pub fn takes(self) -> &'static str {
        match self {
            Self::Count => "a whole number from 1",
            Self::Step => "a step from 1 to the number of steps",
            Self::Steps => "steps from 0, joined by + or a comma",
            Self::Share => "a number from 0 to 1",
            Self::Reuse => "hold or linear",
            Self::Half => "last, first or none",
            Self::Solver => "first-order or multistep",
            Self::Rows => "all or prompted",
            Self::Preset => "quality, balanced or fast",
            Self::Flag => "true or false",
        }
    }

    /// A short name for a place that takes it, as in `--cut N`.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Count => "N",
            Self::Step => "STEP",
            Self::Steps => "STEP,...",
            Self::Share => "SHARE",
            Self::Reuse => "HOW",
            Self::Half => "HALF",
            Self::Solver => "KIND",
            Self::Rows => "ROWS",
            Self::Preset => "NAME",
            Self::Flag => "BOOL",
        }
    }

    fn read(self, text: &str) -> Option<Value> {
        Some(match self {
            Self::Count | Self::Step => Value::Count(text.parse().ok()?),
            Self::Steps => {
                let steps = text.split(['+', ',']).map(|s| s.trim().parse());
                let mut steps = steps.collect::<Result<Vec<usize>, _>>().ok()?;
                steps.push(0);
                steps.sort_unstable();
                steps.dedup();
                Value::Steps(steps)
            }
            Self::Share => Value::Share(text.parse().ok()?),
            Self::Reuse => Value::Reuse(text.parse().ok()?),
            Self::Half => Value::Half(match text {
                "last" => Some(Prompted::Last),
                "first" => Some(Prompted::First),
                "none" => None,
                _ => return None,
            }),
            Self::Solver => Value::Solver(text.parse().ok()?),
            Self::Rows => Value::Rows(match text {
                "all" => ControlRows::All,
                "prompted" => ControlRows::Prompted,
                _ => return None,
            }),
            Self::Preset => Value::Preset(match text {
                "quality" => Preset::Quality,
                "balanced" => Preset::Balanced,
                "fast" => Preset::Fast,
                _ => return None,
            }),
            Self::Flag => Value::Flag(text.parse().ok()?),
        })
    }
}

impl Parameter {
    /// The value that `text` gives, in whatever range.
    ///
    /// # Errors
    /// [`ParameterError::Value`] if it is none of this kind.
    pub fn read(&'static self, text: &str) -> Result<Value, ParameterError> {
        let value = self.kind.read(text);
        value.ok_or_else(|| ParameterError::Value {
            name: self.name,
            value: text.to_owned(),
            takes: self.kind.takes(),
        })
    }

    /// Whether `value` can be used with so many steps.
    fn check(&'static self, value: &Value, steps: usize) -> Result<(), ParameterError> {
        let fits = match (self.kind, value) {
            (Kind::Step, Value::Count(n)) => (1..=steps).contains(n),
            (_, Value::Count(n)) => *n >= 1,
            (_, Value::Share(share)) => (0.0..=1.0).contains(share),
            (_, Value::Steps(list)) => list.iter().all(|s| *s < steps),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let takes = match self.kind {
            Kind::Step => format!("1 to {steps} (the number of steps)"),
            Kind::Steps => format!("steps up to {}, the last one", steps.saturating_sub(1)),
            kind => kind.takes().to_owned(),
        };
        Err(ParameterError::Range {
            name: self.name,
            value: value.to_string(),
            takes,
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => n.fmt(f),
            Self::Steps(steps) => {
                let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
                f.write_str(&steps.join(","))
            }
            Self::Share(share) => share.fmt(f),
            Self::Reuse(reuse) => reuse.fmt(f),
            Self::Half(half) => f.write_str(match half {
                Some(Prompted::Last) => "last",
                Some(Prompted::First) => "first",
                None => "none",
            }),
            Self::Solver(solver) => solver.fmt(f),
            Self::Rows(rows) => f.write_str(match rows {
                ControlRows::All => "all",
                ControlRows::Prompted => "prompted",
            }),
            Self::Preset(preset) => f.write_str(match preset {
                Preset::Quality => "quality",
                Preset::Balanced => "balanced",
                Preset::Fast => "fast",
            }),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_reads_back() {
        let values = [
            (&CUT, "3"),
            (&GATE_STEP, "18"),
            (&KEY_STEPS, "0,4,9"),
            (&LAMBDA_INTER, "0.35"),
            (&REUSE, "linear"),
            (&PROMPTED, "none"),
            (&CONTROL_ROWS, "prompted"),
            (&WHOLE_BATCH, "true"),
        ];
        for (parameter, text) in values {
            let value = parameter.read(text).unwrap();
            assert_eq!(value.to_string(), text);
            assert_eq!(parameter.read(&value.to_string()).unwrap(), value);
        }
        let steps = KEY_STEPS.read("9+4").unwrap();
        assert_eq!(steps, Value::Steps(vec![0, 4, 9]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, text, part) in [
            ("lambda", "1", "no parameter \"lambda\""),
            (
                "cut",
                "x",
                "\"x\" is no value of cut; give a whole number from 1",
            ),
            ("cut", "0", "cut is 0; use a whole number from 1"),
            (
                "lambda-inter",
                "2",
                "lambda-inter is 2; use a number from 0 to 1",
            ),
            ("lambda-inter", "nan", "use a number from 0 to 1"),
            (
                "gate-step",
                "21",
                "gate-step is 21; use 1 to 20 (the number of steps)",
            ),
            ("key-steps", "0+20", "use steps up to 19, the last one"),
            ("control-start", "1", "control must start before it ends"),
        ] {
            let mut parameters = Parameters::new(20);
            let told = parameters.tell(name, text);
            let error = told
                .and_then(|()| parameters.check())
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{name}={text}: {error}");
        }
        let error = Parameters::new(0).check().unwrap_err().to_string();
        assert_eq!(error, "steps is 0; use 1 to 10000");
    }
}
