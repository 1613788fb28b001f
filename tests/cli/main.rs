//! The command line: what each subcommand prints, writes and ends with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod compile;
mod eval;
#[path = "../common/fixtures.rs"]
mod fixtures;
mod hostile;
#[path = "../common/hostile_cases/mod.rs"]
mod hostile_cases;
mod inspect;
mod measure;
mod plan;
mod run;
mod schedule;
mod strip;
mod tune;
#[path = "../common/wrap.rs"]
mod wrap;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

/// Exit code where the answer is no.
const NO: i32 = 1;
/// Exit code for bad input.
const BAD: i32 = 2;

/// A run of `hgc`.
struct Run {
    code: i32,
    out: String,
    err: String,
}

/// Runs `hgc task paths... options...`; `options` are split at spaces.
fn hgc<P: AsRef<OsStr>>(task: &str, paths: &[P], options: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hgc"));
    command.env_remove("HGC_LOG");
    command
        .arg(task)
        .args(paths)
        .args(options.split_whitespace());
    let output = command.output().unwrap();
    Run {
        code: output.status.code().expect("hgc ends by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    #[track_caller]
    fn jsons(self) -> Vec<Value> {
        let all: Value = serde_json::from_str(&self.ok()).expect("JSON and nothing else on stdout");
        let all = all.as_array().expect("an array").clone();
        for one in &all {
            let schema = one["schema"]
                .as_str()
                .expect("every result names its schema");
            assert!(
                schema.starts_with("hgc.") && schema.ends_with(".v1"),
                "{schema}"
            );
        }
        all
    }

    /// The only result.
    #[track_caller]
    fn json(self) -> Value {
        let mut all = self.jsons();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// Ends with `code`, says each of `texts` on stderr and nothing on stdout.
    #[track_caller]
    fn fails(self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        for text in texts {
            assert!(self.err.contains(text), "no {text:?} in: {}", self.err);
        }
        assert_eq!(self.out, "");
    }
}

/// Options of a small latent.
const SMALL: &str = "--height 16 --width 16";

/// `--steps 4`, a small latent and more.
fn small(more: &str) -> String {
    format!("--steps 4 {SMALL} {more}")
}

/// A folder with a copy of the usual pipeline.
struct Pipeline {
    folder: tempfile::TempDir,
}

impl Pipeline {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stored = fixtures::fixture("sd15-ts17");
        for part in ["unet", "controlnet"] {
            let to = folder.path().join("original").join(part);
            fs::create_dir_all(&to).unwrap();
            for file in ["model.onnx", "weights.bin"] {
                fs::copy(stored.join(part).join(file), to.join(file)).unwrap();
            }
        }
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("original")
    }

    fn unet(&self) -> PathBuf {
        self.path().join("unet/model.onnx")
    }

    fn controlnet(&self) -> PathBuf {
        self.path().join("controlnet/model.onnx")
    }

    /// A path beside the pipeline.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The stored model of `part`, restored where tests only read.
fn stored(part: &str) -> PathBuf {
    fixtures::fixture("sd15-ts17").join(part).join("model.onnx")
}

/// `-o PATH`, for paths among the positional ones.
fn to(path: &Path) -> [&OsStr; 2] {
    ["-o".as_ref(), path.as_os_str()]
}

/// Every file and folder below `folder`, with the size of files.
fn listing(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(here) = todo.pop() {
        for entry in fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                todo.push(path.clone());
            }
            let size = if metadata.is_file() {
                metadata.len()
            } else {
                0
            };
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), size);
        }
    }
    found
}

/// The string items of a JSON list.
fn words(list: &Value) -> Vec<&str> {
    let items = list.as_array().unwrap().iter();
    items.map(|v| v.as_str().unwrap()).collect()
}
