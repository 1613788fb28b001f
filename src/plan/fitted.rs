//! What a plan was fitted on, and whether a generation is like that.

use std::collections::BTreeMap;

use super::Plan;

const SAMPLER: &str = "sampler";
const GUIDANCE: &str = "guidance";
const PICTURES: &str = "pictures";
const SIGNAL: &str = "signal";

/// Guidance that is so many times more or less than fitted on is told.
const FAR: f64 = 1.6;

/// What was drawn to fit a plan.
#[derive(Clone, Debug)]
pub struct Fitted<'f> {
    /// The sampler.
    pub sampler: &'f str,
    /// The guidance scale.
    pub guidance: f64,
    /// How many pictures.
    pub pictures: usize,
    /// Signal-to-noise ratio of the final latents to the original's, in dB.
    pub signal: f64,
}

impl Fitted<'_> {
    /// As a plan tells it.
    #[must_use]
    pub fn told(&self) -> BTreeMap<String, String> {
        [
            (SAMPLER, self.sampler.to_owned()),
            (GUIDANCE, self.guidance.to_string()),
            (PICTURES, self.pictures.to_string()),
            (SIGNAL, format!("{:.2} dB", self.signal)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

impl Plan {
    /// In what a generation differs from those that the plan was fitted on; none where it does not, or
    /// was not fitted.
    #[must_use]
    pub fn beyond_fit(&self, sampler: &str, steps: usize, guidance: f64) -> Option<String> {
        let fitted = |key: &str| self.fitted.get(key).map(String::as_str);
        let mut found = Vec::new();
        if let Some(own) = fitted(SAMPLER).filter(|own| *own != sampler) {
            found.push(format!("{own}, not {sampler}"));
        }
        if !self.fitted.is_empty() && self.schedules.iter().all(|s| s.evaluations() != steps) {
            found.push(format!("{} steps, not {steps}", self.steps));
        }
        let own = fitted(GUIDANCE).and_then(|text| text.parse::<f64>().ok());
        let ratio = |own: f64| guidance.max(1.0) / own.max(1.0);
        if let Some(own) = own.filter(|own| !(1.0 / FAR..=FAR).contains(&ratio(*own))) {
            found.push(format!("guidance {own}, not {guidance}"));
        }
        (!found.is_empty()).then(|| found.join("; "))
    }
}
