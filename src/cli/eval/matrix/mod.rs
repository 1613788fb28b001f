//! `hgc eval --matrix`: pipelines, samplers and numbers of steps in one report.

mod outline;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser as _;
use hgc::unstable::onnx::Transaction;
use serde::Deserialize;

use super::{Args, evaluate};
use crate::cli::Outcome;
use crate::cli::args::Format;
use crate::cli::terminal::{json, note, print, print_json};
use outline::{Outline, lines_of};

/// What is drawn: every pipeline with every sampler in every number of steps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    #[serde(rename = "pipeline")]
    pipelines: Vec<Pipeline>,
    samplers: Vec<String>,
    steps: Vec<usize>,
    /// Scenes of each set, from the first.
    #[serde(default = "eight")]
    scenes: usize,
    /// Points, as `--policy` takes them.
    policies: Vec<String>,
    /// `original` or `converged`.
    #[serde(default = "original")]
    reference: String,
    /// `own`, `all` or `none`.
    #[serde(default = "own")]
    fewer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipeline {
    path: PathBuf,
    set: PathBuf,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    guidance: Option<f64>,
    /// Plans that were fitted on it; those for other cells are left out.
    #[serde(default)]
    plans: Vec<PathBuf>,
}

fn eight() -> usize {
    8
}

fn original() -> String {
    "original".to_owned()
}

fn own() -> String {
    "own".to_owned()
}

/// A cell as a command line.
#[derive(clap::Parser)]
struct Cell {
    #[command(flatten)]
    args: Args,
}

/// Runs all cells.
pub fn run(args: &Args, file: &Path) -> anyhow::Result<Outcome> {
    let Some(folder) = &args.output else {
        bail!("--matrix writes a folder of reports; name it with -o")
    };
    let text = hgc::unstable::limited::read_text(file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let matrix: Matrix =
        toml::from_str(&text).with_context(|| format!("{} is no matrix", file.display()))?;
    let beside = file.parent().unwrap_or(Path::new(""));
    let cells = matrix.pipelines.len() * matrix.samplers.len() * matrix.steps.len();
    if cells == 0 {
        bail!("{} names no pipelines, samplers or steps", file.display())
    }
    let files = ["matrix.html", "matrix.json"].map(|name| folder.join(name));
    args.may_write(files.iter())?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut lines = Vec::new();
    for pipeline in &matrix.pipelines {
        let name = pipeline.name();
        for sampler in &matrix.samplers {
            for steps in &matrix.steps {
                let place = folder.join(format!("{name}-{sampler}-{steps}"));
                note(format_args!("{name}, {sampler}, {steps} steps"));
                let words = matrix.words(pipeline, beside, (sampler, *steps), &place)?;
                let mut cell = Cell::try_parse_from(words)?;
                cell.args.engine = args.engine.clone();
                let report = evaluate(&cell.args)
                    .with_context(|| format!("{name}, {sampler}, {steps} steps"))?;
                lines.extend(report.iter().flat_map(|r| lines_of(r, &name)));
            }
        }
    }
    let outline = Outline::new(lines);
    let mut transaction = Transaction::new(true);
    let [page, data] = &files;
    transaction.add_bytes(page, outline.page().as_bytes())?;
    let text = json("hgc.matrix.v1", std::slice::from_ref(&outline))?;
    transaction.add_bytes(data, text.as_bytes())?;
    transaction.commit()?;
    match args.format {
        Format::Json => print_json("hgc.matrix.v1", &[outline])?,
        Format::Table => print(&format!("{}\nreport: {}", outline.shown(), page.display()))?,
    }
    Ok(Outcome::Done)
}

impl Pipeline {
    fn name(&self) -> String {
        let parent = || self.path.parent().and_then(Path::file_name);
        let named = match self.path.file_name() {
            Some(name) if name == "pipeline" => parent().or(Some(name)),
            other => other,
        };
        let told = self.name.clone();
        told.unwrap_or_else(|| named.unwrap_or_default().to_string_lossy().into_owned())
    }
}

impl Matrix {
    /// The command line of one cell.
    fn words(
        &self,
        pipeline: &Pipeline,
        beside: &Path,
        (sampler, steps): (&str, usize),
        place: &Path,
    ) -> anyhow::Result<Vec<std::ffi::OsString>> {
        let mut words: Vec<std::ffi::OsString> = vec!["hgc eval".into()];
        words.push(beside.join(&pipeline.path).into());
        let mut say = |key: &str, value: std::ffi::OsString| {
            words.push(key.into());
            words.push(value);
        };
        say("--set", beside.join(&pipeline.set).into());
        say("--sampler", sampler.into());
        say("--steps", steps.to_string().into());
        say("--scenes", self.scenes.to_string().into());
        say("--timed", "0".into());
        say("--reference", self.reference.as_str().into());
        say("--fewer", self.fewer.as_str().into());
        if let Some(guidance) = pipeline.guidance {
            say("--guidance", guidance.to_string().into());
        }
        for policy in &self.policies {
            say("--policy", policy.into());
        }
        for plan in &pipeline.plans {
            let file = beside.join(plan);
            let planned = crate::cli::args::read_plan(&file)?;
            if planned.schedules.iter().any(|s| s.is_for(steps, sampler)) {
                say("--plan", file.into());
            }
        }
        say("-o", place.into());
        words.push("--resume".into());
        Ok(words)
    }
}
