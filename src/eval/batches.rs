//! A set of scenes as batches to draw.

use super::set::Scene;
use super::{EvalError, EvalOptions, Set};
use crate::engine::{Engine, SessionOptions};
use crate::pipeline::{self, Batch, Folder, picture};

/// Encodes the prompts of a set and brings its control images to the size that pictures have.
///
/// # Errors
/// [`EvalError`] if prompts cannot be encoded or scenes do not fit the pictures.
pub fn batches(
    engine: &'static Engine,
    folder: &Folder,
    options: &SessionOptions,
    set: &Set,
    settings: &EvalOptions,
    warn: &mut dyn FnMut(&str),
) -> Result<Vec<Batch>, EvalError> {
    let (width, height) = settings.run.size;
    for (scene, found) in set.scenes.iter().enumerate() {
        let truth = found.truth.as_ref().filter(|t| t.size != (width, height));
        if let Some(truth) = truth {
            return Err(EvalError::Size {
                scene,
                width: truth.size.0,
                height: truth.size.1,
                found: (width, height),
            });
        }
    }
    let mut texts: Vec<String> = set.scenes.iter().map(|s| s.prompt.clone()).collect();
    let mut negatives = Vec::new();
    for scene in &set.scenes {
        let known = texts[set.scenes.len()..]
            .iter()
            .position(|t| *t == scene.negative_prompt);
        let index = known.map_or(texts.len(), |k| set.scenes.len() + k);
        if index == texts.len() {
            texts.push(scene.negative_prompt.clone());
        }
        negatives.push(index);
    }
    let encoded = pipeline::encode(engine, folder, options, &texts, set.scenes.len())?;
    encoded.warnings.iter().for_each(|w| warn(w));
    let other = |s: &&Scene| s.controls.iter().any(|c| c.dimensions() != (width, height));
    match set.scenes.iter().filter(other).count() {
        0 => {}
        n => warn(&format!(
            "control images of {n} scenes are not {width}x{height}, the size that all pictures \
             have; resized"
        )),
    }
    let rows = set.scenes.iter().enumerate().map(|(i, scene)| {
        let images = scene.controls.iter();
        let images = images.map(|c| picture::resized(c, width, height)).collect();
        encoded.row(i, negatives[i], images, scene.seed)
    });
    let rows: Vec<_> = rows.collect();
    let text_shape = [encoded.tokens, encoded.width];
    let batches = rows.chunks(settings.batch.max(1)).map(|rows| Batch {
        rows: rows.to_vec(),
        text_shape,
    });
    Ok(batches.collect())
}
