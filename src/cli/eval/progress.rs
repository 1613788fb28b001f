//! Points that are drawn already: an evaluation takes long and can be interrupted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use hgc::analysis::macs::Macs;
use hgc::eval::points::Point;
use hgc::eval::{Measured, Quality, Set, Settings};
use hgc::onnx::{Transaction, hexadecimal};
use hgc::sampler::Config;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::report::Strip;

/// The points of an evaluation, kept in a file after each.
pub struct Progress {
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
    cache_bytes: u64,
    before: Macs,
    after: Macs,
    seconds: Option<[f64; 2]>,
    quality: Quality,
    strip: Strip,
}

impl Progress {
    /// What `file` holds, if it is of an evaluation with this `key` and `resume` is asked for.
    pub fn open(file: Option<PathBuf>, key: String, resume: bool) -> anyhow::Result<Self> {
        let mut saved = Saved {
            key,
            points: BTreeMap::new(),
        };
        if let Some(file) = file.as_ref().filter(|f| resume && f.exists()) {
            let text =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let found: Saved = serde_json::from_slice(&text).with_context(|| {
                format!("{} is not what eval writes; remove it", file.display())
            })?;
            if found.key != saved.key {
                bail!(
                    "{} is of another pipeline, set or settings; leave out --resume, or choose \
                     another folder",
                    file.display()
                )
            }
            saved = found;
        }
        Ok(Self { file, saved })
    }

    /// A point that was drawn before.
    pub fn take(&mut self, point: &Point) -> Option<(Measured, Strip)> {
        let kept = self.saved.points.get(&point.label)?;
        let measured = Measured {
            point: point.clone(),
            cache_bytes: kept.cache_bytes,
            before: kept.before,
            after: kept.after,
            seconds: kept.seconds,
            quality: kept.quality.clone(),
            pictures: Vec::new(),
        };
        Some((measured, kept.strip.clone()))
    }

    /// Keeps a point.
    pub fn put(&mut self, measured: &Measured, strip: &Strip) -> anyhow::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let kept = Kept {
            cache_bytes: measured.cache_bytes,
            before: measured.before,
            after: measured.after,
            seconds: measured.seconds,
            quality: measured.quality.clone(),
            strip: strip.clone(),
        };
        let label = measured.point.label.clone();
        self.saved.points.insert(label, kept);
        let mut transaction = Transaction::new(true);
        transaction.add_bytes(file, &serde_json::to_vec(&self.saved)?)?;
        transaction.commit()?;
        Ok(())
    }
}

/// A digest of the pipeline's files (by size and time), the scenes and how they are drawn.
pub fn key(
    pipeline: &Path,
    set: &Set,
    settings: &Settings,
    sampler: &Config,
    engine: &str,
) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    let mut found = Vec::new();
    for part in pipeline.read_dir()? {
        let Ok(entries) = part?.path().read_dir() else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let data = entry.metadata()?;
            let time = data.modified()?.duration_since(UNIX_EPOCH)?;
            found.push((entry.path(), data.len(), time));
        }
    }
    found.sort();
    digest.update(format!("{found:?}"));
    for scene in &set.scenes {
        let (prompt, negative) = (&scene.prompt, &scene.negative_prompt);
        digest.update(format!("{prompt:?} {negative:?} {}", scene.seed));
        scene
            .controls
            .iter()
            .for_each(|c| digest.update(c.as_raw()));
    }
    let (run, timed) = (&settings.run, settings.timed);
    digest.update(format!("{run:?} {timed} {sampler:?} {engine}"));
    Ok(hexadecimal(digest))
}
