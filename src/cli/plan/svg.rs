//! A plan as a picture: the network as a U with its gates, the schedule, MACs step by step.

use hgc::unstable::analysis::Analysis;
use hgc::unstable::analysis::blocks::Stage;
use hgc::unstable::compile::{Planned, Project};
use hgc::unstable::plan::layout::Layout;
use hgc::unstable::plan::schedule::GuidanceStep;
use hgc::unstable::plan::{ModelPlan, Plan};
use maud::{Markup, html};

use super::totals::headline;
use crate::cli::args::macs;

const WIDTH: f64 = 1000.0;
const MARGIN: f64 = 24.0;
/// Width of the column of names.
const NAMES: f64 = 170.0;
const LINE: f64 = 20.0;
/// A level of the U.
const LEVEL: f64 = 46.0;
const ARM: f64 = 400.0;
const CHART: f64 = 110.0;
/// What always runs.
const ALWAYS: &str = "#8a8f98";
const HELD: &str = "#c3c7cd";
const FUSED: &str = "#e4e7eb";
/// Distinct for people with colour-blindness (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#24292f}.h{font-size:15px;\
font-weight:600}.s{fill:#57606a;font-size:11px}";

/// A gate of a model, by its place in the plan.
type GateId = (usize, usize);

/// Draws a plan.
pub fn draw(project: &Project<'_>, planned: &Planned) -> String {
    let plan = &planned.plan;
    let mut y = MARGIN;
    let mut parts: Vec<Markup> = Vec::new();
    let colors = colors(plan);
    let title = format!("{}, {} steps", plan.policy, plan.steps);
    parts.push(text(MARGIN, y + 4.0, "h", &title));
    parts.push(text(MARGIN, y + 22.0, "", &headline(planned)));
    y += 44.0;
    for (index, (model, layout)) in plan.models.iter().zip(&planned.layouts).enumerate() {
        let network = Network::of(&project.analyses()[index], layout, model, index);
        let (drawn, height) = network.draw(&model.name, y, &colors);
        parts.push(drawn);
        y += height;
    }
    let (strips, height) = schedules(plan, y, &colors);
    parts.push(strips);
    y += height;
    let (chart, height) = chart(planned, y);
    parts.push(chart);
    y += height;
    let (legend, height) = legend(plan, y, &colors);
    parts.push(legend);
    let height = y + height + MARGIN;
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(WIDTH) height=(height)
            viewBox={ "0 0 " (WIDTH) " " (height) } {
            style { (STYLE) }
            rect width=(WIDTH) height=(height) fill="#ffffff" {}
            @for part in &parts { (part) }
        }
    };
    svg.into_string()
}

fn text(x: f64, y: f64, class: &str, content: &str) -> Markup {
    html! { text x=(x) y=(y) class=(class) { (content) } }
}

/// The colour of every gate.
type Colors = Vec<(GateId, &'static str)>;

fn colors(plan: &Plan) -> Colors {
    let models = plan.models.iter().enumerate();
    let gates = models.flat_map(|(m, model)| (0..model.gates.len()).map(move |g| (m, g)));
    gates.zip(COLOURS.iter().copied().cycle()).collect()
}

fn color(gate: Option<GateId>, colors: &Colors) -> &'static str {
    let known = colors.iter().find(|(g, _)| Some(*g) == gate);
    known.map_or(ALWAYS, |(_, color)| color)
}

/// MACs of one level, by who decides whether they run.
#[derive(Default)]
struct Level {
    name: String,
    blocks: usize,
    /// Parts in the order of gates; what always runs comes first.
    parts: Vec<(Option<GateId>, u64)>,
}

impl Level {
    fn total(&self) -> u64 {
        self.parts.iter().map(|(_, count)| count).sum()
    }

    /// A bar, as long as its MACs are many, with a colour for every gate.
    fn draw(&self, (x, y): (f64, f64), scale: f64, colors: &Colors) -> Markup {
        let blocks = if self.blocks == 1 { "block" } else { "blocks" };
        let total = macs(self.total());
        let label = format!("{}  {} {blocks}, {total}", self.name, self.blocks);
        let mut at = x;
        let mut parts = Vec::new();
        for (gate, count) in &self.parts {
            let width = share(*count, scale);
            parts.push((at, width, color(*gate, colors), *count));
            at += width;
        }
        html! {
            (text(x, y + 10.0, "s", &label))
            rect x=(x) y=(y + 15.0) width=(ARM) height="16" fill="#f1f3f5" rx="3" {}
            @for (x, width, fill, count) in &parts {
                rect x=(x) y=(y + 15.0) width=(width) height="16" fill=(fill) {
                    title { (macs(*count)) }
                }
            }
        }
    }

