//! The result of `hgc eval` as one page that needs no other file.

use std::collections::BTreeMap;

use anyhow::anyhow;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::prelude::{
    ChartBuilder, Circle, EmptyElement, IntoDrawingArea, IntoFont, LineSeries, RGBColor,
    SVGBackend, Text, WHITE,
};
use plotters::style::Color;

use super::report::{Report, Row, Strip, change};
use super::table;

const SIZE: (u32, u32) = (760, 420);
const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em;max-width:78em}\
table{border-collapse:collapse}td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}img{width:128px;margin:1px}.no{color:#b00}";
/// Distinct for people with colour-blindness (Okabe and Ito).
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(153, 153, 153),
    RGBColor(148, 103, 62),
    RGBColor(110, 80, 160),
];

/// The page; the pictures of each strip are of the first scenes, which have `prompts`.
pub fn page(report: &Report, strips: &[Strip], prompts: &[&str]) -> anyhow::Result<String> {
    let mut plots = vec![(
        "PSNR to the original's pictures, dB (60 and more as 60)",
        // Equal pictures count 100 dB; at the top they leave room for the others.
        plot(report, &|row| Some(row.psnr.min(60.0)))?,
    )];
    if report.baseline.miou.is_some() {
        plots.push(("mIoU", plot(report, &|row| row.miou)?));
        plots.push(("prompt accuracy", plot(report, &|row| row.accuracy)?));
    }
    let about = &report.about;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "hgc eval: " (about.pipeline) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "What each policy costs" }
                p { b { (report.recommendation) } }
                p {
                    (about.pipeline) ", " (about.scenes) " scenes, " (about.steps)
                    " steps, guidance " (about.guidance) ", " (about.engine)
                    @if let Some(miou) = report.baseline.miou {
                        ". Original: mIoU " (format!("{miou:.4}"))
                    }
                    @if let Some(accuracy) = report.baseline.accuracy {
                        ", prompt accuracy " (format!("{accuracy:.4}"))
                    }
                }
                @for (title, svg) in &plots {
                    h2 { (title) " against MACs saved" }
                    (PreEscaped(svg))
                }
                h2 { "Points" }
                p {
                    "Changes are relative to the original, + is a gain; in red: more than 1.5 % of mIoU or prompt accuracy lost. Times over what MACs allow by a quarter are noise and left out."
                }
                (points(report))
                @if !report.comparisons.is_empty() {
                    h2 { "hgc at the same compute" }
                    p {
                        "For each point of another policy the best one of hgc that saves as much or more; \
                         mIoU and PSNR are hgc's less the other's, with the 95 % interval over scenes."
                    }
                    (comparisons(report))
                }
                @if !report.furthest.is_empty() {
                    h2 { "Largest reduction at 1.5 % loss" }
                    ul { @for one in &report.furthest { li { (table::furthest(one)) } } }
                }
                @if !report.failed.is_empty() {
                    h2 { "Not drawn" }
                    ul { @for one in &report.failed { li { (one.label) ": " (one.reason) } } }
                }
                h2 { "Pictures" }
                ol { @for prompt in prompts { li { (prompt) } } }
                @for strip in strips {
                    p { (strip.label) }
                    div {
                        @for (i, picture) in strip.pictures.iter().enumerate() {
                            @let prompt = prompts.get(i).copied().unwrap_or_default();
                            img src=(picture) alt={ (strip.label) ": " (prompt) } title=(prompt);
                        }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn points(report: &Report) -> Markup {
    let share = |value: Option<f64>| value.map(|v| format!("{v:.4}"));
    let percent = |value: Option<f64>| value.map(|v| format!("{:.1} %", 100.0 * v));
    html! {
        table {
            tr {
                @for name in [
                    "policy", "MACs (weights), G", "less", "all MACs, G", "less", "faster", "PSNR",
                    "SSIM", "mIoU", "change", "prompt", "change",
                ] { th { (name) } }
            }
            @for row in &report.points {
                tr class=[(row.faithful == Some(false)).then_some("no")] {
                    td { (row.label) }
                    td { (giga(row.macs_weights_after)) }
                    td { (percent(Some(row.reduction)).unwrap_or_default()) }
                    td { (giga(row.macs_after)) }
                    td { (percent(Some(row.reduction_all)).unwrap_or_default()) }
                    td { (table::faster(row)) }
                    td { (format!("{:.2}", row.psnr)) }
                    td { (format!("{:.4}", row.ssim)) }
                    td { (share(row.miou).unwrap_or_default()) }
                    td { (change(row.miou_drop)) }
                    td { (share(row.accuracy).unwrap_or_default()) }
                    td { (change(row.accuracy_drop)) }
                }
            }
        }
    }
}

fn comparisons(report: &Report) -> Markup {
    html! {
        table {
            tr {
                @for name in ["other", "less", "hgc", "less", "mIoU", "95 %", "PSNR, dB", "ahead"] {
                    th { (name) }
                }
            }
            @for one in &report.comparisons {
                tr class=[(!one.ahead).then_some("no")] {
                    td { (one.other) }
                    td { (format!("{:.1} %", 100.0 * one.reduction)) }
                    td { (one.ours.as_deref().unwrap_or("none")) }
                    td { (one.our_reduction.map(|r| format!("{:.1} %", 100.0 * r)).unwrap_or_default()) }
                    td { (one.miou.map(|d| format!("{d:+.4}")).unwrap_or_default()) }
                    td {
                        (one.miou_interval.map(|[l, h]| format!("{l:+.4} to {h:+.4}")).unwrap_or_default())
                    }
                    td { (one.psnr.map(|d| format!("{d:+.2}")).unwrap_or_default()) }
                    td { (if one.ahead { "yes" } else { "no" }) }
                }
            }
        }
    }
}

/// A curve for each policy.
fn plot(report: &Report, value: &dyn Fn(&Row) -> Option<f64>) -> anyhow::Result<String> {
    let mut curves: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for row in &report.points {
        if let Some(y) = value(row) {
            let curve = curves.entry(row.policy.as_str()).or_default();
            curve.push((100.0 * row.reduction, y));
        }
    }
    let all = || curves.values().flatten().map(|(_, y)| *y);
    let (low, high) = all().fold((f64::MAX, f64::MIN), |(l, h), y| (l.min(y), h.max(y)));
    if low > high {
        return Ok(String::new());
    }
    let margin = ((high - low) * 0.08).max(1e-3);
    let saved = || curves.values().flatten().map(|(x, _)| *x);
    let (left, right) = saved().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)));
    // Labels stand to the right of their points.
    let (left, right) = (left - 3.0, right + ((right - left) * 0.3).max(8.0));
    let front = best(&sorted(curves.values().flatten().copied().collect()));
    let mut svg = String::new();
    let failed = |e: &dyn std::fmt::Display| anyhow!("cannot draw the plot: {e}");
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(&e))?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(left..right, low - margin..high + margin)
            .map_err(|e| failed(&e))?;
        let mesh = chart
            .configure_mesh()
            .max_light_lines(1)
            .light_line_style(RGBColor(244, 245, 247))
            .bold_line_style(RGBColor(228, 231, 235))
            .axis_style(RGBColor(140, 146, 156))
            .x_desc("MACs of weight operators saved, %")
            .draw();
        mesh.map_err(|e| failed(&e))?;
        // The points that nothing is better than have their names; all of them would be a blot.
        let named = report.points.iter().filter_map(|row| {
            let at = (100.0 * row.reduction, value(row)?);
            front.contains(&at).then(|| {
                let font = ("sans-serif", 11).into_font().color(&RGBColor(87, 96, 106));
                let parameters = row
                    .label
                    .replace("lambda-", "")
                    .replace("gate-step", "gate");
                EmptyElement::at(at) + Text::new(parameters, (6, -6), font)
            })
        });
        chart.draw_series(named).map_err(|e| failed(&e))?;
        for ((policy, points), colour) in curves.into_iter().zip(COLOURS) {
            let points = sorted(points);
            let dots = points.iter().map(|p| Circle::new(*p, 3, colour.filled()));
            chart.draw_series(dots).map_err(|e| failed(&e))?;
            let line = LineSeries::new(best(&points), colour.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(|e| failed(&e))?;
            drawn
                .label(policy)
                .legend(move |at| Circle::new(at, 4, colour.filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE)
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 13).into_font())
            .draw()
            .map_err(|e| failed(&e))?;
        area.present().map_err(|e| failed(&e))?;
    }
    Ok(svg)
}

fn sorted(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Of points in order of saving, those that no point with at least that saving is above.
fn best(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for point in points.iter().rev() {
        if kept.last().is_none_or(|(_, y)| point.1 > *y) {
            kept.push(*point);
        }
    }
    kept
}

#[allow(clippy::cast_precision_loss)]
fn giga(macs: u64) -> String {
    format!("{:.2}", macs as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_curve_is_the_front() {
        let points = [(10.0, 40.0), (20.0, 35.0), (30.0, 38.0), (40.0, 20.0)];
        assert_eq!(best(&points), [(40.0, 20.0), (30.0, 38.0), (10.0, 40.0)]);
    }
}
