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
        other: other.subject.label.clone(),
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
    result.ours = Some(best.subject.label.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::macs::Macs;
    use crate::plan::parameter::Parameters;
    use crate::plan::policy::Point;
    use crate::unstable::eval::Subject;

    /// A point that leaves `weights` of 100 MACs, with these scores on two scenes.
    fn point(label: &str, weights: u64, psnr: f64, miou: [f64; 2]) -> Option<Measured> {
        let point = Point::one(label, &Parameters::new(20)).ok()?;
        let macs = |weights| Macs { weights, all: 0 };
        Some(Measured {
            subject: Subject::of_policy(point),
            cache_bytes: 0,
            before: macs(100),
            after: macs(weights),
            seconds: Vec::new(),
            quality: Quality {
                psnr: vec![psnr; 2],
                miou: miou.to_vec(),
                ..Quality::default()
            },
            pictures: Vec::new(),
        })
    }

    #[test]
    fn the_best_point_computes_no_more_and_keeps_miou() -> Result<(), &'static str> {
        let ours = [
            point("hgc:cut=1", 39, 20.0, [0.8, 0.8]),
            point("hgc:cut=2", 40, 30.0, [0.5, 0.5]),
            point("hgc:cut=3", 41, 40.0, [0.9, 0.9]),
        ];
        let ours: Vec<&Measured> = ours.iter().flatten().collect();
        let other = |psnr, miou| point("deepcache", 40, psnr, miou).ok_or("a policy");
        let label = |c: &Comparison| c.ours.clone();

        let worse = other(19.0, [0.8, 0.8])?;
        let found = compare(&ours, &[&worse]);
        assert_eq!(label(&found[0]).as_deref(), Some("hgc:cut=1"));
        assert!(found[0].ahead);

        // Behind in PSNR, though not in mIoU.
        let closer = other(25.0, [0.8, 0.8])?;
        assert!(!compare(&ours, &[&closer])[0].ahead);

        // None of ours keeps mIoU: the one with the highest PSNR is named, and is behind.
        let truer = other(19.0, [0.95, 0.95])?;
        let found = compare(&ours, &[&truer]);
        assert_eq!(label(&found[0]).as_deref(), Some("hgc:cut=2"));
        assert!(!found[0].ahead);

        // Too little saved to be compared, and too much for any of ours.
        let dear = point("deepcache", 61, 9.0, [0.1, 0.1]).ok_or("a policy")?;
        let cheap = point("deepcache", 10, 9.0, [0.1, 0.1]).ok_or("a policy")?;
        let found = compare(&ours, &[&dear, &cheap]);
        assert_eq!(found.len(), 1);
        assert!(!found[0].ahead && found[0].ours.is_none());
        Ok(())
    }
}
