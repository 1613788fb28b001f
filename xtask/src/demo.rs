//! Shows hgc at work on a small UNet and its ControlNet.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, setup};

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

/// The models the demo rewrites.
struct Pair {
    unet: PathBuf,
    controlnet: PathBuf,
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
    let target = cargo::target_dir()?;
    let mut build = cargo::cargo();
    build
        .args(["build", "--release", "--bin", "hgc"])
        .current_dir(cargo::root());
    cargo::run(&mut build)?;
    let hgc = target
        .join("release")
        .join(format!("hgc{}", std::env::consts::EXE_SUFFIX));
    let original = target.join("demo").join("original");
    let rewritten = target.join("demo").join("rewritten");
    let pair = fixture(&original)?;
    let steps = args.steps.to_string();
    let call = |words: &[&std::ffi::OsStr]| -> Result<()> {
        let mut command = Command::new(&hgc);
        command.args(words);
        if let Some(library) = &library {
            command.env("ORT_DYLIB_PATH", library);
        }
        println!("\n$ {}", cargo::shown(&command));
        cargo::run(&mut command)
    };
    let (unet, controlnet) = (pair.unet.as_os_str(), pair.controlnet.as_os_str());
    let (original, rewritten) = (original.as_os_str(), rewritten.as_os_str());
    let (policy, steps) = (args.policy.as_ref(), steps.as_ref());
    let (cn, p, s) = (
        "--controlnet".as_ref(),
        "--policy".as_ref(),
        "--steps".as_ref(),
    );
    let out = "-o".as_ref();
    call(&[
        "compile".as_ref(),
        unet,
        cn,
        controlnet,
        p,
        policy,
        s,
        steps,
        out,
        rewritten,
    ])?;
    call(&["verify".as_ref(), original, rewritten])?;
    call(&["bench".as_ref(), original, rewritten, s, steps])
}

/// Restores the fixture of the demo, a folder with `unet/` and `controlnet/`, to
/// `folder`. Fixtures are kept without their weights; `examples/restore.rs` makes these
/// up again.
fn fixture(folder: &Path) -> Result<Pair> {
    let mut restore = cargo::cargo();
    restore.args(["run", "--release", "--quiet", "--example", "restore", "--"]);
    restore.arg("tests/fixtures/sd15-ts17").arg(folder);
    cargo::run(restore.current_dir(cargo::root())).context("cannot restore the demo's models")?;
    let model = |part: &str| folder.join(part).join("model.onnx");
    Ok(Pair {
        unet: model("unet"),
        controlnet: model("controlnet"),
    })
}
