//! What `hgc tune` found, as data and as text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hgc::unstable::plan::schedule::{GateSchedule, GuidanceSchedule};
use hgc::unstable::tune::{Case, Choice, DEEPEST, Setting, Tuned};
use serde::Serialize;

use crate::cli::args::table;

/// A plan that was written.
#[derive(Serialize)]
pub struct Report {
    pub plan: PathBuf,
    pub pictures: usize,
    pub fits: Vec<FitReport>,
    /// How the number of evaluations was chosen, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<ChoiceReport>,
    pub seconds: f64,
}

/// One schedule of it.
#[derive(Serialize)]
pub struct FitReport {
    pub sampler: String,
    pub steps: usize,
    /// Share of the MACs of weight operators that is saved.
    pub saved: f64,
    /// Share of the time, as it was measured; with `--cost time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_time: Option<f64>,
    /// Signal-to-noise ratio of the final latents to those of the original, dB.
    pub signal: f64,
    /// PSNR of the decoded pictures, dB.
    pub psnr: f64,
    /// That of the best formula at the same budget.
    pub formula: f64,
    /// Steps of the original that compute no less, and the ratio that they reach.
    pub fewer_steps: usize,
    pub fewer: f64,
    /// Schedules that were drawn.
    pub runs: usize,
    /// The ratio without weights, where the plan has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<f64>,
    /// Share of the squared error of each site that its weights take away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub forecast: BTreeMap<String, f64>,
    /// Whether the model decides while it runs; the strips are then of one batch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adaptive: bool,
    /// What happens on each evaluation.
    #[serde(flatten)]
    strips: Strips,
}

/// What `--steps A..B` found out, in dB to the converged latents.
#[derive(Serialize)]
pub struct ChoiceReport {
    /// The best sampler without caches, in as many steps as cost the same.
    pub plain: String,
    pub plain_signal: f64,
    /// The best formula for each number of evaluations.
    pub tried: BTreeMap<String, f64>,
}

impl ChoiceReport {
    pub fn of(choice: &Choice) -> Self {
        let (method, steps, signal) = choice.plain;
        Self {
            plain: format!("{method} {steps}"),
            plain_signal: signal,
            tried: choice.tried.iter().cloned().collect(),
        }
    }
}

/// A sign an evaluation.
#[derive(Serialize)]
struct Strips {
    guidance: String,
    deep: String,
    control: String,
    cross: String,
}

impl Strips {
    fn of(settings: &[Setting]) -> Self {
        let steps = settings.len();
        let on = |what: fn(&Setting) -> bool| {
            GateSchedule::new(steps, |s| what(&settings[s])).to_string()
        };
        Self {
            guidance: GuidanceSchedule::new(steps, |s| settings[s].guidance).into(),
            deep: settings.iter().map(depth).collect(),
            control: on(|s| s.control),
            cross: on(|s| s.cross),
        }
    }
}

/// How deep an evaluation runs: `R` all of it, a digit for so many parts, `.` none.
fn depth(setting: &Setting) -> char {
    match setting.depth {
        0 => '.',
        DEEPEST => 'R',
        parts => char::from_digit(parts.into(), 10).unwrap_or('+'),
    }
}

impl Report {
    pub fn new(plan: PathBuf, tuned: &Tuned, cases: &[Case], pictures: usize) -> Self {
        let fits = tuned.fits.iter().map(|fit| {
            let case = &cases[fit.case];
            FitReport {
                sampler: case.sampler.method.to_string(),
                steps: case.steps,
                saved: fit.saved,
                saved_time: fit.saved_time,
                signal: fit.signal,
                psnr: fit.psnr,
                formula: fit.formula,
                fewer_steps: fit.fewer.0,
                fewer: fit.fewer.1,
                runs: fit.runs,
                held: fit.forecast.as_ref().map(|f| f.held),
                forecast: fit.forecast.iter().flat_map(|f| f.gains.clone()).collect(),
                adaptive: tuned
                    .planned
                    .plan
                    .schedules
                    .get(fit.case)
                    .is_some_and(|s| s.adaptive.is_some()),
                strips: Strips::of(&fit.settings),
            }
        });
        Self {
            plan,
            pictures,
            fits: fits.collect(),
            choice: None,
            seconds: 0.0,
        }
    }
}

/// The schedules one under the other, then what they save and keep.
pub fn render(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        for fit in &report.fits {
            let Strips {
                guidance,
                deep,
                control,
                cross,
            } = &fit.strips;
            text += &format!(
                "{} {}, {:.1} % saved\n  guidance         {guidance}\n  deep blocks      {deep}\n  \
                 ControlNets      {control}\n  cross-attention  {cross}\n\n",
                fit.sampler,
                fit.steps,
                100.0 * fit.saved
            );
            if fit.adaptive {
                text += "  decided while it runs; these strips are of one batch\n\n";
            }
            // Of several cases not all gain.
            if let Some(held) = fit.held.filter(|held| fit.signal > held + 0.05) {
                let gains = fit.forecast.iter();
                let gains = gains.map(|(name, gain)| format!("{name} {:.0} %", 100.0 * gain));
                text += &format!(
                    "  forecasts        {:.2} dB with held values, {:.2} dB with weights; squared error less: {}\n\n",
                    held,
                    fit.signal,
                    gains.collect::<Vec<_>>().join(", ")
                );
            }
        }
    }
    let header = [
        "plan",
        "sampler",
        "steps",
        "saved",
        "signal",
        "PSNR",
        "formula",
        "fewer steps",
        "drawn",
    ];
    let mut rows = table(&header, &[2, 3, 4, 5, 6, 7, 8]);
    for report in reports {
        for fit in &report.fits {
            rows.add_row([
                report.plan.display().to_string(),
                fit.sampler.clone(),
                fit.steps.to_string(),
                match fit.saved_time {
                    Some(time) => {
                        format!(
                            "{:.1} %, {:.1} % of the time",
                            100.0 * fit.saved,
                            100.0 * time
                        )
                    }
                    None => format!("{:.1} %", 100.0 * fit.saved),
                },
                format!("{:.2} dB", fit.signal),
                format!("{:.1} dB", fit.psnr),
                format!("{:.2} dB", fit.formula),
                format!("{}: {:.2} dB", fit.fewer_steps, fit.fewer),
                fit.runs.to_string(),
            ]);
        }
    }
    text += &format!(
        "{rows}\n\nsignal: final latents against the original's; formula: the best of some formulas at the \
         same MACs;\nfewer steps: the original in as few steps as compute no less\n"
    );
    for report in reports {
        let (Some(choice), Some(fit)) = (&report.choice, report.fits.first()) else {
            continue;
        };
        let tried = choice.tried.iter();
        let tried: Vec<String> = tried.map(|(n, db)| format!("{n}: {db:.1} dB")).collect();
        text += &format!(
            "\nto the converged latents, at the same MACs: {} {} with caches {:.2} dB, {} without {:.2} dB\n\
             formulas: {}\n",
            fit.sampler,
            fit.steps,
            fit.signal,
            choice.plain,
            choice.plain_signal,
            tried.join(", ")
        );
        if choice.plain_signal >= fit.signal {
            text += &format!(
                "plain steps win here: take {} without caches\n",
                choice.plain
            );
        }
    }
    let fits = reports.iter().flat_map(|r| &r.fits);
    for fit in fits.filter(|f| f.fewer > f.signal) {
        text += &format!(
            "\n{} {}: {} plain steps of the original come nearer than caching that saves {:.1} %; save \
             less, or take them\n",
            fit.sampler,
            fit.steps,
            fit.fewer_steps,
            100.0 * fit.saved
        );
    }
    text
}
