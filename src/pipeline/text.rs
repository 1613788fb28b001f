//! Prompts to the states that the UNet attends to.

use std::path::Path;

use image::RgbImage;

use super::tokenizer::Tokenizer;
use super::{Folder, PipelineError, Row};
use crate::engine::{DType, Engine, Session, SessionOptions, Tensor};

/// Encoded prompts.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// States of all tokens, one prompt after the other.
    pub states: Vec<f32>,
    /// Tokens of a prompt.
    pub tokens: usize,
    /// Values of a token.
    pub width: usize,
    /// SDXL: a summary of each prompt.
    pub pooled: Vec<f32>,
    /// Warnings about prompts that were cut.
    pub warnings: Vec<String>,
}

impl Encoded {
    /// The states of one prompt.
    #[must_use]
    pub fn states_of(&self, prompt: usize) -> &[f32] {
        let size = self.tokens * self.width;
        &self.states[prompt * size..(prompt + 1) * size]
    }

    /// The summary of one prompt; empty where there is none.
    #[must_use]
    pub fn pooled_of(&self, prompt: usize) -> &[f32] {
        let prompts = self.states.len() / (self.tokens * self.width).max(1);
        let size = self.pooled.len() / prompts.max(1);
        &self.pooled[prompt * size..(prompt + 1) * size]
    }

    /// A picture of one prompt, away from another.
    #[must_use]
    pub fn row(&self, prompt: usize, negative: usize, images: Vec<RgbImage>, seed: u64) -> Row {
        Row {
            prompt: self.states_of(prompt).to_vec(),
            negative: self.states_of(negative).to_vec(),
            pooled: [prompt, negative].map(|i| self.pooled_of(i).to_vec()),
            images,
            seed,
        }
    }
}

/// Encodes texts with all text encoders of a pipeline: prompts, then from `negatives` on
/// negative prompts. An empty negative prompt becomes zeros where the pipeline asks for that
/// (SDXL).
///
/// # Errors
/// [`PipelineError`] naming the part that fails.
pub fn encode(
    engine: &'static Engine,
    folder: &Folder,
    options: &SessionOptions,
    prompts: &[String],
    negatives: usize,
) -> Result<Encoded, PipelineError> {
    let two = folder.text_encoders.len() == 2;
    let options = options.clone().uncaptured();
    let mut whole: Option<Encoded> = None;
    for (model, tokenizer) in folder.text_encoders.iter().zip(&folder.tokenizers) {
        let tokenizer = Tokenizer::read(tokenizer)?;
        let mut session = Session::load(engine, model, &options)?;
        let mut part: Option<Encoded> = None;
        for prompt in prompts {
            let one = encode_one(&mut session, model, &tokenizer, prompt, two)?;
            part = Some(match part {
                None => one,
                Some(mut part) => {
                    part.states.extend(one.states);
                    part.pooled.extend(one.pooled);
                    part.warnings.extend(one.warnings);
                    part
                }
            });
        }
        whole = match (whole, part) {
            (None, part) => part,
            (Some(first), Some(second)) => Some(beside(&first, second, model)?),
            (first, None) => first,
        };
    }
    let missing = || PipelineError::Missing {
        folder: folder.path.clone(),
        part: "prompt".to_owned(),
    };
    let mut encoded = whole.ok_or_else(missing)?;
    if two && folder.zeros_for_empty {
        let size = encoded.tokens * encoded.width;
        let pooled = encoded.pooled.len() / prompts.len().max(1);
        let empty = |i: &usize| prompts[*i].is_empty();
        for i in (negatives..prompts.len()).filter(empty) {
            encoded.states[i * size..(i + 1) * size].fill(0.0);
            encoded.pooled[i * pooled..(i + 1) * pooled].fill(0.0);
        }
    }
    Ok(encoded)
}

/// The states of two encoders side by side, token by token; the summary is the second's.
fn beside(first: &Encoded, second: Encoded, file: &Path) -> Result<Encoded, PipelineError> {
    if first.tokens != second.tokens {
        return Err(PipelineError::Tokens {
            file: file.to_owned(),
            found: second.tokens,
            expected: first.tokens,
        });
    }
    let rows = first.states.chunks(first.width.max(1));
    let others = second.states.chunks(second.width.max(1));
    Ok(Encoded {
        states: rows
            .zip(others)
            .flat_map(|(a, b)| a.iter().chain(b).copied())
            .collect(),
        tokens: first.tokens,
        width: first.width + second.width,
        pooled: second.pooled,
        warnings: first.warnings.clone(),
    })
}

fn encode_one(
    session: &mut Session,
    file: &Path,
    tokenizer: &Tokenizer,
    prompt: &str,
    penultimate: bool,
) -> Result<Encoded, PipelineError> {
    let tokens = tokenizer.encode(prompt)?;
    let mut feeds = Vec::new();
    for input in session.inputs() {
        // Token ids come first; anything more is a mask of real tokens, which CLIP's
        // pipelines leave open.
        let ids = if feeds.is_empty() {
            tokens.ids.clone()
        } else {
            vec![1; tokens.ids.len()]
        };
        let tensor = match input.dtype {
            DType::I64 => Tensor::from_i64(&[1, ids.len()], &ids)?,
            _ => {
                let bytes: Vec<u8> = ids
                    .iter()
                    .flat_map(|id| i32::try_from(*id).unwrap_or(0).to_ne_bytes())
                    .collect();
                Tensor::from_bytes(DType::I32, &[1, ids.len()], bytes)?
            }
        };
        feeds.push((input.name.clone(), tensor));
    }
    let given: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let results = session.run(&given, None)?;
    let states: Vec<&(String, Tensor)> = results
        .iter()
        .filter(|(_, t)| t.shape().len() == 3)
        .collect();
    // Exports with all hidden states list them in order, the last one twice where it is
    // also normalised: SDXL takes the last but one of `hidden_states.N`.
    let hidden: Vec<_> = states
        .iter()
        .filter(|(name, _)| name.contains("hidden_states."))
        .collect();
    let chosen = match hidden.len() {
        n if penultimate && n >= 2 => Some(*hidden[n - 2]),
        // One tensor of states is what the exporter chose; among several the right one is
        // not to be guessed.
        _ if penultimate && states.len() > 1 => None,
        _ => states.first().copied(),
    };
    let (_, state) = chosen.ok_or_else(|| PipelineError::NotThis {
        file: file.to_owned(),
        what: if penultimate {
            "hidden_states.N (or only one [batch, tokens, width])"
        } else {
            "[batch, tokens, width]"
        },
        role: "text encoder",
    })?;
    let pooled = results.iter().find(|(_, t)| t.shape().len() == 2);
    let cut = (tokens.dropped > 0).then(|| {
        format!(
            "the prompt is {} tokens too long, the end is left out: {:?}",
            tokens.dropped,
            shortened(prompt)
        )
    });
    Ok(Encoded {
        states: state.to_f32(),
        tokens: state.shape()[1],
        width: state.shape()[2],
        pooled: pooled.map(|(_, t)| t.to_f32()).unwrap_or_default(),
        warnings: cut.into_iter().collect(),
    })
}

/// The begin of a text, as messages and tables show it.
#[must_use]
pub fn shortened(text: &str) -> String {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
