//! Which policy is ahead at equal compute, and how far a policy goes.

use serde::Serialize;

use super::draw::{Measured, Quality};
use super::statistics::{interval, mean};

/// Reductions below this are not compared.
pub const LEAST_REDUCTION: f64 = 0.4;
/// Relative drop of mIoU and of prompt accuracy that still counts as faithful.
pub const FAITHFUL: f64 = 0.015;

/// A point of another policy against the best of ours that computes no more.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The other point.
    pub other: String,
    /// Its reduction.
    pub reduction: f64,
    /// Our point, with at least that reduction; none where there is no such point.
    pub ours: Option<String>,
    /// Our reduction.
    pub our_reduction: Option<f64>,
    /// Mean difference of mIoU, ours less the other's.
    pub miou: Option<f64>,
    /// Its paired 95 % bootstrap interval.
    pub miou_interval: Option<[f64; 2]>,
    /// Mean difference of PSNR in dB.
    pub psnr: Option<f64>,
    /// Whether ours is ahead in PSNR and not behind in mIoU by more than chance.
    pub ahead: bool,
}

/// Relative drop against a baseline; 0 where there is none.
#[must_use]
pub fn drop_of(baseline: Option<f64>, own: Option<f64>) -> Option<f64> {
    let (baseline, own) = (baseline?, own?);
    (baseline > 0.0).then(|| (baseline - own) / baseline)
}

/// Whether mIoU and prompt accuracy dropped by no more than [`FAITHFUL`].
#[must_use]
pub fn is_faithful(baseline: &Quality, own: &Quality) -> Option<bool> {
    let miou = drop_of(baseline.mean_iou(), own.mean_iou())?;
    let accuracy = drop_of(baseline.accuracy(), own.accuracy())?;
    Some(miou <= FAITHFUL && accuracy <= FAITHFUL)
}

/// The point with the largest reduction that is faithful.
#[must_use]
pub fn furthest<'m>(
    baseline: &Quality,
    points: impl Iterator<Item = &'m Measured>,
) -> Option<&'m Measured> {
    points
        .filter(|p| is_faithful(baseline, &p.quality) == Some(true))
        .max_by(|a, b| a.reduction().total_cmp(&b.reduction()))
}

/// Compares every other point from [`LEAST_REDUCTION`] up with our best one that has at
/// least its reduction: the highest PSNR among those that are not behind in mIoU, or among
/// all of those where there is none.
#[must_use]
pub fn compare(ours: &[&Measured], others: &[&Measured]) -> Vec<Comparison> {
    let compared = others.iter().filter(|o| o.reduction() >= LEAST_REDUCTION);
    compared.map(|other| one(ours, other)).collect()
}

fn one(ours: &[&Measured], other: &Measured) -> Comparison {
    let cheap = ours
        .iter()
        .filter(|o| o.after.weights <= other.after.weights)
        .map(|o| (*o, differences(&o.quality.miou, &other.quality.miou)))
        .map(|(o, miou)| {
            (
                o,
                (!miou.is_empty()).then(|| (mean(&miou), interval(&miou))),
            )
        });
    // Behind only if the whole interval is below zero.
    let holds = |miou: &Option<(f64, [f64; 2])>| miou.is_none_or(|(_, [_, high])| high >= 0.0);
    let best = cheap.max_by(|(a, x), (b, y)| {
        let psnr = mean(&a.quality.psnr).total_cmp(&mean(&b.quality.psnr));
        holds(x).cmp(&holds(y)).then(psnr)
    });
    let mut result = Comparison {
        other: other.point.label.clone(),
        reduction: other.reduction(),
        ours: None,
        our_reduction: None,
        miou: None,
        miou_interval: None,
        psnr: None,
        ahead: false,
    };
    let Some((best, miou)) = best else {
        return result;
    };
    let psnr = mean(&differences(&best.quality.psnr, &other.quality.psnr));
    result.ours = Some(best.point.label.clone());
    result.our_reduction = Some(best.reduction());
    result.miou = miou.map(|(mean, _)| mean);
    result.miou_interval = miou.map(|(_, bounds)| bounds);
    result.psnr = Some(psnr);
    result.ahead = psnr > 0.0 && holds(&miou);
    result
}

fn differences(ours: &[f64], others: &[f64]) -> Vec<f64> {
    ours.iter().zip(others).map(|(a, b)| a - b).collect()
}
