//! Builds and runs the fuzz targets with the stable toolchain.
//!
//! libFuzzer comes with its crate. What cargo-fuzz asks a nightly compiler for is the counting of
//! branches; stable has it too, as a pass of LLVM. It is of use in hgc alone, so this program
//! stands between cargo and the compiler and asks for it there.

#[path = "../../fuzz/src/configuration.rs"]
mod configuration;

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, setup};

/// Set where this program is called in the place of the compiler.
const WRAPS: &str = "HGC_XTASK_WRAPS_RUSTC";
/// What is fuzzed.
const TARGETS: [&str; 5] = ["read", "plan", "compile", "strip", "json"];
/// Count branches, and compare operands, where a crate is compiled.
const COUNT: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// Targets to run [default: all]
    #[arg(value_parser = TARGETS)]
    target: Vec<String>,
}

/// Whether this process stands in for the compiler; then it is done, with this exit code.
pub fn wrapped() -> Option<i32> {
    env::var_os(WRAPS)?;
    let mut words = env::args_os().skip(1);
    let compiler = words.next()?;
    let words: Vec<_> = words.collect();
    let mut command = Command::new(compiler);
    let at = words.iter().position(|w| w == "--crate-name");
    if at.is_some_and(|at| words.get(at + 1).is_some_and(|name| name == "hgc")) {
        command.args(COUNT);
    }
    let status = command.args(words).status();
    Some(status.ok().and_then(|s| s.code()).unwrap_or(1))
}

/// Runs `cargo xtask fuzz`.
pub fn run(args: &Args) -> Result<()> {
    let chosen = |name: &&str| args.target.is_empty() || args.target.iter().any(|t| t == name);
    let targets: Vec<&str> = TARGETS.into_iter().filter(chosen).collect();
    let library = setup::library()?;
    let folder = cargo::target_dir()?.join("fuzz");
    println!("building: about 6 minutes on two cores from nothing");
    let mut build = cargo::cargo();
    build.args(["build", "--release", "--bins", "--target-dir"]);
    build.arg(&folder).current_dir(cargo::root().join("fuzz"));
    build
        .env(WRAPS, "1")
        .env("RUSTC_WRAPPER", env::current_exe()?);
    cargo::run(&mut build)?;
    let mut counts = Vec::new();
    for target in targets {
        let corpus = folder.join("corpus").join(target);
        let found = folder.join("found").join(target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&found)?;
        seed(target, &corpus)?;
        let mut fuzz = Command::new(folder.join("release").join(target));
        fuzz.arg(format!("-max_total_time={}", args.seconds));
        fuzz.arg(format!("-artifact_prefix={}/", found.display()));
        fuzz.args(["-print_final_stats=1", "-rss_limit_mb=4096", "-timeout=120"]);
        fuzz.args(["-max_len=65536", "-verbosity=0"]);
        fuzz.arg(&corpus).current_dir(cargo::root());
        fuzz.env("ORT_DYLIB_PATH", &library);
        println!("\n$ {}", cargo::shown(&fuzz));
        let output = fuzz.output().context("cannot run the target")?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{target}: {told}\nthe input is kept in {}", found.display())
        }
        let executed = told.lines().find_map(|line| {
            let number = line.strip_prefix("stat::number_of_executed_units:")?;
            number.trim().parse::<u64>().ok()
        });
        let executed = executed.with_context(|| format!("{target} tells no count: {told}"))?;
        println!("{target}: {executed} executions, nothing found");
        counts.push(executed);
    }
    println!("\n{} executions, nothing found", counts.iter().sum::<u64>());
    Ok(())
}

/// Sound inputs to begin with.
fn seed(target: &str, corpus: &std::path::Path) -> Result<()> {
    let root = cargo::root();
    let put = |name: &str, bytes: &[u8]| std::fs::write(corpus.join(name), bytes);
    match target {
        "json" => {
            let pipeline = root.join("models/shapes/pipeline");
            for (index, file) in configuration::FILES.iter().enumerate() {
                let mut bytes = vec![u8::try_from(index)?];
                bytes.extend(std::fs::read(pipeline.join(file)).unwrap_or_default());
                put(&index.to_string(), &bytes)?;
            }
            let sidecar = root.join("tests/fixtures/hgc.json");
            put("sidecar", &[vec![0], std::fs::read(sidecar)?].concat())?;
        }
        _ => {
            for source in 0..5u8 {
                let mut bytes = vec![source, source];
                bytes.extend((0..28u8).map(|i| i.wrapping_mul(37).wrapping_add(source)));
                put(&source.to_string(), &bytes)?;
            }
        }
    }
    Ok(())
}
