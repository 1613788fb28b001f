//! Policies with parameters: one point each in the plane of compute and fidelity.

use crate::plan::policy::{Options, Policy};

/// A policy with its parameters.
#[derive(Clone, Debug)]
pub struct Point {
    /// The policy.
    pub policy: Policy,
    /// Its parameters.
    pub options: Options,
    /// What tells it from others: `deepcache:interval=3,cut=1`.
    pub label: String,
}

/// Reads `policy` or `policy:key=a|b,key=c`: a point for every combination of values.
/// Keys are the options of `hgc compile`; steps in a list are joined by `+`.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn parse(text: &str, base: &Options) -> Result<Vec<Point>, String> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let policy: Policy = name.parse()?;
    let mut points = vec![Point {
        policy,
        options: base.clone(),
        label: name.to_owned(),
    }];
    for pair in rest.split(',').filter(|p| !p.is_empty()) {
        let Some((key, values)) = pair.split_once('=') else {
            return Err(format!("{text:?}: {pair:?} is not key=value"));
        };
        let repeated = rest
            .split(',')
            .filter(|p| p.split_once('=').is_some_and(|p| p.0 == key));
        if repeated.count() > 1 {
            return Err(format!("{text:?}: {key} is given twice; join values by |"));
        }
        let mut next = Vec::new();
        for point in &points {
            for value in values.split('|') {
                let mut point = point.clone();
                set(&mut point.options, key, value).map_err(|e| format!("{text:?}: {e}"))?;
                let separator = if point.label == name { ':' } else { ',' };
                point.label = format!("{}{separator}{key}={value}", point.label);
                next.push(point);
            }
        }
        points = next;
        if !policy.parameters().contains(&key) {
            return Err(format!("{text:?}: {policy} has no parameter {key:?}"));
        }
    }
    if policy == Policy::Hgc && rest.contains("key-steps") && rest.contains("lambda-inter") {
        return Err(format!(
            "{text:?}: key-steps stands in place of lambda-inter; leave one out"
        ));
    }
    for point in &points {
        let checked = point.options.check();
        checked.map_err(|e| format!("{:?}: {e}", point.label))?;
    }
    Ok(points)
}

fn set(options: &mut Options, key: &str, value: &str) -> Result<(), String> {
    let wrong = || format!("{value:?} is no value of {key}");
    let count = || value.parse::<usize>().map_err(|_| wrong());
    let share = || value.parse::<f64>().map_err(|_| wrong());
    match key {
        "cut" => options.cut = Some(count()?),
        "interval" => options.interval = count()?,
        "gate-step" => options.gate_step = Some(count()?),
        "lambda-inter" => options.lambda_inter = share()?,
        "lambda-intra" => options.lambda_intra = share()?,
        "lambda-guidance" => options.lambda_guidance = share()?,
        "reuse" => options.reuse = value.parse()?,
        "control-interval" => options.control_interval = count()?,
        "whole-batch" => options.whole_batch = value.parse().map_err(|_| wrong())?,
        "key-steps" => {
            let steps: Result<Vec<usize>, _> = value.split('+').map(str::parse).collect();
            options.key_steps = Some(steps.map_err(|_| wrong())?);
        }
        _ => {
            return Err(format!(
                "no parameter {key:?}; there are cut, interval, key-steps, gate-step, \
                 lambda-inter, lambda-intra, lambda-guidance, reuse, control-interval and \
                 whole-batch"
            ));
        }
    }
    Ok(())
}

