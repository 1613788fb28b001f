//! Schedules that were drawn already: a search takes long and can be interrupted. It makes the same
//! moves again, so what it drew before costs nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hgc::unstable::plan::Schedule;
use hgc::unstable::tune::Runs;
use serde::{Deserialize, Serialize};

/// Scores in a file, a line each; the first line says what they are of.
pub struct KeptRuns {
    file: File,
    scores: BTreeMap<(String, Vec<String>), f64>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    key: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    case: String,
    kinds: Vec<String>,
    score: f64,
}

/// Where the runs for a plan are kept.
pub fn path_of(plan: &Path) -> PathBuf {
    plan.with_extension("runs.jsonl")
}

impl KeptRuns {
    /// Begins a file, or with `resume` goes on with one that has the same key.
    pub fn open(path: &Path, key: &str, resume: bool) -> anyhow::Result<Self> {
        let mut scores = BTreeMap::new();
        let shown = || path.display().to_string();
        if resume && path.is_file() {
            let file = File::open(path).with_context(shown)?;
            let mut lines = BufReader::new(file).lines();
            let head = lines.next().transpose().with_context(shown)?;
            let head: Option<Head> = head.and_then(|text| serde_json::from_str(&text).ok());
            if head.is_none_or(|head| head.key != key) {
                bail!(
                    "{} is of another pipeline, set or settings (--resume); choose another -o, or \
                     begin anew with --force alone",
                    path.display()
                )
            }
            for line in lines {
                // The last line of an interrupted run may be cut.
                let Ok(line) = serde_json::from_str::<Line>(&line.with_context(shown)?) else {
                    continue;
                };
                scores.insert((line.case, line.kinds), line.score);
            }
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(path)
            .with_context(shown)?;
        let head = Head {
            key: key.to_owned(),
        };
        let mut text = serde_json::to_string(&head)? + "\n";
        for ((case, kinds), score) in &scores {
            text += &line(case, kinds, *score)?;
        }
        file.write_all(text.as_bytes()).with_context(shown)?;
        Ok(Self { file, scores })
    }
}

fn line(case: &str, kinds: &[String], score: f64) -> serde_json::Result<String> {
    let line = Line {
        case: case.to_owned(),
        kinds: kinds.to_vec(),
        score,
    };
    Ok(serde_json::to_string(&line)? + "\n")
}

impl Runs for KeptRuns {
    fn known(&self, case: &str, schedule: &Schedule) -> Option<f64> {
        let key = (case.to_owned(), schedule.kinds.clone());
        self.scores.get(&key).copied()
    }

    fn keep(&mut self, case: &str, schedule: &Schedule, score: f64) -> std::io::Result<()> {
        let text = line(case, &schedule.kinds, score)?;
        self.file.write_all(text.as_bytes())?;
        let key = (case.to_owned(), schedule.kinds.clone());
        self.scores.insert(key, score);
        Ok(())
    }
}
