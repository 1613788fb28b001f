//! What `--matrix` found, as data, as text and as a page.

use std::fmt::Write as _;

use hgc::unstable::eval::{FEWER, PLAN};
use hgc::unstable::plan::policy;
use maud::{DOCTYPE, PreEscaped, html};
use serde::Serialize;

use super::super::report::{Report, Row, change};
use crate::cli::args::table;

/// What `--matrix` prints.
#[derive(Serialize)]
pub struct Outline {
    cells: Vec<Line>,
    worst: Vec<Worst>,
}

/// One of our points in a cell, and what stands beside it.
#[derive(Serialize)]
pub struct Line {
    pipeline: String,
    sampler: String,
    steps: usize,
    point: String,
    reduction: f64,
    psnr: f64,
    miou_drop: Option<f64>,
    accuracy_drop: Option<f64>,
    /// Whether both are at most 1.5 %.
    #[serde(skip)]
    faithful: Option<bool>,
    /// The best point of another policy that computes no less, and not much more.
    rival: Option<Beside>,
    /// The original in as few steps as compute no less.
    fewer: Option<Beside>,
}

#[derive(Serialize)]
pub struct Beside {
    point: String,
    reduction: f64,
    psnr: f64,
}

/// The least that a point is ahead, over all cells.
#[derive(Serialize)]
pub struct Worst {
    point: String,
    cells: usize,
    /// Decibels before the best rival.
    rival: Option<f64>,
    /// Decibels before fewer steps.
    fewer: Option<f64>,
    /// Cells in which mIoU or prompt accuracy lose more than 1.5 %.
    unfaithful: usize,
}

/// The points of a report that are ours, each with its rivals.
pub fn lines_of(report: &Report, pipeline: &str) -> Vec<Line> {
    let is_ours = |row: &&Row| row.policy == policy::DEFAULT.name() || row.policy == PLAN;
    let best = |ours: &Row, fewer: bool| {
        // What computes no less.
        let others = report.points.iter().filter(|row| {
            !is_ours(row)
                && (row.policy == FEWER) == fewer
                && row.macs_weights_after >= ours.macs_weights_after
                && row.reduction >= ours.reduction - NEAR
        });
        let best = others.max_by(|a, b| a.psnr.total_cmp(&b.psnr));
        best.map(|row| Beside {
            point: row.label.clone(),
            reduction: row.reduction,
            psnr: row.psnr,
        })
    };
    let line = |row: &Row| Line {
        pipeline: pipeline.to_owned(),
        sampler: report.about.sampler.clone(),
        steps: report.about.steps,
        point: if row.policy == PLAN {
            PLAN.to_owned()
        } else {
            row.label.clone()
        },
        reduction: row.reduction,
        psnr: row.psnr,
        miou_drop: row.miou_drop,
        accuracy_drop: row.accuracy_drop,
        faithful: row.faithful,
        rival: best(row, false),
        fewer: best(row, true),
    };
    report.points.iter().filter(is_ours).map(line).collect()
}

/// Rivals may compute more, by this share of the original's MACs: not every policy has a point at every
/// saving, and what computes far more says nothing.
const NEAR: f64 = 0.06;

impl Line {
    fn ahead(&self, of: Option<&Beside>) -> Option<f64> {
        of.map(|other| self.psnr - other.psnr)
    }

    /// What colours each of its [cells](cells_of): decibels ahead, where it compares.
    fn colours(&self) -> [Option<f64>; 9] {
        let mut all = [None; 9];
        all[6] = self.is_unfaithful().then_some(-FULL);
        all[7] = self.ahead(self.rival.as_ref());
        all[8] = self.ahead(self.fewer.as_ref());
        all
    }

    fn is_unfaithful(&self) -> bool {
        self.faithful == Some(false)
    }
}

fn worst(lines: &[Line]) -> Vec<Worst> {
    let mut points: Vec<&String> = lines.iter().map(|l| &l.point).collect();
    points.sort();
    points.dedup();
    let least = |values: Vec<f64>| values.into_iter().reduce(f64::min);
    let of = |point: &String| {
        let own: Vec<&Line> = lines.iter().filter(|l| l.point == *point).collect();
        let own = || own.iter();
        Worst {
            point: point.clone(),
            cells: own().count(),
            rival: least(own().filter_map(|l| l.ahead(l.rival.as_ref())).collect()),
            fewer: least(own().filter_map(|l| l.ahead(l.fewer.as_ref())).collect()),
            unfaithful: own().filter(|l| l.is_unfaithful()).count(),
        }
    };
    points.into_iter().map(of).collect()
}

/// `34.4 dB (+3.0)`, or nothing to compare with.
fn beside(line: &Line, other: Option<&Beside>) -> String {
    other.map_or("-".to_owned(), |o| {
        format!("{} {:.1} dB ({:+.1})", o.point, o.psnr, line.psnr - o.psnr)
    })
}

fn cells_of(line: &Line) -> [String; 9] {
    [
        line.pipeline.clone(),
        line.sampler.clone(),
        line.steps.to_string(),
        line.point.clone(),
        format!("{:.1} %", 100.0 * line.reduction),
        format!("{:.1} dB", line.psnr),
        change(line.miou_drop),
        beside(line, line.rival.as_ref()),
        beside(line, line.fewer.as_ref()),
    ]
}

const HEADER: [&str; 9] = [
    "pipeline",
    "sampler",
    "steps",
    "point",
    "less",
    "PSNR",
    "mIoU",
    "best rival",
    "fewer steps",
];

/// From this many decibels on, a cell is as green or as red as it gets.
const FULL: f64 = 6.0;

impl Outline {
    /// Of these lines.
    pub fn new(cells: Vec<Line>) -> Self {
        Self {
            worst: worst(&cells),
            cells,
        }
    }

    /// For a terminal.
    pub fn shown(&self) -> String {
        let mut rows = table(&HEADER, &[2, 4, 5, 6]);
        for line in &self.cells {
            rows.add_row(cells_of(line));
        }
        let mut text = format!(
            "{rows}\n\nbest rival: of the other policies' points that compute as much, or up to 6 % of the original's \
         MACs more;\nin brackets how far we are ahead\n"
        );
        for worst in &self.worst {
            let ahead = |db: Option<f64>| db.map_or("-".to_owned(), |db| format!("{db:+.1} dB"));
            let _ = writeln!(
                text,
                "{}: in the worst of {} cells {} to the best rival, {} to fewer steps; control or prompt lose more \
             than 1.5 % in {}",
                worst.point,
                worst.cells,
                ahead(worst.rival),
                ahead(worst.fewer),
                worst.unfaithful
            );
        }
        text
    }

    /// The table with a colour for every comparison.
    pub fn page(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { "hgc eval --matrix" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { "Policies over pipelines, samplers and steps" }
                    p { "Green: ahead of what stands there, red: behind; full colour from 6 dB on." }
                    table {
                        tr { @for name in HEADER { th { (name) } } }
                        @for line in &self.cells {
                            tr {
                                @for (cell, ahead) in cells_of(line).iter().zip(line.colours()) {
                                    td style=(format!("background:{}", colour(ahead))) { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        };
        page.into_string()
    }
}

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}\
td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd}";

/// Green for so many decibels ahead, red for behind.
fn colour(ahead: Option<f64>) -> String {
    let Some(db) = ahead else {
        return "#fff".to_owned();
    };
    let share = (db.abs() / FULL).min(1.0);
    let hue = if db >= 0.0 { 150 } else { 10 };
    format!("hsl({hue} 60% {:.0}%)", 96.0 - 36.0 * share)
}
