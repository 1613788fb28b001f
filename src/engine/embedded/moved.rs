//! Cached values on the embedded engine: moved from outputs to inputs.

use std::collections::BTreeMap;

use anyhow::Context;

use super::model::{self, Value};
use super::program::Program;
use crate::convention::STEP;
use crate::engine::device::{DeviceTensor, Feed};
use crate::engine::model::ValueInfo;
use crate::engine::ports::Ports;
use crate::engine::tensor::Tensor;

/// The cached values of a session, one a site, empty before the first evaluation.
#[derive(Debug, Default)]
pub(super) struct Moved {
    past: Vec<Value>,
}

impl Moved {
    /// Drops all cached values.
    pub fn forget(&mut self) {
        self.past.clear();
    }

    /// Evaluates one step. After an error the cached values are lost.
    pub fn run(
        &mut self,
        program: &mut Program,
        declared: &[ValueInfo],
        ports: &Ports,
        (given, step): (&[(&str, Feed<'_>)], i64),
    ) -> anyhow::Result<Vec<(String, DeviceTensor)>> {
        let mut values = BTreeMap::new();
        for &(name, feed) in given {
            values.insert(name, model::to_value(&feed.to_tensor()?)?);
        }
        values.insert(STEP, model::to_value(&Tensor::scalar_i64(step))?);
        let mut past = std::mem::take(&mut self.past).into_iter();
        for site in &ports.sites {
            let value = match past.next() {
                Some(value) => value,
                None => model::zeros(site.past.dtype, &Ports::first_shape(site))?,
            };
            values.insert(&site.past.name, value);
        }
        let results = model::run(program, &values)?;
        let mut results: BTreeMap<&str, Value> = declared
            .iter()
            .map(|o| o.name.as_str())
            .zip(results)
            .collect();
        let mut outputs = Vec::with_capacity(ports.outputs.len());
        for output in &ports.outputs {
            let value = results
                .remove(output.name.as_str())
                .context("an output is missing")?;
            outputs.push((
                output.name.clone(),
                model::from_value(&value, output.dtype)?.into(),
            ));
        }
        let present = ports
            .sites
            .iter()
            .map(|s| results.remove(s.present.name.as_str()));
        self.past = present
            .collect::<Option<_>>()
            .context("a cached value is missing")?;
        Ok(outputs)
    }
}
