//! What a single reuse costs: for every site and step, the change of the final picture when
//! only that site is reused, on that step alone.

use image::RgbImage;
use serde::Serialize;

use super::EvalError;
use super::draw::{Evaluation, Progress};
use super::statistics::mean;
use crate::compile::{CompileError, Project};
use crate::pipeline::picture;
use crate::plan::parameter::{CUT, GATE_STEP, INTERVAL, KEY_STEPS, Parameters, Value};
use crate::plan::policy::{DeepCache, FasterDiffusion, Nothing, Policy, TGate};
use crate::plan::schedule::{GateSchedule, GuidanceSchedule, GuidanceStep};
use crate::plan::{Gate, Plan, Reuse, Rows, Site};

/// A site, or guidance, that can be reused alone.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name: that of its site, with the model and the cut where needed.
    pub name: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Site {
        model: usize,
        site: Box<Site>,
    },
    /// By model, whether it runs half of a batch.
    Guidance {
        halves: Vec<bool>,
    },
}

/// How much pictures change where one candidate is reused on one step.
#[derive(Clone, Debug, Serialize)]
pub struct Sensitivity {
    /// The candidate.
    pub site: String,
    /// By step from 1: PSNR to the original's picture in dB, the mean over scenes.
    pub psnr: Vec<f64>,
}

/// Everything that policies may reuse: each cut, the encoder, ControlNets, each
/// cross-attention, guidance.
///
/// # Errors
/// [`CompileError`] if a policy cannot plan these models.
pub fn candidates(
    project: &Project<'_>,
    parameters: &Parameters,
) -> Result<Vec<Candidate>, CompileError> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut add =
        |policy: &dyn Policy, told: &Parameters, label: &dyn Fn(&str, &Site) -> String| {
            let planned = project.plan(policy, told)?;
            for (model, own) in planned.plan.models.iter().enumerate() {
                for site in &own.sites {
                    let name = label(&own.name, site);
                    if found.iter().all(|c| c.name != name) {
                        let site = Box::new(site.clone());
                        let what = What::Site { model, site };
                        found.push(Candidate { name, what });
                    }
                }
            }
            Ok::<_, CompileError>(())
        };
    // One refresh in a generation: every site that can stand somewhere does.
    let mut rare = parameters
        .clone()
        .with(&INTERVAL, Value::Count(parameters.steps.max(2)))
        .with(&GATE_STEP, Value::Count(1))
        .with(&KEY_STEPS, Value::Steps(vec![0]));
    for cut in 1..project.skips() {
        rare.set(&CUT, Value::Count(cut));
        add(&DeepCache, &rare, &|model, site| match site.name.as_str() {
            "deep" => format!("{model} deep, cut {cut}"),
            other => format!("{model} {other}"),
        })?;
    }
    rare.unset(&CUT);
    let plain = |model: &str, site: &Site| format!("{model} {}", site.name);
    add(&FasterDiffusion, &rare, &plain)?;
    add(&TGate, &rare, &plain)?;
    let fused = project.plan(&TGate, &rare)?.plan;
    let halves: Vec<bool> = fused.models.iter().map(|m| m.halves).collect();
    // Without guidance tgate plans no half.
    if fused.guidance.schedule.has_half() && halves.contains(&true) {
        found.push(Candidate {
            name: "guidance".to_owned(),
            what: What::Guidance { halves },
        });
    }
    Ok(found)
}

impl Candidate {
    /// A plan that reuses this on `step` and nothing else.
    fn plan(&self, mut plan: Plan, reuse: Reuse, step: usize) -> Plan {
        match &self.what {
            What::Guidance { halves } => {
                let mode = |s| {
                    if s == step {
                        GuidanceStep::Held
                    } else {
                        GuidanceStep::Full
                    }
                };
                plan.guidance.schedule = GuidanceSchedule::new(plan.steps, mode);
                plan.guidance.reuse = reuse;
                for (model, halves) in plan.models.iter_mut().zip(halves) {
                    model.halves = *halves;
                }
            }
            What::Site { model, site } => {
                let others: Vec<usize> = (0..plan.steps).filter(|s| *s != step).collect();
                let schedule = GateSchedule::at(plan.steps, &others);
                if let Some(model) = plan.models.get_mut(*model) {
                    model.gates.push(Gate {
                        name: site.gate.clone(),
                        schedule,
                    });
                    model.sites.push(Site {
                        reuse,
                        rows: Rows::All,
                        ..site.as_ref().clone()
                    });
                }
            }
        }
        plan
    }
}

/// Measures one candidate on every step from 1.
///
/// # Errors
/// [`EvalError`] if a plan cannot be applied or the engine refuses.
pub fn measure(
    evaluation: &mut Evaluation<'_>,
    candidate: &Candidate,
    parameters: &Parameters,
    reuse: Reuse,
    originals: &[RgbImage],
    progress: Progress<'_>,
) -> Result<Sensitivity, EvalError> {
    let nothing = evaluation.project().plan(&Nothing, parameters)?.plan;
    let mut psnr = Vec::new();
    for step in 1..parameters.steps {
        let plan = candidate.plan(nothing.clone(), reuse, step);
        let planned = evaluation.project().adopt(plan)?;
        let pictures = evaluation.pictures(&planned, progress)?.pictures;
        let pairs = pictures.iter().zip(originals);
        let each = pairs.map(|(a, b)| picture::psnr(a, b));
        psnr.push(mean(&each.collect::<Vec<_>>()));
    }
    Ok(Sensitivity {
        site: candidate.name.clone(),
        psnr,
    })
}
