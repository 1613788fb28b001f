//! What the options of `hgc run` ask for: prompts, files, sizes, batches.

use std::path::PathBuf;

use anyhow::bail;
use hgc::unstable::pipeline::{Batch, Drawing, Encoded, Folder, PipelineError, picture};
use hgc::unstable::plan::Plan;
use hgc::unstable::plan::parameter::{CONTROL_END, CONTROL_START, Parameter, Value};
use image::RgbImage;

use super::super::args::{prompts as prompts_of, read_plan};
use super::super::plan::Told;
use super::super::terminal::{note, warn};
use super::Args;

/// Steps where neither the command line nor a plan says how many.
const DEFAULT_STEPS: usize = 20;

/// How many times more pixels than trained, if far more.
fn over_trained(folder: &Folder, (width, height): (u32, u32)) -> Option<f64> {
    const FAR: f64 = 4.0;
    folder.sample_size?;
    let (w, h) = folder.size_for(None);
    let times = f64::from(width) * f64::from(height) / (f64::from(w) * f64::from(h)).max(1.0);
    (times >= FAR).then_some(times)
}

impl Args {
    pub(super) fn read_prompts(&self) -> anyhow::Result<Vec<String>> {
        let mut prompts = self.prompt.clone();
        prompts.extend(prompts_of(self.prompts.as_deref())?);
        if prompts.is_empty() {
            bail!("no prompt given; use --prompt, or a file with one a line")
        }
        Ok(prompts)
    }

    /// A file for every picture; none that exists without `--force`.
    pub(super) fn outputs(&self, prompts: usize) -> anyhow::Result<Vec<PathBuf>> {
        let count = prompts * usize::try_from(self.batch)?;
        let stem = self
            .output
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let Some(ending) = self.output.extension().map(|e| e.to_string_lossy()) else {
            bail!(
                "{}: give a name that ends in .png or .jpg",
                self.output.display()
            )
        };
        if !picture::is_writable(&ending) {
            bail!(
                "{}: pictures are written as .png or .jpg",
                self.output.display()
            )
        }
        let named = |i| match count {
            1 => self.output.clone(),
            _ => self.output.with_file_name(format!("{stem}-{i}.{ending}")),
        };
        let files: Vec<PathBuf> = (0..count).map(named).collect();
        let folder = self.output.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(missing) = folder.filter(|p| !p.is_dir()) {
            bail!("{}: no such folder to write to", missing.display())
        }
        if let Some(file) = files.iter().find(|f| f.exists() && !self.force) {
            bail!("{} exists; use --force to replace it", file.display())
        }
        let read: Vec<PathBuf> = self
            .control
            .iter()
            .chain(&self.prompts)
            .filter_map(|p| p.canonicalize().ok())
            .collect();
        let is_read = |f: &&PathBuf| f.canonicalize().is_ok_and(|f| read.contains(&f));
        if let Some(file) = files.iter().find(is_read) {
            bail!(
                "{} is an input; choose another name to write to",
                file.display()
            )
        }
        Ok(files)
    }

    pub(super) fn settings(
        &self,
        folder: &Folder,
        controls: &[RgbImage],
    ) -> anyhow::Result<Drawing> {
        let own = self.plan.as_deref().map(read_plan).transpose()?;
        let plan = folder.plan.as_ref().or(own.as_ref());
        let (width, height) = match (self.width, self.height) {
            (Some(w), h) => (w, h.unwrap_or(w)),
            (None, Some(h)) => (h, h),
            (None, None) => folder.size_for(controls.first()),
        };
        let multiple = folder.multiple();
        if width % multiple != 0 || height % multiple != 0 {
            warn(format_args!(
                "{width}x{height} is no multiple of {multiple}, which most exported UNets need"
            ));
        }
        if let Some(times) = over_trained(folder, (width, height)) {
            warn(format_args!(
                "{width}x{height} is {times:.0} times the pixels that the model was trained at; that \
                 takes long and seldom looks well: --width {} draws as trained",
                folder.size_for(None).0
            ));
        }
        for (control, file) in controls.iter().zip(&self.control) {
            if control.dimensions() != (width, height) {
                let (w, h) = control.dimensions();
                let file = file.display();
                warn(format_args!(
                    "{file} is {w}x{h}; resized to {width}x{height}"
                ));
            }
        }
        Ok(Drawing {
            steps: self
                .steps
                .or(plan.map(|p| p.steps))
                .unwrap_or(DEFAULT_STEPS),
            guidance: self.guidance,
            control_scale: self.control_scale,
            control_window: (
                of_plan(plan, &CONTROL_START, &self.told, 0.0)?,
                of_plan(plan, &CONTROL_END, &self.told, 1.0)?,
            ),
            size: (width, height),
        })
    }

