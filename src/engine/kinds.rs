//! A model as a set of variants: a session a kind, and the cached values between them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Engine;
use super::device::{DeviceTensor, Feed};
use super::error::{EngineError, Result, Source};
use super::session::{Session, SessionOptions};
use super::tensor::Tensor;
use crate::convention::{PAST_PREFIX, PRESENT_PREFIX, ROW};
use crate::sidecar::Sidecar;

/// The sessions of all kinds, and what they leave for each other.
#[derive(Debug)]
pub(super) struct KindSessions {
    start: Session,
    /// Those of the other kinds, in the order of the sidecar.
    others: Vec<Session>,
    /// Cached values by name, where the provider left them.
    states: HashMap<String, DeviceTensor>,
}

impl KindSessions {
    /// Loads the variants that lie in `folder`.
    pub fn open(
        engine: &Engine,
        folder: &Path,
        sidecar: &Sidecar,
        options: &SessionOptions,
    ) -> Result<Self> {
        let mut sessions = Vec::new();
        for (file, kind) in sidecar.files.iter().zip(&sidecar.kinds) {
            let options = SessionOptions {
                profile: options.profile.as_ref().map(|prefix| {
                    let name = prefix.file_name().unwrap_or_default().to_string_lossy();
                    prefix.with_file_name(format!("{name}-{}", kind.name))
                }),
                ..options.clone()
            };
            // A name from a file must not lead out of the folder.
            let plain = Path::new(file).components().count() == 1;
            let path = Path::new(file).file_name().filter(|_| plain);
            let path = path.ok_or_else(|| EngineError::Convention {
                file: folder.display().to_string(),
                problem: format!("hgc.json names the file {file:?}"),
            })?;
            sessions.push(Session::load(engine, folder.join(path), &options)?);
        }
        let buffers = sessions.first().and_then(|start| start.model.buffers());
        for other in sessions.iter_mut().skip(1) {
            if let Some(buffers) = &buffers {
                other.model.share_buffers(Arc::clone(buffers));
            }
        }
        let mut sessions = sessions.into_iter();
        let start = sessions.next().ok_or_else(|| EngineError::Convention {
            file: folder.display().to_string(),
            problem: "hgc.json names no kinds".to_owned(),
        })?;
        Ok(Self {
            start,
            others: sessions.collect(),
            states: HashMap::new(),
        })
    }

    /// The session of the start, which takes and gives what the original does.
    pub fn start(&self) -> &Session {
        &self.start
    }

    fn session(&mut self, kind: usize) -> Option<&mut Session> {
        match kind.checked_sub(1) {
            None => Some(&mut self.start),
            Some(other) => self.others.get_mut(other),
        }
    }

    /// Ends profiling and returns the profile of each kind.
    pub fn end_profiling(&mut self) -> Result<Vec<PathBuf>> {
        let sessions = std::iter::once(&mut self.start).chain(&mut self.others);
        sessions.map(Session::end_profiling).collect()
    }

    /// Evaluates a kind; the outputs of the original come back in its order. After an error the
    /// cached values are lost.
    pub fn evaluate(
        &mut self,
        (kind, row): (usize, usize),
        given: &[(&str, Feed<'_>)],
    ) -> std::result::Result<Vec<(String, DeviceTensor)>, Source> {
        let mut states = std::mem::take(&mut self.states);
        let session = self.session(kind).ok_or("there is no such kind")?;
        let pasts: Vec<(String, DeviceTensor)> = session
            .inputs()
            .iter()
            .filter_map(|i| {
                let state = i.name.strip_prefix(PAST_PREFIX)?;
                Some((i.name.clone(), states.get(state)?.clone()))
            })
            .collect();
        // What it writes and does not read is of no use any more: its memory is free for what comes.
        for output in session.outputs() {
            if let Some(state) = output.name.strip_prefix(PRESENT_PREFIX) {
                states.remove(state);
            }
        }
        let known = |name: &str| {
            let mut inputs = session.inputs().iter().chain(session.optional_inputs());
            inputs.any(|i| i.name == name)
        };
        // What a kind has no need of, the runtime may have dropped.
        let mut feeds: Vec<(&str, Feed<'_>)> = given
            .iter()
            .filter(|(name, _)| known(name))
            .copied()
            .collect();
        let row = i64::try_from(row).unwrap_or(i64::MAX);
        let row = known(ROW)
            .then(|| Tensor::from_i64(&[], &[row]))
            .transpose()?;
        feeds.extend(row.as_ref().map(|row| (ROW, Feed::Host(row))));
        feeds.extend(
            pasts
                .iter()
                .map(|(name, value)| (name.as_str(), value.into())),
        );
        let mut outputs = session.model.run_on_device(&feeds)?;
        outputs.retain(|(name, value)| match name.strip_prefix(PRESENT_PREFIX) {
            Some(state) => {
                states.insert(state.to_owned(), value.clone());
                false
            }
            None => true,
        });
        self.states = states;
        Ok(outputs)
    }

    /// Drops all cached values.
    pub fn forget(&mut self) {
        self.states.clear();
    }
}
