//! Tokenizers of a pipeline: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{self, NormalizerWrapper};
use tokenizers::pre_tokenizers::{PreTokenizerWrapper, byte_level::ByteLevel, split::Split};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer as Inner};

use super::PipelineError;
use super::folder::config;

/// Tokens of CLIP's text encoders.
const CLIP_LENGTH: usize = 77;
/// How CLIP cuts a text into words.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Turns prompts into token ids of a fixed number.
pub struct Tokenizer {
    inner: Inner,
    folder: PathBuf,
    length: usize,
    start: Option<u32>,
    end: Option<u32>,
    pad: u32,
}

/// A prompt's token ids.
pub struct Tokens {
    /// Start, words, end, padding.
    pub ids: Vec<i64>,
    /// Tokens that did not fit.
    pub dropped: usize,
}

/// `tokenizer_config.json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    pad_token: Option<Special>,
    /// Files that have it say all about special tokens themselves.
    added_tokens_decoder: Option<serde::de::IgnoredAny>,
}

/// `special_tokens_map.json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct SpecialTokens {
    pad_token: Option<Special>,
}

/// A special token is a string, or an object that has one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Special {
    Text(String),
    Object { content: String },
}

impl Special {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

impl Tokenizer {
    /// Reads the tokenizer in a folder.
    ///
    /// # Errors
    /// [`PipelineError`] naming the file that is missing or wrong.
    pub fn read(folder: &Path) -> Result<Self, PipelineError> {
        let bad = |file: &Path, reason: String| PipelineError::Tokenizer {
            file: file.to_owned(),
            reason,
        };
        let json = folder.join("tokenizer.json");
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let settings: TokenizerConfig = config(&[folder.join("tokenizer_config.json")])?;
        let map: SpecialTokens = config(&[folder.join("special_tokens_map.json")])?;
        // As transformers has it: the map goes before an older configuration.
        let padding = match (&settings.added_tokens_decoder, map.pad_token) {
            (None, Some(mapped)) => Some(mapped),
            _ => settings.pad_token,
        };
        let mut inner = if json.is_file() {
            Inner::from_file(&json).map_err(|e| bad(&json, e.to_string()))?
        } else if vocab.is_file() && merges.is_file() {
            clip(&vocab, &merges, padding.as_ref().map(Special::text))
                .map_err(|e| bad(&vocab, e.to_string()))?
        } else {
            return Err(PipelineError::NoTokenizer {
                folder: folder.to_owned(),
            });
        };
        let own = inner.get_padding().map(|p| (p.pad_id, p.strategy.clone()));
        let own_length = match &own {
            Some((_, tokenizers::PaddingStrategy::Fixed(length))) => Some(*length),
            _ => inner.get_truncation().map(|t| t.max_length),
        };
        // Without a limit the file holds 1e30.
        let limit = settings.model_max_length.filter(|l| *l >= 2.0 && *l < 1e6);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let length = limit
            .map(|l| l as usize)
            .or(own_length)
            .unwrap_or(CLIP_LENGTH);
        // Length and ends are ours to add, so that the end survives a prompt that is
        // too long, and that what was dropped can be told.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        let id = |token: &str| inner.token_to_id(token);
        let (start, end) = (
            id("<|startoftext|>").or_else(|| id("<s>")),
            id("<|endoftext|>").or_else(|| id("</s>")),
        );
        let named = padding.as_ref().and_then(|p| id(p.text()));
        let pad = named.or(own.map(|(id, _)| id)).or(end).unwrap_or(0);
        Ok(Self {
            folder: folder.to_owned(),
            length,
            start,
            end,
            pad,
            inner,
        })
    }

    /// Tokens of every prompt.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The ids of a prompt; what is too long is cut before the end token.
    ///
    /// # Errors
    /// [`PipelineError`] if the tokenizer fails.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, PipelineError> {
        let encoding = self.inner.encode(prompt, false);
        let encoding = encoding.map_err(|e| PipelineError::Tokenizer {
            file: self.folder.clone(),
            reason: e.to_string(),
        })?;
        let ends = usize::from(self.start.is_some()) + usize::from(self.end.is_some());
        let room = self.length.saturating_sub(ends);
        let words = encoding.get_ids();
        let kept = &words[..words.len().min(room)];
        let mut ids: Vec<i64> = self.start.into_iter().map(i64::from).collect();
        ids.extend(kept.iter().map(|id| i64::from(*id)));
        ids.extend(self.end.map(i64::from));
        ids.resize(self.length, i64::from(self.pad));
        Ok(Tokens {
            ids,
            dropped: words.len() - kept.len(),
        })
    }
}

/// CLIP's tokenizer: lower case, byte-level pairs with an end-of-word mark. Start, end and
/// padding are tokens of their own wherever they stand in a text, also the `!` that SD2 pads
/// with.
fn clip(vocab: &Path, merges: &Path, padding: Option<&str>) -> tokenizers::Result<Inner> {
    let (vocab, merges) = (vocab.to_string_lossy(), merges.to_string_lossy());
    let pairs = BPE::from_file(&vocab, &merges)
        .end_of_word_suffix("</w>".to_owned())
        .unk_token("<|endoftext|>".to_owned())
        .build()?;
    let mut inner = Inner::new(pairs);
    let pattern = normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned());
    inner.with_normalizer(Some(normalizers::Sequence::new(vec![
        NormalizerWrapper::NFC(normalizers::NFC),
        NormalizerWrapper::Replace(normalizers::Replace::new(pattern, " ")?),
        NormalizerWrapper::Lowercase(normalizers::Lowercase),
    ])));
    let words = tokenizers::pre_tokenizers::split::SplitPattern::Regex(CLIP_WORDS.to_owned());
    inner.with_pre_tokenizer(Some(tokenizers::pre_tokenizers::sequence::Sequence::new(
        vec![
            PreTokenizerWrapper::Split(Split::new(words, SplitDelimiterBehavior::Removed, true)?),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)),
        ],
    )));
    let ends = ["<|startoftext|>", "<|endoftext|>"].into_iter();
    let special: Vec<AddedToken> = ends
        .chain(padding)
        .filter(|token| inner.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token, true))
        .collect();
    inner.add_special_tokens(&special);
    Ok(inner)
}
