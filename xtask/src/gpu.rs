//! Prepares what is measured on a machine with a GPU, measures there, and writes the tables.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{cargo, python};

/// Options of `cargo xtask gpu`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Build hgc, export and fuse full-width models, fetch the GPU runtime: target/gpu, in pieces small
    /// enough to carry (fetches torch; about half an hour, 16 GB of memory for SDXL)
    Prepare {
        /// Which pipelines; all where none is named
        pipelines: Vec<String>,
    },
    /// Measure on the GPU of this machine, at most 8 minutes: `python3 target/gpu/measure.py target/gpu` does the
    /// same where there is no cargo
    Measure {
        /// File of results
        #[arg(long, default_value = "target/gpu.json")]
        out: PathBuf,
    },
    /// Write the tables of docs/BENCHMARKS.md from a file of results
    Tables {
        /// What was measured
        #[arg(default_value = "target/gpu.json")]
        result: PathBuf,
    },
}

/// Runs `cargo xtask gpu`.
pub fn run(args: &Args) -> Result<()> {
    let target = cargo::target_dir()?;
    let kit = target.join("gpu");
    let mut command = match &args.task {
        Task::Prepare { pipelines } => {
            let mut build = cargo::cargo();
            build.args(["build", "--release", "--bins"]);
            build.args(["--no-default-features", "--features", "cli"]);
            cargo::run(build.current_dir(cargo::root()))?;
            let mut prepare = Command::new(python::models()?);
            prepare.arg("bench/gpu/prepare.py").args(pipelines);
            prepare.arg("--hgc").arg(target.join("release/hgc"));
            prepare.arg("--out").arg(kit);
            prepare
        }
        Task::Measure { out } => {
            let mut measure = Command::new(python::models()?);
            measure.arg(kit.join("measure.py")).arg(kit);
            measure.arg("--out").arg(out);
            measure
        }
        Task::Tables { result } => {
            let mut tables = Command::new(crate::setup::python()?);
            tables.arg("bench/gpu/tables.py").arg(result);
            tables
        }
    };
    cargo::run(command.current_dir(cargo::root()))
}
