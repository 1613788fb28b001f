//! Points that are drawn already: an evaluation takes long and can be interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use hgc::unstable::analysis::macs::Macs;
use hgc::unstable::eval::{EvalOptions, Measured, Quality, Set, Subject};
use hgc::unstable::onnx::{Transaction, hexadecimal};
use hgc::unstable::pipeline::Folder;
use hgc::unstable::plan::Plan;
use hgc::unstable::sampler::Config;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::report::Strip;

/// The points of an evaluation, kept in a file after each.
pub struct KeptPoints {
    /// None where nothing is kept.
    file: Option<PathBuf>,
    saved: Saved,
}

#[derive(Default, Serialize, Deserialize)]
struct Saved {
    /// Of all that a point depends on but its own parameters.
    key: String,
    points: BTreeMap<String, Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Of its plan: another version of hgc may plan otherwise.
    plan: String,
    cache_bytes: u64,
    before: Macs,
    after: Macs,
    seconds: Vec<[f64; 2]>,
    quality: Quality,
    strip: Strip,
}

impl Kept {
    /// Whether it has a score for every scene; the file may have been changed.
    fn is_whole(&self, scenes: usize) -> bool {
        let Quality {
            psnr,
            ssim,
            miou,
            right,
            objects,
        } = &self.quality;
        let scored = [miou.len(), right.len(), objects.len()];
        let (none, all) = (scored == [0; 3], scored == [scenes; 3]);
        [psnr.len(), ssim.len()] == [scenes; 2] && (none || all) && self.before.weights > 0
    }
}

impl KeptPoints {
    /// What `file` holds, if it is of an evaluation with this `key` and `resume` is asked for.
    pub fn open(file: Option<PathBuf>, key: String, resume: bool) -> anyhow::Result<Self> {
        let mut saved = Saved {
            key,
            points: BTreeMap::new(),
        };
        if let Some(file) = file.as_ref().filter(|f| resume && f.exists()) {
            let text = hgc::unstable::limited::read(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let found: Saved = serde_json::from_slice(&text).with_context(|| {
                format!("{} is not what eval writes; remove it", file.display())
            })?;
            if found.key != saved.key {
                bail!(
                    "{} is of another pipeline, set or settings (steps, guidance, sampler, --batch, \
                     --timed, engine); leave out --resume, or choose another folder",
                    file.display()
                )
            }
            saved = found;
        }
        Ok(Self { file, saved })
    }

    /// Whether a point was drawn before.
    pub fn has(&self, label: &str) -> bool {
        self.saved.points.contains_key(label)
    }

    /// Labels of the points that were drawn before.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.saved.points.keys().map(String::as_str)
    }

    /// A point that was drawn before, by the same plan, of as many scenes.
    pub fn take(&self, subject: &Subject, plan: &Plan, scenes: usize) -> Option<(Measured, Strip)> {
        let kept = self.saved.points.get(&subject.label)?;
        if kept.plan != digest_of(plan).ok()? || !kept.is_whole(scenes) {
            return None;
        }
        let measured = Measured {
            subject: subject.clone(),
            cache_bytes: kept.cache_bytes,
            before: kept.before,
            after: kept.after,
            seconds: kept.seconds.clone(),
            quality: kept.quality.clone(),
            pictures: Vec::new(),
        };
        Some((measured, kept.strip.clone()))
    }

    /// Keeps a point.
    pub fn put(&mut self, measured: &Measured, plan: &Plan, strip: &Strip) -> anyhow::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let kept = Kept {
            plan: digest_of(plan)?,
            cache_bytes: measured.cache_bytes,
            before: measured.before,
            after: measured.after,
            seconds: measured.seconds.clone(),
            quality: measured.quality.clone(),
            strip: strip.clone(),
        };
        let label = measured.subject.label.clone();
        self.saved.points.insert(label, kept);
        let mut transaction = Transaction::new(true);
        transaction.add_bytes(file, &serde_json::to_vec(&self.saved)?)?;
        transaction.commit()?;
        Ok(())
    }
}

fn digest_of(plan: &Plan) -> anyhow::Result<String> {
    Ok(hexadecimal(Sha256::new_with_prefix(toml::to_string(plan)?)))
}

/// A digest of the pipeline's files (by size and time), the scenes and how they are drawn.
pub fn key(
    pipeline: &Folder,
    set: &Set,
    settings: &EvalOptions,
    sampler: &Config,
    engine: &str,
) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    let mut found = Vec::new();
    for part in parts(pipeline) {
        for entry in part.read_dir()? {
            let entry = entry?;
            let data = entry.metadata()?;
            let time = data.modified()?.duration_since(UNIX_EPOCH)?;
            let name = part.strip_prefix(&pipeline.path)?.join(entry.file_name());
            found.push((name, data.len(), time));
        }
    }
    found.sort();
    digest.update(std::fs::read(pipeline.path.join("model_index.json")).unwrap_or_default());
    digest.update(format!("{:?}", set.appearance));
    digest.update(format!("{found:?}"));
    for scene in &set.scenes {
        let (prompt, negative) = (&scene.prompt, &scene.negative_prompt);
        digest.update(format!("{prompt:?} {negative:?} {}", scene.seed));
        digest.update(format!("{:?}", scene.truth));
        scene
            .controls
            .iter()
            .for_each(|c| digest.update(c.as_raw()));
    }
    let (run, timed) = (&settings.run, settings.timed);
    digest.update(format!("{run:?} {timed} {sampler:?} {engine}"));
    Ok(hexadecimal(digest))
}

/// The folders with files that decide what is drawn.
fn parts(pipeline: &Folder) -> BTreeSet<PathBuf> {
    let files = [&pipeline.unet, &pipeline.vae_decoder, &pipeline.scheduler];
    let files = files.into_iter().chain(&pipeline.controlnets);
    let folders = files
        .chain(&pipeline.text_encoders)
        .filter_map(|f| f.parent());
    let tokenizers = pipeline.tokenizers.iter().map(PathBuf::as_path);
    folders.chain(tokenizers).map(PathBuf::from).collect()
}
