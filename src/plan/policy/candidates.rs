//! Where caches could stand in a graph.

use crate::analysis::attention::AttentionKind;
use crate::analysis::inputs::InputKind;
use crate::analysis::{Analysis, Role, invariant};
use crate::graph::{Family, NodeId, ValueId};
use crate::plan::region;

/// The value that comes through all blocks deeper than a decoder skip connection.
///
/// `run` is the number of outermost skip connections that stay outside. In a merged
/// graph the residuals of those come with it: the whole ControlNet is then inside.
#[must_use]
pub fn deep(analysis: &Analysis<'_>, run: usize) -> Option<Vec<ValueId>> {
    let skips = &analysis.skips;
    let index = skips.len().checked_sub(run.max(1))?;
    let mut tensors = vec![skips.get(index)?.main];
    let own = |v: &ValueId| {
        analysis
            .graph
            .producer(*v)
            .is_some_and(|p| analysis.control.contains(p.index()))
    };
    tensors.extend(
        skips[index..]
            .iter()
            .flat_map(|s| &s.residuals)
            .copied()
            .filter(own),
    );
    tensors.dedup();
    Some(tensors)
}

/// What runs on a step that reuses all blocks below a cut.
struct Shallow<'a, 'm> {
    unet: &'a Analysis<'m>,
    /// MACs of each node.
    macs: Vec<u64>,
    own: u64,
    /// MACs of the files beside the UNet, which do not run then.
    beside: u64,
}

impl<'a, 'm> Shallow<'a, 'm> {
    /// None where the MACs of the UNet are not known.
    fn new(unet: &'a Analysis<'m>, others: &[&Analysis<'_>]) -> Option<Self> {
        let nodes = unet.graph.nodes();
        let macs: Vec<u64> = nodes.map(|n| unet.macs(n, 1).weights).collect();
        let own: u64 = macs.iter().sum();
        let beside = others.iter().map(|a| a.macs_of(a.graph.nodes(), 1).weights);
        (own > 0).then(|| Self {
            unet,
            macs,
            own,
            beside: beside.sum(),
        })
    }

    /// Its share of the MACs of all files.
    #[allow(clippy::cast_precision_loss)]
    fn share(&self, cut: usize) -> f64 {
        let region = deep(self.unet, cut);
        let region = region.map(|tensors| region::derive(&self.unet.graph, &tensors));
        let inside = region.map_or(0, |r| r.nodes.iter().map(|n| self.macs[n]).sum());
        self.own.saturating_sub(inside) as f64 / (self.own + self.beside) as f64
    }

    /// The cut whose share is nearest. Wider cuts run more, so it is found by halving.
    fn nearest(&self, share: f64) -> usize {
        let (mut low, mut high) = (1, self.unet.skips.len().max(1));
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.share(middle) < share {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let narrower = low.saturating_sub(1).max(1);
        match share - self.share(narrower) < self.share(low) - share {
            true => narrower,
            false => low,
        }
    }
}

/// The number of outermost skips to leave outside so that about `share` of the MACs of all
/// files runs on a reuse step; at least 1.
///
/// A graph whose MACs are not known is cut at a quarter of its skips.
#[must_use]
pub fn cut(unet: &Analysis<'_>, others: &[&Analysis<'_>], share: f64) -> usize {
    let shallow = Shallow::new(unet, others);
    shallow.map_or((unet.skips.len() / 4).max(1), |s| s.nearest(share))
}

/// Further cuts, each deeper than the one before, that divide the blocks below `outermost` into parts of about as
/// many MACs: at most `count`.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn inner_cuts(
    unet: &Analysis<'_>,
    others: &[&Analysis<'_>],
    (outermost, count): (usize, usize),
) -> Vec<usize> {
    let mut cuts = Vec::new();
    let Some(shallow) = Shallow::new(unet, others) else {
        return cuts;
    };
    let first = shallow.share(outermost);
    let all = shallow.share(unet.skips.len() + 1);
    for part in 1..=count {
        let share = first + (all - first) * part as f64 / (count + 1) as f64;
        let cut = shallow.nearest(share);
        if cut > cuts.last().copied().unwrap_or(outermost) {
            cuts.push(cut);
        }
    }
    cuts
}

/// All that the decoder takes from encoder and mid block, residuals included.
#[must_use]
pub fn encoder(analysis: &Analysis<'_>) -> Option<Vec<ValueId>> {
    let mut tensors = vec![analysis.skips.first()?.main];
    tensors.extend(analysis.skips.iter().map(|s| s.operand));
    tensors.sort_unstable();
    tensors.dedup();
    Some(tensors)
}

/// Residuals of a ControlNet: its outputs that depend on the latent.
#[must_use]
pub fn residuals(analysis: &Analysis<'_>) -> Vec<ValueId> {
    let outputs = analysis.graph.outputs().iter().copied();
    let made = |v: &ValueId| analysis.graph.producer(*v).is_some();
    outputs
        .filter(|v| made(v) && analysis.has(*v, InputKind::Latent))
        .collect()
}

/// In a merged graph, the ControlNet values before the projections ("zero
/// convolutions") of the residuals.
#[must_use]
pub fn merged_control(analysis: &Analysis<'_>) -> Vec<ValueId> {
    if analysis.role != Role::Merged {
        return Vec::new();
    }
    let graph = &analysis.graph;
    let inside = |v: &ValueId| {
        graph
            .producer(*v)
            .is_some_and(|p| analysis.control.contains(p.index()))
    };
    let residuals = analysis.skips.iter().flat_map(|s| &s.residuals);
    let residuals = residuals
        .chain(&analysis.mid_residuals)
        .copied()
        .filter(inside);
    let mut tensors: Vec<ValueId> = residuals
        .filter_map(|r| before_projection(analysis, r))
        .collect();
    tensors.sort_unstable();
    tensors.dedup();
    tensors
}

fn before_projection(analysis: &Analysis<'_>, residual: ValueId) -> Option<ValueId> {
    let mut value = residual;
    loop {
        let node = analysis.graph.producer(value)?;
        let family = analysis.graph.family(node);
        let conv = family.convolves();
        if !conv && !family.rearranges() && family != Family::Product {
            return None;
        }
        let inputs = analysis.graph.inputs_of(node).iter().copied();
        value = inputs
            .into_iter()
            .find(|v| analysis.has(*v, InputKind::Latent))?;
        if conv {
            return Some(value);
        }
    }
}

/// Output of every cross-attention with the name of its block.
#[must_use]
pub fn cross_attention(analysis: &Analysis<'_>) -> Vec<(String, ValueId)> {
    let mut found: Vec<(String, ValueId)> = Vec::new();
    for attention in analysis
        .attention
        .iter()
        .filter(|a| a.kind == AttentionKind::Cross)
    {
        // Several may share a result: of text and picture in an IP-Adapter.
        if found.iter().any(|(_, output)| *output == attention.output) {
            continue;
        }
        let node = attention.core.first().copied();
        let block = node.and_then(|n: NodeId| analysis.block_of(n));
        let block = block.map_or("attention", |b| b.id.as_str());
        let before = found
            .iter()
            .filter(|(b, _)| b.rsplit_once('-').is_some_and(|x| x.0 == block));
        let name = format!("{block}-{}", before.count());
        found.push((name, attention.output));
    }
    found
}

/// Values that are the same on every step and cost something to make.
#[must_use]
pub fn invariant_values(analysis: &Analysis<'_>) -> Vec<ValueId> {
    let made = |v: &ValueId| analysis.graph.producer(*v).is_some();
    invariant::find(analysis)
        .frontier
        .into_iter()
        .filter(made)
        .collect()
}
