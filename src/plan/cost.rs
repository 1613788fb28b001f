//! What a plan costs: MACs by step and cache memory.

use super::Kind;
use super::data::{ModelPlan, Plan, Rows};
use super::layout::{Layout, Placed};
use super::storage::Storage;
use crate::analysis::Analysis;
use crate::analysis::inputs::InputKind;
use crate::analysis::macs::Macs;

/// The share that is saved where `after` takes the place of `before`.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn saved(before: u64, after: u64) -> f64 {
    if before == 0 {
        return 0.0;
    }
    1.0 - after as f64 / before as f64
}

/// The fewest of `steps` steps of the original that compute no less than a generation which saves a
/// share of the MACs.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
pub fn fewest_steps(steps: usize, saved: f64) -> usize {
    // What differs by rounding alone is the same.
    let fewest = (steps as f64 * (1.0 - saved) - 1e-6).ceil();
    (fewest as usize).max(1)
}

/// Cost of one model over a generation.
#[derive(Clone, Debug)]
pub struct Cost {
    /// MACs of the original model, each step.
    pub original: Macs,
    /// MACs by step.
    pub steps: Vec<Macs>,
    /// Bytes of all caches.
    pub cache_bytes: u64,
    /// Bytes of each site's caches, parallel to [`Layout::sites`].
    pub site_bytes: Vec<u64>,
}

impl Cost {
    /// Counts `plan` on the analysed graph, at the batch of its [`Sizes`].
    ///
    /// [`Sizes`]: crate::analysis::shapes::Sizes
    #[must_use]
    pub fn new(analysis: &Analysis<'_>, plan: &Plan, model: &ModelPlan, layout: &Layout) -> Self {
        let batch = analysis.sizes.batch;
        let half = (batch / 2).max(1);
        let nodes: Vec<_> = analysis.graph.nodes().collect();
        let whole: Vec<Macs> = nodes.iter().map(|n| analysis.macs(*n, batch)).collect();
        let halved: Vec<Macs> = nodes.iter().map(|n| analysis.macs(*n, half)).collect();
        let guidance = &plan.guidance.schedule;
        let steps = (0..plan.steps).map(|step| {
            let counts = if model.halves && guidance.is_half(step) {
                &halved
            } else {
                &whole
            };
            nodes
                .iter()
                .zip(counts)
                .filter(|(n, _)| layout.runs(**n, step))
                .map(|(_, macs)| *macs)
                .sum()
        });
        let site_bytes: Vec<u64> = layout
            .sites
            .iter()
            .map(|p| site_bytes(p, batch, half))
            .collect();
        let held = guidance_bytes(analysis, plan, model, half);
        Self {
            original: whole.iter().copied().sum(),
            steps: steps.collect(),
            cache_bytes: site_bytes.iter().sum::<u64>() + held,
            site_bytes,
        }
    }

    /// MACs of the generation as planned.
    #[must_use]
    pub fn after(&self) -> Macs {
        self.steps.iter().copied().sum()
    }

    /// MACs of the generation with the original model.
    #[must_use]
    pub fn before(&self) -> Macs {
        let steps = self.steps.len() as u64;
        Macs {
            all: self.original.all * steps,
            weights: self.original.weights * steps,
        }
    }
}

/// MACs of one model by region, from which those of any kind follow.
pub struct Regions {
    /// Of the main graph, then of each region without those inside; on the whole batch, on half.
    whole: Vec<Macs>,
    halved: Vec<Macs>,
}

impl Regions {
    /// Counts the regions of a placed plan, at the batch of the analysis' [`Sizes`].
    ///
    /// [`Sizes`]: crate::analysis::shapes::Sizes
    #[must_use]
    pub fn new(analysis: &Analysis<'_>, layout: &Layout) -> Self {
        let batch = analysis.sizes.batch;
        let sums = |batch: u64| {
            let mut sums = vec![Macs::default(); layout.sites.len() + 1];
            for node in analysis.graph.nodes() {
                let scope = layout.owner[node.index()].map_or(0, |site| site + 1);
                sums[scope] = [sums[scope], analysis.macs(node, batch)].into_iter().sum();
            }
            sums
        };
        Self {
            whole: sums(batch),
            halved: sums((batch / 2).max(1)),
        }
    }

    /// MACs of weight operators of each site's region, without those inside, on the whole batch.
    #[must_use]
    pub fn whole_of_sites(&self) -> Vec<u64> {
        self.whole[1..].iter().map(|m| m.weights).collect()
    }

    /// MACs of an evaluation of this kind.
    #[must_use]
    pub fn of(&self, kind: &Kind, model: &ModelPlan, layout: &Layout) -> Macs {
        let sums = match model.halves && kind.is_half() {
            true => &self.halved,
            false => &self.whole,
        };
        // A region is reached wherever its gate refreshes: a rule of the layout.
        let runs = |gate: &str| kind.gating(&model.name, gate) != super::schedule::Gating::Reuse;
        let sites = layout.sites.iter().zip(&sums[1..]);
        let regions = sites.filter(|(placed, _)| runs(&placed.site.gate));
        regions.map(|(_, macs)| *macs).chain([sums[0]]).sum()
    }
}

fn site_bytes(placed: &Placed, batch: u64, half: u64) -> u64 {
    let rows = if placed.site.rows == Rows::All {
        batch
    } else {
        half
    };
    let bytes = |t: &super::layout::SiteTensor| {
        let states = if placed.site.reuse.forecasts() && !t.measure {
            2
        } else {
            1
        };
        let stored = Storage::of(placed, t);
        t.shape.as_ref().map_or(0, |s| stored.bytes(s, rows)) * states
    };
    placed.tensors.iter().map(bytes).sum()
}

fn guidance_bytes(analysis: &Analysis<'_>, plan: &Plan, model: &ModelPlan, half: u64) -> u64 {
    if !(model.halves && plan.keeps_difference(model.role)) {
        return 0;
    }
    let latent = analysis
        .graph
        .outputs()
        .iter()
        .filter(|v| analysis.has(**v, InputKind::Latent));
    let bytes: u64 = latent
        .filter_map(|v| analysis.shapes.get(*v))
        .map(|s| s.bytes(half))
        .sum();
    bytes
        * if plan.guidance.reuse.forecasts() {
            2
        } else {
            1
        }
}