    fn add(&mut self, gate: Option<GateId>, count: u64) {
        match self.parts.iter_mut().find(|(g, _)| *g == gate) {
            Some((_, sum)) => *sum += count,
            None => self.parts.push((gate, count)),
        }
        self.parts.sort_by_key(|(gate, _)| *gate);
    }
}

/// The levels of a network: down on the left, up on the right, the middle below.
#[derive(Default)]
struct Network {
    down: Vec<Level>,
    mid: Vec<Level>,
    up: Vec<Level>,
}

impl Network {
    fn of(analysis: &Analysis<'_>, layout: &Layout, model: &ModelPlan, index: usize) -> Self {
        let mut network = Self::default();
        for block in &analysis.blocks {
            let arm = match block.stage {
                Stage::Conditioning => continue,
                Stage::Stem | Stage::Encoder => &mut network.down,
                Stage::Mid => &mut network.mid,
                Stage::Decoder | Stage::Head => &mut network.up,
            };
            let mut words = block.id.split('.');
            let name = match (words.next(), words.next()) {
                (Some(first), Some(number)) if number.parse::<usize>().is_ok() => {
                    format!("{first}.{number}")
                }
                (first, _) => first.unwrap_or_default().to_owned(),
            };
            if arm.last().is_none_or(|level| level.name != name) {
                arm.push(Level {
                    name,
                    ..Level::default()
                });
            }
            let Some(level) = arm.last_mut() else {
                continue;
            };
            level.blocks += 1;
            for node in &block.nodes {
                let site = layout.owner.get(node.index()).copied().flatten();
                let gate = site.and_then(|s| {
                    let name = &layout.sites[s].site.gate;
                    model.gates.iter().position(|g| g.name == *name)
                });
                let count = analysis.macs(*node, analysis.sizes.batch).weights;
                level.add(gate.map(|g| (index, g)), count);
            }
        }
        network
    }

    fn draw(&self, name: &str, top: f64, colors: &Colors) -> (Markup, f64) {
        let rows = self.down.len().max(self.up.len());
        let arms = [&self.down, &self.mid, &self.up].into_iter().flatten();
        #[allow(clippy::cast_precision_loss)]
        let scale = (ARM - 20.0) / arms.map(Level::total).max().unwrap_or(1).max(1) as f64;
        let right = WIDTH - MARGIN - ARM;
        let row = |i: usize| top + 26.0 + LEVEL * number(i);
        let bottom = row(rows);
        let drawn = html! {
            (text(MARGIN, top + 10.0, "h", name))
            @for (i, level) in self.down.iter().enumerate() {
                (level.draw((MARGIN, row(i)), scale, colors))
            }
            @for (i, level) in self.mid.iter().enumerate() {
                (level.draw(((WIDTH - ARM) / 2.0, bottom + LEVEL * number(i)), scale, colors))
            }
            // The last level up is beside the first one down, with the head above it.
            @for (i, level) in self.up.iter().rev().enumerate() {
                (level.draw((right, row(i)), scale, colors))
            }
            @if !self.up.is_empty() {
                @for i in 0..rows {
                    line x1=(MARGIN + ARM + 14.0) x2=(right - 14.0) y1=(row(i) + 22.0)
                        y2=(row(i) + 22.0) stroke="#c8ccd2" stroke-dasharray="3 4" {}
                }
            }
        };
        (drawn, bottom + LEVEL * number(self.mid.len()) - top + 12.0)
    }
}

#[allow(clippy::cast_precision_loss)]
fn share(count: u64, scale: f64) -> f64 {
    count as f64 * scale
}

#[allow(clippy::cast_precision_loss)]
fn number(n: usize) -> f64 {
    n as f64
}

/// Width of one step in strips and chart.
fn cell(plan: &Plan) -> f64 {
    ((WIDTH - 2.0 * MARGIN - NAMES) / number(plan.steps.max(1))).min(36.0)
}

