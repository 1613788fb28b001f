//! What a plan was fitted on, and whether a generation is like that.

use std::collections::BTreeMap;

use super::Plan;

const GUIDANCE: &str = "guidance";
const PICTURES: &str = "pictures";
const SIGNAL: &str = "signal";

/// Guidance that is so many times more or less than fitted on is told.
const FAR: f64 = 1.6;

/// What was drawn to fit a plan; samplers and steps are those of its schedules.
#[derive(Clone, Copy, Debug)]
pub struct Fitted {
    /// The guidance scale.
    pub guidance: f64,
    /// How many pictures.
    pub pictures: usize,
    /// Signal-to-noise ratio of the final latents to the original's, in dB; of several schedules the
    /// worst.
    pub signal: f64,
}

impl Fitted {
    /// As a plan tells it.
    #[must_use]
    pub fn told(&self) -> BTreeMap<String, String> {
        [
            (GUIDANCE, self.guidance.to_string()),
            (PICTURES, self.pictures.to_string()),
            (SIGNAL, format!("{:.2} dB", self.signal)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

impl Plan {
    /// What the plan was fitted on, where a generation differs from that; none where it does not, or
    /// the plan was not fitted.
    #[must_use]
    pub fn beyond_fit(&self, sampler: &str, steps: usize, guidance: f64) -> Option<String> {
        if self.fitted.is_empty() {
            return None;
        }
        let mut found = Vec::new();
        if !self.schedules.iter().any(|s| s.is_for(steps, sampler)) {
            let all = self.schedules.iter().map(|s| {
                let sampler = s.sampler.as_deref().unwrap_or("any sampler");
                format!("{} steps of {sampler}", s.evaluations())
            });
            let all: Vec<String> = all.collect();
            found.push(format!("{}, not {steps} of {sampler}", all.join(", ")));
        }
        let own = self
            .fitted
            .get(GUIDANCE)
            .and_then(|text| text.parse::<f64>().ok());
        let ratio = |own: f64| guidance.max(1.0) / own.max(1.0);
        if let Some(own) = own.filter(|own| !(1.0 / FAR..=FAR).contains(&ratio(*own))) {
            found.push(format!("guidance {own}, not {guidance}"));
        }
        (!found.is_empty()).then(|| found.join("; "))
    }
}
