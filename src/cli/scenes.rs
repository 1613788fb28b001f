//! Options that say what to draw with a pipeline, and how, for commands that draw many pictures.

use std::path::PathBuf;

use anyhow::bail;
use hgc::unstable::eval::{Scene, Set};
use hgc::unstable::pipeline::{Drawing, Folder, picture};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::sampler::{Config, Method};
use image::RgbImage;

use super::args::finite;
use super::plan::Told;
use super::terminal::warn;

/// Scenes, sampler and guidance.
#[derive(clap::Args)]
pub struct SceneArgs {
    /// Set of scenes (JSON): prompts, control images, seeds, and what pictures must show
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "prompts", "control"])]
    pub set: Option<PathBuf>,
    /// What to draw, where there is no set; may be repeated
    #[arg(long)]
    prompt: Vec<String>,
    /// File with one prompt a line
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Control image for all prompts; once for each ControlNet
    #[arg(long, value_name = "IMAGE")]
    control: Vec<PathBuf>,
    /// Seed of the first prompt; the next ones have the next seeds
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Guidance scale
    #[arg(long, default_value_t = 7.5, value_parser = finite::<f64>)]
    pub guidance: f64,
    /// Strength of the control
    #[arg(long, default_value_t = 1.0, value_parser = finite::<f32>)]
    control_scale: f32,
    /// Scenes to draw at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    batch: u64,
    /// ddim, euler, euler-ancestral, dpm++2m or unipc [default: as the scheduler's file says]
    #[arg(long, value_delimiter = ',', value_name = "SAMPLER")]
    sampler: Vec<Method>,
}

impl SceneArgs {
    /// The pipeline, which must not be compiled: `what` compiles it itself.
    pub fn folder(&self, pipeline: &std::path::Path, what: &str) -> anyhow::Result<Folder> {
        let folder = Folder::read(pipeline)?;
        if folder.plan.is_some() {
            bail!(
                "{} is compiled; give the original, {what}",
                pipeline.display()
            )
        }
        for note in &folder.notes {
            warn(note);
        }
        Ok(folder)
    }

    /// The scenes, at most `count` of them.
    pub fn read_set(&self, count: Option<usize>) -> anyhow::Result<Set> {
        let mut set = match &self.set {
            Some(file) => Set::read(file)?,
            None => self.own_set()?,
        };
        if let Some(count) = count {
            set.scenes.truncate(count);
        }
        if set.scenes.is_empty() {
            bail!(
                "there is nothing to draw; give --set FILE or --prompt TEXT, and --scenes 1 or more"
            )
        }
        Ok(set)
    }

    /// Every prompt with the same control images.
    fn own_set(&self) -> anyhow::Result<Set> {
        let mut prompts = self.prompt.clone();
        prompts.extend(super::args::prompts(self.prompts.as_deref())?);
        let controls = self.control.iter().map(|p| picture::read(p));
        let controls: Vec<RgbImage> = controls.collect::<Result<_, _>>()?;
        let scenes = (self.seed..).zip(prompts).map(|(seed, prompt)| Scene {
            prompt,
            negative_prompt: String::new(),
            controls: controls.clone(),
            seed,
            truth: None,
        });
        Ok(Set {
            scenes: scenes.collect(),
            appearance: None,
        })
    }

    /// How the scenes are drawn in so many steps.
    pub fn drawing(&self, steps: usize, folder: &Folder, set: &Set, told: &Told) -> Drawing {
        Drawing {
            steps,
            guidance: self.guidance,
            control_scale: self.control_scale,
            control_window: told.over(Parameters::new(steps)).control_window(),
            size: folder.size_for(set.scenes.first().and_then(|s| s.controls.first())),
        }
    }

    /// Scenes at once.
    pub fn batch(&self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.batch)?)
    }

    /// The sampler; says so where it stands for another.
    pub fn sampler(&self, folder: &Folder) -> anyhow::Result<Config> {
        let mut all = self.samplers(folder)?;
        match (all.pop(), all.is_empty()) {
            (Some(sampler), true) => Ok(sampler),
            _ => bail!("one --sampler at a time is taken here"),
        }
    }

    /// Whether a sampler was named.
    pub fn names_sampler(&self) -> bool {
        !self.sampler.is_empty()
    }

    /// All samplers that were named.
    pub fn samplers(&self, folder: &Folder) -> anyhow::Result<Vec<Config>> {
        let named = self.sampler.iter().map(|s| Some(*s));
        let named: Vec<Option<Method>> = match self.sampler.is_empty() {
            true => vec![None],
            false => named.collect(),
        };
        let mut found = Vec::new();
        for method in named {
            let sampler = folder.sampler(method)?;
            if let Some(class) = &sampler.stands_for {
                warn(super::args::stands_for(class, sampler.method));
            }
            found.push(sampler);
        }
        Ok(found)
    }
}
