//! The result of `hgc eval` as data.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hgc::unstable::eval::compare::{self, Comparison, drop_of, is_faithful};
use hgc::unstable::eval::statistics::mean;
use hgc::unstable::eval::{EvalError, FEWER, Measured, PLAN, Quality, SKIPS, Subject};
use hgc::unstable::pipeline::picture::resized;
use hgc::unstable::plan::policy;
use image::{ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};

/// Longest side of a picture in the page, in pixels: a grid has hundreds of them.
const SHOWN_SIDE: u32 = 256;

/// What was drawn, and with what.
#[derive(Serialize)]
pub struct About {
    pub pipeline: String,
    /// The file of scenes; none for prompts of the command line.
    pub set: Option<String>,
    pub scenes: usize,
    pub steps: usize,
    pub guidance: f64,
    pub sampler: String,
    /// What PSNR and SSIM are measured to: `original` or `converged`.
    pub reference: String,
    pub engine: String,
}

/// The report.
#[derive(Serialize)]
pub struct Report {
    pub about: About,
    /// The pictures of the original.
    pub baseline: Baseline,
    pub points: Vec<Row>,
    /// `hgc` against every other point from 40 % reduction up.
    pub comparisons: Vec<Comparison>,
    /// Of each policy the largest reduction at most 1.5 % worse than the original.
    pub furthest: Vec<Furthest>,
    /// What to do, in a sentence.
    pub recommendation: String,
    /// Points that these models or this engine refuse.
    pub failed: Vec<Failed>,
}

/// A point that could not be drawn.
#[derive(Serialize)]
pub struct Failed {
    pub label: String,
    pub reason: String,
}

impl Failed {
    /// With all that an error says.
    pub fn new(subject: &Subject, error: EvalError) -> Self {
        Self {
            label: subject.label.clone(),
            reason: format!("{:#}", anyhow::Error::new(error)),
        }
    }
}

/// How good the original's pictures are.
#[derive(Serialize)]
pub struct Baseline {
    pub miou: Option<f64>,
    pub accuracy: Option<f64>,
}

/// A policy with parameters and what it costs.
#[derive(Serialize)]
pub struct Row {
    pub policy: String,
    pub label: String,
    /// MACs of one picture, all steps, both halves of guidance.
    pub macs_before: u64,
    pub macs_after: u64,
    pub macs_weights_before: u64,
    pub macs_weights_after: u64,
    /// Share of weight-operator MACs that is saved.
    pub reduction: f64,
    /// Share of all MACs that is saved.
    pub reduction_all: f64,
    /// Bytes of all caches for one picture.
    pub cache_bytes: u64,
    /// Original's time over the cached one's, measured in turns.
    pub speed_up: Option<f64>,
    /// Smallest and largest of single batches, where several were timed.
    pub speed_up_spread: Option<[f64; 2]>,
    /// Mean PSNR to the original's pictures in dB; equal pictures count 100.
    pub psnr: f64,
    pub ssim: f64,
    pub miou: Option<f64>,
    /// Relative to the original's.
    pub miou_drop: Option<f64>,
    pub accuracy: Option<f64>,
    /// Relative to the original's.
    pub accuracy_drop: Option<f64>,
    /// Whether both drops are at most 1.5 %.
    pub faithful: Option<bool>,
    /// Scene by scene.
    pub scenes: Quality,
}

/// How far a policy goes.
#[derive(Serialize)]
pub struct Furthest {
    pub policy: String,
    pub label: Option<String>,
    pub reduction: Option<f64>,
}

impl Report {
    /// Puts the measurements together.
    pub fn new(
        about: About,
        baseline: &Quality,
        measured: &[Measured],
        failed: Vec<Failed>,
    ) -> Self {
        let of = |name: &'static str| measured.iter().filter(move |m| m.subject.policy == name);
        let names = policy::ALL
            .iter()
            .map(|p| p.name())
            .chain([PLAN, FEWER])
            .chain(SKIPS);
        let families = names.filter(|name| of(name).next().is_some());
        let is_ours =
            |m: &&Measured| m.subject.policy == policy::DEFAULT.name() || m.subject.policy == PLAN;
        let (ours, others): (Vec<&Measured>, Vec<&Measured>) = measured.iter().partition(is_ours);
        let scored = baseline.mean_iou().is_some();
        let furthest = families.filter(|_| scored).map(|name| {
            let found = compare::furthest(baseline, of(name));
            Furthest {
                policy: name.to_owned(),
                label: found.map(|m| m.subject.label.clone()),
                reduction: found.map(Measured::reduction),
            }
        });
        let points: Vec<Row> = measured.iter().map(|m| Row::new(m, baseline)).collect();
        Self {
            about,
            baseline: Baseline {
                miou: baseline.mean_iou(),
                accuracy: baseline.accuracy(),
            },
            recommendation: recommend(&points),
            furthest: furthest.collect(),
            failed,
            points,
            comparisons: if ours.is_empty() {
                Vec::new()
            } else {
                compare::compare(&ours, &others)
            },
        }
    }
}

