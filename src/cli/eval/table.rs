//! The result of `hgc eval` for a terminal.

use std::fmt::Write as _;

use hgc::unstable::eval::sensitivity::Sensitivity;

use super::super::args::{bytes, macs, table};
use super::report::{Furthest, Report, Row, change};

/// Points, then who is ahead.
pub fn points(report: &Report) -> String {
    let about = &report.about;
    let scored = report.baseline.miou.is_some();
    let timed = report.points.iter().any(|p| p.speed_up.is_some());
    let mut header = vec!["policy", "MACs", "less", "all MACs", "less", "caches"];
    if timed {
        header.push("faster");
    }
    header.extend(["PSNR", "SSIM"]);
    if scored {
        header.extend(["mIoU", "change", "prompt", "change"]);
    }
    let right: Vec<usize> = (1..header.len()).collect();
    let mut rows = table(&header, &right);
    for point in &report.points {
        let mut row = vec![
            point.label.clone(),
            macs(point.macs_weights_after),
            percent(Some(point.reduction)),
            macs(point.macs_after),
            percent(Some(point.reduction_all)),
            bytes(point.cache_bytes),
        ];
        if timed {
            row.push(faster(point));
        }
        row.push(format!("{:.2} dB", point.psnr));
        row.push(format!("{:.4}", point.ssim));
        if scored {
            row.push(share(point.miou));
            row.push(change(point.miou_drop));
            row.push(share(point.accuracy));
            row.push(change(point.accuracy_drop));
        }
        rows.add_row(row);
    }
    let mut text = format!(
        "{} scenes, {} steps, guidance {}, {}\n",
        about.scenes, about.steps, about.guidance, about.engine
    );
    if let (Some(miou), Some(accuracy)) = (report.baseline.miou, report.baseline.accuracy) {
        let _ = writeln!(
            text,
            "original: mIoU {miou:.4}, prompt accuracy {accuracy:.4}"
        );
    }
    let _ = writeln!(text, "\n{rows}");
    if !report.comparisons.is_empty() {
        let ahead = report.comparisons.iter().filter(|c| c.ahead).count();
        let all = report.comparisons.len();
        let _ = writeln!(
            text,
            "\nhgc at the same compute is ahead of {ahead} of {all} points of other policies \
             (from 40 % reduction up)"
        );
        for behind in report.comparisons.iter().filter(|c| !c.ahead) {
            let why = match (&behind.ours, behind.psnr) {
                (Some(ours), Some(psnr)) => format!("{ours}: {psnr:+.2} dB"),
                _ => "no point of hgc computes as little".to_owned(),
            };
            let _ = writeln!(text, "  not of {}: {why}", behind.other);
        }
    }
    for furthest in &report.furthest {
        let _ = writeln!(text, "{}", self::furthest(furthest));
    }
    for failed in &report.failed {
        let _ = writeln!(text, "{} was not drawn: {}", failed.label, failed.reason);
    }
    let _ = writeln!(text, "\n{}", report.recommendation);
    text
}

/// The ratio of times, with the smallest and the largest of single batches.
pub fn faster(point: &Row) -> String {
    match (point.speed_up, point.speed_up_spread) {
        (Some(all), Some([low, high])) => format!("{all:.2}x ({low:.2}-{high:.2})"),
        (Some(all), None) => format!("{all:.2}x"),
        (None, _) => "-".to_owned(),
    }
}

/// How far a policy goes without losing more than 1.5 %.
pub fn furthest(found: &Furthest) -> String {
    match (&found.label, found.reduction) {
        (Some(label), Some(reduction)) => format!(
            "{}: up to {:.1} % at 1.5 % loss ({label})",
            found.policy,
            100.0 * reduction
        ),
        _ => format!("{}: no point within 1.5 % loss", found.policy),
    }
}

/// PSNR by site and step: the lower, the more the site matters on that step.
pub fn sensitivities(found: &[Sensitivity]) -> String {
    let steps = found.first().map_or(0, |s| s.psnr.len());
    let mut header = vec!["dB, reused on step".to_owned()];
    header.extend((1..=steps).map(|s| s.to_string()));
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let right: Vec<usize> = (1..header.len()).collect();
    let mut rows = table(&names, &right);
    for site in found {
        let mut row = vec![site.site.clone()];
        row.extend(site.psnr.iter().map(|p| format!("{p:.0}")));
        rows.add_row(row);
    }
    format!("{rows}\n")
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |v| format!("{:.1} %", 100.0 * v))
}

fn share(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |v| format!("{v:.4}"))
}
