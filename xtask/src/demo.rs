//! Shows hgc at work on a small trained pipeline.

use std::env::consts::EXE_SUFFIX;
use std::process::Command;

use anyhow::Result;

use crate::{cargo, setup};

/// The trained pipeline.
const PIPELINE: &str = "models/shapes/pipeline";
/// A control image of a scene it was not trained on, and the prompt of that scene.
const CONTROL: &str = "models/shapes/heldout/000.png";
const PROMPT: &str = "a plain orange cross , a dotted cyan triangle , a checkered yellow circle and a \
                      plain pink ring on striped red";

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
    println!(
        "building hgc: about 5 minutes on two cores from nothing, seconds the next time; then the \
         demo itself, about one minute"
    );
    let mut build = cargo::cargo();
    build.args(["build", "--profile", "quick", "--bins"]);
    if library.is_some() {
        build.args(["--no-default-features", "--features", "cli"]);
    }
    cargo::run(build.current_dir(cargo::root()))?;
    let target = cargo::target_dir()?;
    let demo = target.join("demo");
    let compiled = demo.join("compiled").display().to_string();
    let picture = demo.join("compare.png").display().to_string();
    let hgc = target.join("quick").join(format!("hgc{EXE_SUFFIX}"));
    let call = |arguments: &[&[&str]]| -> Result<()> {
        let mut command = Command::new(&hgc);
        command.current_dir(cargo::root()).args(arguments.concat());
        if let Some(library) = &library {
            command.env("ORT_DYLIB_PATH", library);
        }
        println!("\n$ {}", cargo::shown(&command));
        cargo::run(&mut command)
    };
    let steps = args.steps.to_string();
    let options = ["--policy", &args.policy, "--steps", &steps];
    let output = ["-o", &compiled, "--force"];
    call(&[&["compile", PIPELINE, "--target", "cpu"], &options, &output])?;
    call(&[&["verify", PIPELINE, &compiled]])?;
    call(&[&["bench", PIPELINE, &compiled, "--steps", &steps]])?;
    let scene = ["--prompt", PROMPT, "--control", CONTROL, "--guidance", "5"];
    let shown = ["--compare", "-o", &picture, "--force"];
    call(&[&["run", &compiled], &scene, &shown])
}