impl Row {
    #[allow(clippy::cast_precision_loss)]
    fn new(measured: &Measured, baseline: &Quality) -> Self {
        let quality = &measured.quality;
        let (before, after) = (measured.before, measured.after);
        Self {
            policy: measured.subject.policy.clone(),
            label: measured.subject.label.clone(),
            macs_before: before.all,
            macs_after: after.all,
            macs_weights_before: before.weights,
            macs_weights_after: after.weights,
            reduction: measured.reduction(),
            reduction_all: 1.0 - after.all as f64 / before.all.max(1) as f64,
            cache_bytes: measured.cache_bytes,
            speed_up: measured.speed_up(),
            speed_up_spread: measured.spread(),
            psnr: mean(&quality.psnr),
            ssim: mean(&quality.ssim),
            miou: quality.mean_iou(),
            miou_drop: drop_of(baseline.mean_iou(), quality.mean_iou()),
            accuracy: quality.accuracy(),
            accuracy_drop: drop_of(baseline.accuracy(), quality.accuracy()),
            faithful: is_faithful(baseline, quality),
            scenes: quality.clone(),
        }
    }
}

/// From this PSNR on, people seldom tell two pictures apart side by side.
const CLOSE: f64 = 30.0;

/// Of the points that lose at most 1.5 %, or without scores stay close to the original's pictures, the
/// one that saves most; without scores a picture that is drawn too rarely tells little.
fn recommend(points: &[Row]) -> String {
    let good = |row: &&Row| row.faithful.unwrap_or(row.psnr >= CLOSE);
    let best = points.iter().filter(good);
    let best = best.max_by(|a, b| a.reduction_all.total_cmp(&b.reduction_all));
    let Some(best) = best else {
        return "No point keeps the pictures: more steps, or a policy that caches less (lossless, \
                hgc:lambda-inter=0.6)."
            .to_owned();
    };
    let faster = best.speed_up.map(|s| format!(", {s:.2} times faster here"));
    let scores = match (best.miou_drop, best.accuracy_drop) {
        (Some(miou), Some(accuracy)) => format!(
            ", mIoU {}, prompt accuracy {}",
            change(Some(miou)),
            change(Some(accuracy))
        ),
        _ => String::new(),
    };
    let how = match best.policy.as_str() {
        PLAN => format!("--plan {}", best.label),
        FEWER => format!("the original with {}", best.label),
        _ => format!("--policy {}", best.label),
    };
    format!(
        "Use {how}: {:.1} % fewer MACs{}, {:.1} dB to the original's pictures{scores}.",
        100.0 * best.reduction_all,
        faster.unwrap_or_default(),
        best.psnr
    )
}

/// A drop as what it is for a reader: `+0.8 %` is a gain.
pub fn change(drop: Option<f64>) -> String {
    match drop {
        None => "-".to_owned(),
        // What is rounded away has no sign.
        Some(drop) if drop.abs() < 0.0005 => "0.0 %".to_owned(),
        Some(drop) => format!("{:+.1} %", -100.0 * drop),
    }
}

/// A picture as the page holds it: PNG, or a JPEG no larger than [`SHOWN_SIDE`].
fn data_url(picture: &RgbImage) -> String {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    let mut bytes = Cursor::new(Vec::new());
    // Writing to memory fails only for sizes that no picture has.
    let (kind, _) = if longest > SHOWN_SIDE {
        let side = |length: u32| (length * SHOWN_SIDE / longest).max(1);
        let small = resized(picture, side(width), side(height));
        ("jpeg", small.write_to(&mut bytes, ImageFormat::Jpeg))
    } else {
        ("png", picture.write_to(&mut bytes, ImageFormat::Png))
    };
    let text = STANDARD.encode(bytes.into_inner());
    format!("data:image/{kind};base64,{text}")
}

/// Pictures of one point, for the page.
#[derive(Clone, Serialize, Deserialize)]
pub struct Strip {
    pub label: String,
    /// Data URLs.
    pub pictures: Vec<String>,
}

impl Strip {
    pub fn new(label: &str, pictures: &[RgbImage]) -> Self {
        Self {
            label: label.to_owned(),
            pictures: pictures.iter().map(data_url).collect(),
        }
    }
}
