//! What cached values would be on evaluations that read them: sums from which weights are fitted.
//!
//! Beside the cached networks run the originals, with the cached values as further outputs, on the same
//! latents: so errors are those on the way that the cached pipeline itself takes.

use crate::compile::{Compiled, Planned, Project};
use crate::convention::GUIDANCE;
use crate::engine::{DeviceTensor, Engine, SessionOptions, Tensor};
use crate::graph::ValueId;
use crate::pipeline::{Evaluator, Network, Networks, PipelineError, Step};
use crate::plan::kinds::gate_name;
use crate::plan::schedule::GateSchedule;
use crate::plan::{Plan, Prompted, Reuse};

/// Sums over values of one site on one evaluation that reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Of the change since the last refresh, squared.
    pub change: f64,
    /// Of the change times the slope.
    pub product: f64,
    /// Of the slope, squared.
    pub slope: f64,
}

/// Added to the square of the slope, as a share of it: what little speaks for a weight is not enough.
const RIDGE: f64 = 0.1;

impl Sum {
    fn add(&mut self, value: &[f32], last: &[f32], slope: &[f32]) {
        for ((value, last), slope) in value.iter().zip(last).zip(slope) {
            let (change, slope) = (f64::from(value - last), f64::from(*slope));
            self.change += change * change;
            self.product += change * slope;
            self.slope += slope * slope;
        }
    }

    /// The weight with the least squared error, shrunk towards holding; 0 where there is no slope.
    #[must_use]
    pub fn weight(&self) -> f64 {
        let square = self.slope * (1.0 + RIDGE);
        if square > 0.0 && square.is_finite() {
            self.product / square
        } else {
            0.0
        }
    }

    /// The squared error with a weight.
    #[must_use]
    pub fn error(&self, weight: f64) -> f64 {
        self.change - 2.0 * weight * self.product + weight * weight * self.slope
    }
}

/// Sums by evaluation, of one site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name in the tables of weights.
    pub name: String,
    /// When it is refreshed.
    pub schedule: GateSchedule,
    /// One an evaluation.
    pub sums: Vec<Sum>,
    from: From,
}

/// Where the values of a site come from.
#[derive(Clone, Debug)]
enum From {
    /// Outputs of a network, by position; the UNet is network 0.
    Outputs { network: usize, outputs: Vec<usize> },
    /// The difference of the halves of the prediction.
    Difference,
}

/// The originals, which show what is cached.
pub struct Probe {
    networks: Networks,
    prompted: Prompted,
    /// What they show by network: values of the graphs, in the order of outputs.
    shown: Vec<Vec<ValueId>>,
}

impl Probe {
    /// Loads the originals of a plan.
    ///
    /// # Errors
    /// [`PipelineError`] if one cannot be loaded.
    pub fn open(
        engine: &'static Engine,
        project: &Project<'_>,
        (planned, compiled): (&Planned, &Compiled),
        options: &SessionOptions,
    ) -> Result<Self, PipelineError> {
        let (mut networks, mut shown) = (Vec::new(), Vec::new());
        for (index, model) in compiled.models.iter().enumerate() {
            let analysis = &project.analyses()[index];
            let graph = &analysis.graph;
            let mut all = graph.outputs().to_vec();
            for tensor in planned.layouts[index].sites.iter().flat_map(|s| &s.tensors) {
                if !tensor.measure && !all.contains(&tensor.value) {
                    all.push(tensor.value);
                }
            }
            let network = Network::showing(
                engine,
                (&model.path, &model.original),
                analysis,
                &all,
                options,
            )?;
            networks.push((network, model.path.clone()));
            shown.push(all);
        }
        let mut networks = networks.into_iter();
        let unet = networks.next().ok_or_else(|| PipelineError::Refused {
            what: "the plan has no models".to_owned(),
        })?;
        Ok(Self {
            networks: Networks {
                unet,
                controlnets: networks.collect(),
            },
            prompted: planned.plan.guidance.prompted,
            shown,
        })
    }

    /// The sites of the plan's schedule number `schedule` that can be fitted.
    #[must_use]
    pub fn sites(&self, plan: &Plan, planned: &Planned) -> Vec<Site> {
        let mut found = Vec::new();
        let site = |name, schedule: &GateSchedule, from| Site {
            name,
            schedule: schedule.clone(),
            sums: vec![Sum::default(); schedule.steps()],
            from,
        };
        for (network, model) in plan.models.iter().enumerate() {
            for placed in &planned.layouts[network].sites {
                let fitted = placed.site.reuse == Reuse::Fitted;
                let Some(gate) = model.gate(&placed.site.gate).filter(|_| fitted) else {
                    continue;
                };
                let position =
                    |value: &ValueId| self.shown[network].iter().position(|v| v == value);
                let outputs = placed.tensors.iter().filter_map(|t| position(&t.value));
                let outputs = outputs.collect();
                let name = gate_name(&model.name, &placed.site.name);
                found.push(site(
                    name,
                    &gate.schedule,
                    From::Outputs { network, outputs },
                ));
            }
        }
        if plan.guidance.reuse == Reuse::Fitted && plan.holds_guidance() {
            let full = plan.guidance.schedule.full_steps();
            found.push(site(GUIDANCE.to_owned(), &full, From::Difference));
        }
        found
    }
}

