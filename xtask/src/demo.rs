//! Shows hgc at work on a small UNet and its ControlNet.

use std::env::consts::EXE_SUFFIX;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, setup};

/// The stored pipeline that the demo rewrites, with `unet/` and `controlnet/`.
const FIXTURE: &str = "tests/fixtures/sd15-ts17";

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Steps of the schedule
    #[arg(long, default_value_t = 20)]
    steps: usize,

    /// How to choose what is cached
    #[arg(long, default_value = "hgc")]
    policy: String,
}

/// Runs `cargo xtask demo`.
pub fn run(args: &Args) -> Result<()> {
    let library = match setup::library() {
        Ok(library) => Some(library),
        Err(error) => {
            eprintln!("no ONNX Runtime ({error:#}); the demo runs on the embedded engine, slower");
            None
        }
    };
    let mut build = cargo::cargo();
    // One build for both: cargo then builds the dependencies once, with the same features.
    build.args(["build", "--release", "--bins", "--example", "restore"]);
    cargo::run(build.current_dir(cargo::root()))?;
    let target = cargo::target_dir()?;
    let release = target.join("release");
    let demo = target.join("demo");
    let (original, compiled) = (demo.join("original"), demo.join("compiled"));
    // Fixtures are kept without their weights; the example makes these up again.
    let mut restore = Command::new(release.join(format!("examples/restore{EXE_SUFFIX}")));
    restore.arg(FIXTURE).arg(&original);
    cargo::run(restore.current_dir(cargo::root())).context("cannot restore the demo's models")?;

    let hgc = release.join(format!("hgc{EXE_SUFFIX}"));
    let steps = args.steps.to_string();
    let call = |task: &str, folders: &[&Path], options: &[&str]| -> Result<()> {
        let mut command = Command::new(&hgc);
        command.arg(task).args(folders).args(options);
        command.args(["--height", "16", "--width", "16"]);
        if task == "compile" {
            command.arg("--force").arg("-o").arg(&compiled);
        }
        if let Some(library) = &library {
            command.env("ORT_DYLIB_PATH", library);
        }
        println!("\n$ {}", cargo::shown(&command));
        cargo::run(&mut command)
    };
    let compile = ["--policy", &args.policy, "--steps", &steps];
    call("compile", &[&original], &compile)?;
    call("verify", &[&original, &compiled], &[])?;
    call("bench", &[&original, &compiled], &["--steps", &steps])
}