    /// What can be known to be wrong before anything is computed.
    pub(super) fn check(&self, folder: &Folder, settings: &Drawing) -> anyhow::Result<()> {
        self.told.over(settings.parameters()).check()?;
        if let Some(parameter) = self.told.of_plans()
            && !self.compare
        {
            bail!(
                "--{} decides how a pipeline is compiled; it goes with --compare",
                parameter.name
            )
        }
        settings.check_size(folder.pixels())?;
        // A merged graph takes its images itself; what it needs is known when it is loaded.
        let (expected, given) = (folder.controlnets.len(), self.control.len());
        if expected > 0 && given != expected {
            Err(PipelineError::ControlImages {
                controlnets: expected,
                images: given,
            })?;
        }
        if let (Some(file), Some(parameter)) = (&self.plan, self.told.of_plans()) {
            bail!(
                "{} says everything already; leave out --{}",
                file.display(),
                parameter.name
            )
        }
        let Some(plan) = &folder.plan else {
            return Ok(());
        };
        let of_plans = self.told.of_plans().map(|p| p.name);
        let whole = self.policy.as_ref().map(|_| "policy");
        let whole = whole.or(self.plan.as_ref().map(|_| "plan"));
        if let Some(option) = of_plans.or(whole) {
            bail!(
                "{} is compiled already, with policy {}: leave out --{option}, or give the \
                 original pipeline",
                folder.path.display(),
                plan.policy
            )
        }
        let steps = settings.steps;
        if !plan.schedules.iter().any(|s| s.evaluations() == steps) {
            note(format_args!(
                "the pipeline has no schedule for {steps} steps; that for {} is spread over them \
                 (`hgc schedule add` plans one)",
                plan.steps
            ));
        }
        Ok(settings.check_plan(plan, settings.rows() > 1)?)
    }

    /// One batch a prompt; the last of the encoded texts is the negative prompt.
    pub(super) fn batches(
        &self,
        encoded: &Encoded,
        prompts: usize,
        controls: &[RgbImage],
        settings: &Drawing,
    ) -> Vec<Batch> {
        let (width, height) = settings.size;
        let images: Vec<RgbImage> = controls
            .iter()
            .map(|c| picture::resized(c, width, height))
            .collect();
        let batch = |prompt: usize| {
            let first = self.seed.wrapping_add(self.batch * prompt as u64);
            let seeds = (0..self.batch).map(|i| first.wrapping_add(i));
            let row = |seed| encoded.row(prompt, prompts, images.clone(), seed);
            Batch {
                rows: seeds.map(row).collect(),
                text_shape: [encoded.tokens, encoded.width],
            }
        };
        (0..prompts).map(batch).collect()
    }
}

/// A setting that a compiled pipeline has fixed.
fn of_plan(
    plan: Option<&Plan>,
    parameter: &Parameter,
    told: &Told,
    usual: f64,
) -> anyhow::Result<f64> {
    let key = parameter.name;
    let given = match told.get(parameter) {
        Some(Value::Share(share)) => Some(*share),
        _ => None,
    };
    let planned = plan.map(|p| {
        p.parameters
            .get(key)
            .and_then(|v| v.parse().ok())
            .unwrap_or(usual)
    });
    match (planned, given) {
        (Some(planned), Some(given)) if (planned - given).abs() > 1e-9 => bail!(
            "the pipeline was compiled with --{key} {planned}; compile again with --{key} {given}"
        ),
        (planned, given) => Ok(given.or(planned).unwrap_or(usual)),
    }
}
