//! Weights of fitted reuse: how far a cached value moves along its slope, by site and evaluation.
//!
//! A forecast moves by the evaluations since the last refresh, a held value not at all. What suits a
//! model lies between, and differs from one evaluation to the next: `hgc tune` fits it by least squares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::data::{Plan, Reuse};
use super::kinds::gate_name;
use crate::convention::GUIDANCE;

/// Tables of weights by site, all of the same length. Row 0, which is not written, holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights(pub BTreeMap<String, Vec<f32>>);

impl Weights {
    /// Rows of every table but the one that holds.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.0.values().map(Vec::len).max().unwrap_or_default()
    }

    /// Whether a plan has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The weight of a site in a row; 0, which holds, where there is none.
    #[must_use]
    pub fn at(&self, name: &str, row: usize) -> f32 {
        let table = self.0.get(name);
        let weight = row.checked_sub(1).and_then(|r| table?.get(r));
        weight.copied().unwrap_or_default()
    }
}

impl Plan {
    /// The weight of a site, as `model/site`, or of the difference of [`GUIDANCE`], on an evaluation of
    /// the first schedule; none where its reuse is not fitted.
    #[must_use]
    pub fn weight(&self, name: &str, reuse: Reuse, evaluation: usize) -> Option<f32> {
        let row = self.schedules.first().map_or(0, |s| s.row(evaluation));
        (reuse == Reuse::Fitted).then(|| self.weights.at(name, row))
    }

    /// Names of what is reused by weights: sites as `model/site`, and the difference of guidance.
    pub fn weighed(&self) -> impl Iterator<Item = String> {
        let sites = self.models.iter().flat_map(|model| {
            let fitted = model.sites.iter().filter(|s| s.reuse == Reuse::Fitted);
            fitted.map(|s| gate_name(&model.name, &s.name))
        });
        let guidance = (self.guidance.reuse == Reuse::Fitted).then(|| GUIDANCE.to_owned());
        sites.chain(guidance)
    }

    /// What is wrong with the weights, if anything.
    pub(super) fn problem_of_weights(&self) -> Option<String> {
        let rows = self.weights.rows();
        let known: Vec<String> = self.weighed().collect();
        for (name, table) in &self.weights.0 {
            if !known.contains(name) {
                let hint = crate::nearest::suggestion(name, known.iter().map(String::as_str));
                return Some(format!(
                    "weights of {name:?}, which nothing fitted is called{hint}"
                ));
            }
            if table.len() != rows {
                let found = table.len();
                return Some(format!(
                    "{found} weights of {name:?}, and {rows} of another"
                ));
            }
            if let Some(weight) = table.iter().find(|w| !w.is_finite()) {
                return Some(format!("a weight of {name:?} is {weight}"));
            }
        }
        for (number, schedule) in self.schedules.iter().enumerate() {
            let (kinds, own) = (schedule.kinds.len(), schedule.rows.len());
            if own != 0 && own != kinds {
                return Some(format!(
                    "schedule {number} has {kinds} kinds and {own} rows"
                ));
            }
            if let Some(row) = schedule.rows.iter().find(|row| **row > rows) {
                return Some(format!(
                    "schedule {number} names row {row}; the weights have {rows}"
                ));
            }
        }
        None
    }
}