/// A coloured strip for guidance and for every gate; above them what the original does.
fn schedules(plan: &Plan, top: f64, colors: &Colors) -> (Markup, f64) {
    let cell = cell(plan);
    let x = |step: usize| MARGIN + NAMES + cell * number(step);
    let strip = |y: f64, name: &str, fill: &dyn Fn(usize) -> &'static str| {
        html! {
            (text(MARGIN, y + 13.0, "", name))
            @for step in 0..plan.steps {
                rect x=(x(step)) y=(y) width=((cell - 1.0).max(0.5)) height=(LINE - 3.0)
                    fill=(fill(step)) rx="2" {}
            }
        }
    };
    let guidance = |step: usize| match plan.guidance.schedule.at(step) {
        GuidanceStep::Full | GuidanceStep::Restart => ALWAYS,
        GuidanceStep::Held => HELD,
        GuidanceStep::Fused => FUSED,
    };
    let mut y = top + 26.0;
    let mut strips = vec![
        text(MARGIN, top + 12.0, "h", "schedule"),
        strip(y, "original", &|_| ALWAYS),
    ];
    y += LINE + 6.0;
    strips.push(strip(y, "guidance", &guidance));
    y += LINE;
    for (m, model) in plan.models.iter().enumerate() {
        for (g, gate) in model.gates.iter().enumerate() {
            let fill = |step: usize| match gate.schedule.refreshes(step) {
                true => color(Some((m, g)), colors),
                false => "#f1f3f5",
            };
            strips.push(strip(y, &format!("{} {}", model.name, gate.name), &fill));
            y += LINE;
        }
    }
    // A number for every fifth step, or fewer where they would touch.
    let apart = (5.0 * (24.0 / (5.0 * cell)).ceil().max(1.0)).max(5.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let every = apart as usize;
    let numbers = html! {
        @for step in (0..plan.steps).step_by(every) {
            (text(x(step), y + 12.0, "s", &step.to_string()))
        }
    };
    strips.push(numbers);
    (html! { @for part in &strips { (part) } }, y + 24.0 - top)
}

/// MACs of every step: of the original behind those of the plan.
fn chart(planned: &Planned, top: f64) -> (Markup, f64) {
    let plan = &planned.plan;
    let cell = cell(plan);
    let at = |step: usize| -> u64 {
        let costs = planned.costs.iter().filter_map(|c| c.steps.get(step));
        costs.map(|m| m.weights).sum()
    };
    let before: u64 = planned.costs.iter().map(|c| c.before().weights).sum();
    let of_step = before / u64::try_from(plan.steps.max(1)).unwrap_or(1);
    let most = (0..plan.steps)
        .map(at)
        .max()
        .unwrap_or(1)
        .max(of_step)
        .max(1);
    #[allow(clippy::cast_precision_loss)]
    let scale = CHART / most as f64;
    let floor = top + 30.0 + CHART;
    let bar = |step: usize, count: u64, fill: &'static str| {
        let height = share(count, scale);
        let x = MARGIN + NAMES + cell * number(step);
        html! {
            rect x=(x) y=(floor - height) width=((cell - 1.0).max(0.5)) height=(height)
                fill=(fill) { title { "step " (step) ": " (macs(count)) } }
        }
    };
    let after: u64 = (0..plan.steps).map(at).sum();
    let drawn = html! {
        (text(MARGIN, top + 12.0, "h", "MACs of each step"))
        @for step in 0..plan.steps {
            (bar(step, of_step, "#dfe3e8"))
            (bar(step, at(step), "#3d4f66"))
        }
        (text(MARGIN, floor - CHART + 10.0, "s", &format!("original {}", macs(of_step))))
        (text(MARGIN, floor - 2.0, "s", &format!("sum {} -> {}", macs(before), macs(after))))
    };
    (drawn, CHART + 48.0)
}

/// What the colours mean.
fn legend(plan: &Plan, top: f64, colors: &Colors) -> (Markup, f64) {
    let mut entries = vec![(ALWAYS, "runs on every step".to_owned())];
    for (m, model) in plan.models.iter().enumerate() {
        for (g, gate) in model.gates.iter().enumerate() {
            let refreshes = gate.schedule.refresh_steps().len();
            let (color, name) = (color(Some((m, g)), colors), &gate.name);
            let label = format!("{} {name}: {refreshes} of {} steps", model.name, plan.steps);
            entries.push((color, label));
        }
    }
    let schedule = &plan.guidance.schedule;
    if schedule.has(GuidanceStep::Held) {
        entries.push((HELD, "guidance held: half of the rows".to_owned()));
    }
    if schedule.has(GuidanceStep::Fused) {
        entries.push((FUSED, "guidance fused: half of the rows".to_owned()));
    }
    let place = |i: usize| {
        (
            MARGIN + 320.0 * number(i % 3),
            top + 8.0 + LINE * number(i / 3),
        )
    };
    let drawn = html! {
        @for (i, (fill, label)) in entries.iter().enumerate() {
            @let (x, y) = place(i);
            rect x=(x) y=(y) width="12" height="12" fill=(fill) rx="2" {}
            (text(x + 18.0, y + 10.0, "", label))
        }
    };
    (drawn, LINE * number(entries.len().div_ceil(3)) + 12.0)
}
