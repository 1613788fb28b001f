//! What `hgc bench` measures.

use serde::Serialize;

/// Times and MACs of one step of one file.
#[derive(Clone, Debug, Serialize)]
pub struct StepTimes {
    /// Step.
    pub step: usize,
    /// The kind that ran.
    pub kind: String,
    /// Seconds of the original.
    pub original: f64,
    /// Seconds of the rewritten.
    pub rewritten: f64,
    /// MACs planned for the rewritten.
    pub macs_planned: u64,
    /// MACs that ran, from the profile; none where the engine has no profile.
    pub macs_executed: Option<u64>,
}

/// One file's measurement.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Name in the plan.
    pub name: String,
    /// Steps.
    pub steps: Vec<StepTimes>,
    /// MACs of one original step.
    pub macs_original: u64,
}

/// The whole measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Timings {
    /// Steps that were run.
    pub steps: usize,
    /// Whether all files were in memory at once; else they ran one after the other on
    /// the same made-up inputs.
    pub interleaved: bool,
    /// By file.
    pub files: Vec<FileReport>,
    /// Seconds of all original evaluations.
    pub seconds_original: f64,
    /// Seconds of all rewritten evaluations.
    pub seconds_rewritten: f64,
    /// Measured speed-up.
    pub speed_up: f64,
    /// Speed-up that MACs predict.
    pub speed_up_macs: f64,
    /// Measured over predicted.
    pub efficiency: f64,
    /// Whether the MACs that ran are those of the plan; none without a profile.
    pub macs_match: Option<bool>,
}

/// Times of all steps of one kind, of one file.
#[derive(Clone, Debug)]
pub struct KindTimes {
    /// The kind.
    pub kind: String,
    /// Its steps.
    pub count: usize,
    /// Median of the original's seconds on them.
    pub original: f64,
    /// Median of the rewritten's seconds.
    pub rewritten: f64,
    /// Median of their ratios: original and rewritten ran one after the other.
    pub ratio: f64,
    /// MACs planned, as a share of the original's step.
    pub share: f64,
}

impl FileReport {
    /// Times by kind, in the order in which they come.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn by_kind(&self) -> Vec<KindTimes> {
        let mut names: Vec<&String> = Vec::new();
        for step in &self.steps {
            if !names.contains(&&step.kind) {
                names.push(&step.kind);
            }
        }
        let times = |name: &&String| {
            let own: Vec<&StepTimes> = self.steps.iter().filter(|s| s.kind == **name).collect();
            let of = |what: fn(&StepTimes) -> f64| median(own.iter().map(|s| what(s)).collect());
            let macs: u64 = own.iter().map(|s| s.macs_planned).sum();
            KindTimes {
                kind: (*name).clone(),
                count: own.len(),
                original: of(|s| s.original),
                rewritten: of(|s| s.rewritten),
                ratio: of(|s| s.rewritten / s.original.max(1e-9)),
                share: macs as f64 / (self.macs_original as f64 * own.len() as f64).max(1.0),
            }
        };
        names.iter().map(times).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Timings {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn summarise(&mut self) {
        let report = self;
        let steps = || report.files.iter().flat_map(|f| &f.steps);
        let original: f64 = steps().map(|s| s.original).sum();
        let rewritten: f64 = steps().map(|s| s.rewritten).sum();
        let planned: u64 = steps().map(|s| s.macs_planned).sum();
        let before: u64 = report
            .files
            .iter()
            .map(|f| f.macs_original * f.steps.len() as u64)
            .sum();
        let all_counted = steps().all(|s| s.macs_executed.is_some());
        let matches = steps().all(|s| s.macs_executed == Some(s.macs_planned));
        report.macs_match = all_counted.then_some(matches);
        report.seconds_original = original;
        report.seconds_rewritten = rewritten;
        report.speed_up = original / rewritten.max(1e-9);
        report.speed_up_macs = before as f64 / (planned as f64).max(1.0);
        report.efficiency = report.speed_up / report.speed_up_macs.max(1e-9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_medians() {
        let step = |(step, kind, original, rewritten): (usize, &str, f64, f64)| StepTimes {
            step,
            kind: kind.to_owned(),
            original,
            rewritten,
            macs_planned: if kind == "reuse" { 5 } else { 100 },
            macs_executed: None,
        };
        let all = [
            (0, "full", 1.0, 1.1),
            (1, "reuse", 1.0, 0.1),
            (2, "reuse", 9.0, 0.3),
            (3, "reuse", 2.0, 0.2),
        ];
        let file = FileReport {
            name: "unet".to_owned(),
            steps: all.into_iter().map(step).collect(),
            macs_original: 100,
        };
        let kinds = file.by_kind();
        assert_eq!((kinds[0].kind.as_str(), kinds[1].count), ("full", 3));
        assert!((kinds[1].original - 2.0).abs() < 1e-9 && (kinds[1].ratio - 0.1).abs() < 1e-9);
        assert!((kinds[1].share - 0.05).abs() < 1e-9);
    }
}
