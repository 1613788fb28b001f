//! What a policy was told.

use std::collections::BTreeMap;

use super::{
    ALL, CONTROL_END, CONTROL_ROWS, CONTROL_START, ControlRows, NOISE, PROMPTED, Parameter,
    ParameterError, SOLVER, Solver, Value, WHOLE_BATCH, named,
};
use crate::plan::data::Prompted;

/// Most evaluations of a generation: a table has a row for each.
const MOST_STEPS: usize = 10_000;

/// The number of evaluations, and what a policy was told; the rest has the policy's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Model evaluations in a generation.
    pub steps: usize,
    given: BTreeMap<&'static str, Value>,
}

impl Parameters {
    /// Nothing told but the number of evaluations.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self {
            steps,
            given: BTreeMap::new(),
        }
    }

    /// Tells one parameter.
    pub fn set(&mut self, parameter: &'static Parameter, value: Value) {
        self.given.insert(parameter.name, value);
    }

    /// Takes back what was told of one parameter.
    pub fn unset(&mut self, parameter: &'static Parameter) {
        self.given.remove(parameter.name);
    }

    /// These and one more.
    #[must_use]
    pub fn with(mut self, parameter: &'static Parameter, value: Value) -> Self {
        self.set(parameter, value);
        self
    }

    /// These, and what `base` was told of others.
    #[must_use]
    pub fn over(&self, mut base: Self) -> Self {
        base.given.extend(self.given.clone());
        base.steps = self.steps;
        base
    }

    /// Tells one parameter by its name and a text, as on the command line.
    ///
    /// # Errors
    /// [`ParameterError`] if there is no such parameter or the text is no value of it.
    pub fn tell(&mut self, name: &str, text: &str) -> Result<(), ParameterError> {
        let parameter = named(name)?;
        self.set(parameter, parameter.read(text)?);
        Ok(())
    }

    /// What was told of a parameter.
    #[must_use]
    pub fn get(&self, parameter: &Parameter) -> Option<&Value> {
        self.given.get(parameter.name)
    }

    /// Names and values of what was told.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.given.iter().map(|(name, value)| (*name, value))
    }

    /// Which half of the batch carries the prompt; none where there is one half only.
    #[must_use]
    pub fn prompted(&self) -> Option<Prompted> {
        match self.get(&PROMPTED) {
            Some(Value::Half(half)) => *half,
            _ => Some(Prompted::default()),
        }
    }

    /// Whether both halves run on every step.
    #[must_use]
    pub fn whole_batch(&self) -> bool {
        self.get(&WHOLE_BATCH) == Some(&Value::Flag(true))
    }

    /// Rows of a guided batch that ControlNets are given.
    #[must_use]
    pub fn control_rows(&self) -> ControlRows {
        match self.get(&CONTROL_ROWS) {
            Some(Value::Rows(rows)) => *rows,
            _ => ControlRows::default(),
        }
    }

    /// How the sampler uses predictions.
    #[must_use]
    pub fn solver(&self) -> Solver {
        match self.get(&SOLVER) {
            Some(Value::Solver(solver)) => *solver,
            _ => Solver::default(),
        }
    }

    /// Share of the training steps that leave noise alone.
    #[must_use]
    pub fn noise(&self) -> f64 {
        self.share(&NOISE, 0.0)
    }

    /// The shares of the generation between which control works.
    #[must_use]
    pub fn control_window(&self) -> (f64, f64) {
        let (start, end) = (&CONTROL_START, &CONTROL_END);
        (self.share(start, 0.0), self.share(end, 1.0))
    }

    /// What was told of a share, or what it is where nothing was.
    fn share(&self, parameter: &Parameter, usual: f64) -> f64 {
        match self.get(parameter) {
            Some(Value::Share(share)) => *share,
            _ => usual,
        }
    }

    /// Steps on which control switches on or off, without step 0.
    #[must_use]
    pub fn switches(&self) -> Vec<usize> {
        self.switches_of(self.steps)
    }

    /// The same for another number of steps.
    #[must_use]
    pub fn switches_of(&self, steps: usize) -> Vec<usize> {
        let on = |i: usize| control_is_on(i, steps, self.control_window());
        (1..steps).filter(|i| on(*i) != on(i - 1)).collect()
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// [`ParameterError`] that names the parameter and what it takes.
    pub fn check(&self) -> Result<(), ParameterError> {
        if self.steps == 0 || self.steps > MOST_STEPS {
            return Err(ParameterError::Range {
                name: "steps",
                value: self.steps.to_string(),
                takes: format!("1 to {MOST_STEPS}"),
            });
        }
        for parameter in ALL {
            if let Some(value) = self.get(parameter) {
                parameter.check(value, self.steps)?;
            }
        }
        let (start, end) = self.control_window();
        if start >= end {
            return Err(ParameterError::Window { start, end });
        }
        Ok(())
    }
}

/// Whether ControlNets work on a step, given the shares of the generation between which
/// they do, as diffusers' `control_guidance_start` and `control_guidance_end` have it.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn control_is_on(step: usize, steps: usize, (start, end): (f64, f64)) -> bool {
    let n = steps as f64;
    step as f64 / n >= start && (step + 1) as f64 / n <= end + 1e-9
}