/// The published grid of a policy for a UNet with `skips` skip connections: see
/// docs/POLICIES.md.
#[must_use]
pub fn grid(policy: Policy, base: &Options, skips: usize) -> Vec<Point> {
    let steps = base.steps;
    let texts = match policy {
        Policy::None | Policy::Lossless => vec![policy.name().to_owned()],
        Policy::DeepCache => {
            let mut cuts = vec![1, skips / 4, skips / 2, 3 * skips / 4];
            cuts.retain(|c| *c > 0);
            cuts.dedup();
            let intervals = [2, 3, 5, 8].into_iter().filter(|i| *i < steps);
            vec![format!(
                "deepcache:cut={},interval={}",
                joined(cuts),
                joined(intervals)
            )]
        }
        Policy::FasterDiffusion => {
            // Evenly spaced, and as published.
            let even = [2, 3, 5, 8]
                .into_iter()
                .filter(|gap| *gap < steps)
                .map(|gap| (0..steps).step_by(gap).collect::<Vec<_>>());
            let published = base.key_steps();
            let mut early = published.clone();
            early.retain(|s| *s <= steps / 4);
            let lists = even.chain([published, early]);
            vec![format!(
                "faster-diffusion:key-steps={}",
                joined(lists.map(list))
            )]
        }
        Policy::TGate => vec![format!(
            "tgate:gate-step={}",
            joined(gates(steps, &[2, 5, 10, 15]))
        )],
        Policy::HgcPaper => vec![format!(
            "hgc-paper:gate-step={},lambda-inter=0.1|0.2|0.3|0.5,lambda-intra=0|0.5",
            joined(gates(steps, &[5, 10, 15]))
        )],
        Policy::Hgc => {
            let all = joined(gates(steps, &[2, 5, 10, 15, 16, 18, 20]));
            let late = joined(gates(steps, &[10, 15, 20]));
            vec![
                format!(
                    "hgc:gate-step={all},\
                     lambda-inter=0.1|0.15|0.2|0.25|0.3|0.35|0.4|0.45|0.5|0.6"
                ),
                // Closer to the original for little more compute.
                format!("hgc:gate-step={late},lambda-inter=0.3|0.5,lambda-intra=1"),
                // Few refreshes and a gate step well before the end: less dense at the end.
                format!(
                    "hgc:gate-step={},key-steps={},lambda-intra=1",
                    joined(gates(steps, &[15])),
                    list(scaled(steps, &[0, 1, 4, 8, 12, 15]))
                ),
            ]
        }
    };
    let parsed = texts.iter().map(|t| parse(t, base).unwrap_or_default());
    parsed.flatten().collect()
}

/// Steps that are to all steps as `of_twenty` to 20.
fn scaled(steps: usize, of_twenty: &[usize]) -> Vec<usize> {
    let mut scaled: Vec<usize> = of_twenty.iter().map(|n| n * steps / 20).collect();
    scaled.dedup();
    scaled
}

/// Gate steps that are to all steps as `of_twenty` to 20.
fn gates(steps: usize, of_twenty: &[usize]) -> Vec<usize> {
    let mut gates = scaled(steps, of_twenty);
    gates.retain(|g| *g > 0);
    gates
}

/// Steps as `key-steps` takes them.
fn list(steps: impl IntoIterator<Item = usize>) -> String {
    by("+", steps)
}

/// Values to try.
fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    by("|", values)
}

fn by<T: ToString>(separator: &str, values: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    texts.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations() -> Result<(), String> {
        let base = Options::new(20);
        let points = parse("deepcache:interval=2|5,cut=1|3", &base)?;
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
        assert_eq!(
            (points[3].options.interval, points[3].options.cut),
            (5, Some(3))
        );
        let keys = parse("faster-diffusion:key-steps=0+4+9", &base)?;
        assert_eq!(keys[0].options.key_steps, Some(vec![0, 4, 9]));
        Ok(())
    }

    #[test]
    fn mistakes_are_named() {
        let base = Options::new(20);
        for (text, part) in [
            ("nothing", "no policy"),
            ("hgc:lambda=3", "no parameter"),
            ("deepcache:lambda-inter=0.3", "deepcache has no parameter"),
            ("hgc:lambda-inter=x", "no value"),
            ("hgc:lambda-inter=3", "from 0 to 1"),
            ("tgate:gate-step", "not key=value"),
            ("tgate:gate-step=2,gate-step=3", "given twice"),
            ("hgc:key-steps=0+3,lambda-inter=0.3", "leave one out"),
            ("faster-diffusion:key-steps=99", "the last step is 19"),
        ] {
            let error = parse(text, &base).err().unwrap_or_default();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn every_grid_is_valid() {
        for steps in [1, 4, 20, 50] {
            let base = Options::new(steps);
            for policy in Policy::ALL {
                let points = grid(policy, &base, 12);
                assert!(!points.is_empty() || steps < 4, "{policy} {steps}");
                assert!(points.iter().all(|p| p.options.check().is_ok()));
            }
        }
    }
}