/// Records one generation.
pub struct Recorder<'r> {
    probe: &'r mut Probe,
    sites: &'r mut [Site],
    kept: Vec<Kept>,
}

/// What a site keeps.
#[derive(Clone, Default)]
struct Kept {
    last: Option<(usize, Vec<f32>)>,
    slope: Option<Vec<f32>>,
}

impl<'r> Recorder<'r> {
    /// A recorder that adds to the sums of `sites`.
    pub fn new(probe: &'r mut Probe, sites: &'r mut [Site]) -> Self {
        let kept = vec![Kept::default(); sites.len()];
        Self { probe, sites, kept }
    }
}

impl Evaluator for Recorder<'_> {
    fn predict(
        &mut self,
        index: usize,
        step: &Step<'_>,
        networks: &mut Networks,
    ) -> Result<Vec<f32>, PipelineError> {
        let (controlnets, unet) = self.probe.networks.evaluate(step)?;
        for (site, kept) in self.sites.iter_mut().zip(&mut self.kept) {
            let value = values(&site.from, self.probe.prompted, (&controlnets, &unet))?;
            kept.see(index, value, site);
        }
        networks.predict(step)
    }
}

/// The values of a site, one after the other.
fn values(
    from: &From,
    prompted: Prompted,
    (controlnets, unet): (&[Vec<DeviceTensor>], &[Tensor]),
) -> Result<Vec<f32>, PipelineError> {
    let mut found = Vec::new();
    match from {
        From::Outputs {
            network: 0,
            outputs,
        } => {
            let tensors = outputs.iter().filter_map(|o| unet.get(*o));
            tensors.for_each(|t| found.extend(t.to_f32()));
        }
        From::Outputs { network, outputs } => {
            let own = controlnets.get(network - 1);
            for tensor in outputs.iter().filter_map(|o| own?.get(*o)) {
                found.extend(tensor.to_tensor()?.to_f32());
            }
        }
        From::Difference => {
            let whole = unet.first().map(Tensor::to_f32).unwrap_or_default();
            let (first, second) = whole.split_at(whole.len() / 2);
            let (with, without) = match prompted {
                Prompted::Last => (second, first),
                Prompted::First => (first, second),
            };
            found.extend(with.iter().zip(without).map(|(p, u)| p - u));
        }
    }
    Ok(found)
}

impl Kept {
    #[allow(clippy::cast_precision_loss)]
    fn see(&mut self, index: usize, value: Vec<f32>, site: &mut Site) {
        if !site.schedule.refreshes(index) {
            let known = self.last.as_ref().zip(self.slope.as_ref());
            if let (Some(((_, last), slope)), Some(sum)) = (known, site.sums.get_mut(index)) {
                sum.add(&value, last, slope);
            }
            return;
        }
        let gap = site.schedule.gap(index).filter(|gap| *gap > 0);
        self.slope = gap.zip(self.last.as_ref()).map(|(gap, (_, last))| {
            let both = value.iter().zip(last);
            both.map(|(new, old)| (new - old) / gap as f32).collect()
        });
        self.last = Some((index, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_least_squares() {
        let mut sum = Sum::default();
        // The value moves half of the slope.
        sum.add(&[1.5, 3.0], &[1.0, 2.0], &[1.0, 2.0]);
        assert!((sum.weight() - 0.5 / (1.0 + RIDGE)).abs() < 1e-9);
        assert!((sum.error(0.5)).abs() < 1e-9);
        assert!((sum.error(0.0) - 1.25).abs() < 1e-9);
        assert!(Sum::default().weight().abs() < 1e-9);
    }

    #[test]
    fn slopes_come_from_the_last_two_refreshes() {
        let mut site = Site {
            name: "a".to_owned(),
            schedule: GateSchedule::at(5, &[0, 2]),
            sums: vec![Sum::default(); 5],
            from: From::Difference,
        };
        let mut kept = Kept::default();
        for (index, value) in [0.0, 1.0, 4.0, 7.0, 8.0].into_iter().enumerate() {
            kept.see(index, vec![value], &mut site);
        }
        // No slope after the first refresh, then 2 an evaluation.
        assert!(site.sums[1].slope.abs() < 1e-9);
        assert!((site.sums[3].product - 6.0).abs() < 1e-9);
        assert!((site.sums[4].change - 16.0).abs() < 1e-9);
    }
}
