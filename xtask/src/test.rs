//! Runs the tests with each engine.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{cargo, python, setup};

/// What `--short` runs again on the embedded engine: a test file, and which of its tests.
///
/// Every fixture whose operators it has is proved there with the default policy, some with all:
/// planning a graph for each pattern of gates takes long.
const ENGINE_TESTS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("cli", &["compile", "measure", "run", "strip"]),
    ("pipeline", &[]),
    ("xl", &[]),
    ("proof", &["broken", "by_default", "distilled", "merged"]),
];

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Do not fetch ONNX Runtime; run everything on the embedded engine
    #[arg(long)]
    embedded_only: bool,

    /// Run again on the embedded engine only what runs models, with fewer of the proofs; of the
    /// Python package only what needs no torch
    #[arg(long, conflicts_with = "embedded_only")]
    short: bool,

    /// Leave out the tests of the Python package
    #[arg(long)]
    no_python: bool,

    /// Arguments for `cargo test`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs `cargo xtask test`.
pub fn run(args: &Args) -> Result<()> {
    let mut summaries: Vec<(String, Summary)> = Vec::new();
    let all = || {
        let mut all = cargo::cargo();
        all.args(["test", "--workspace", "--no-fail-fast"]);
        all.args(&args.rest);
        all
    };
    if !args.embedded_only {
        let library = setup::library().context(
            "cannot get the ONNX Runtime the tests need; set ORT_DYLIB_PATH to a library of \
             version 1.24 or newer, or run `cargo xtask test --embedded-only`",
        )?;
        let mut runtime = all();
        runtime.env("HGC_ENGINE", "ort");
        runtime.env("ORT_DYLIB_PATH", &library);
        summaries.push(("all tests, ONNX Runtime".to_owned(), tests(&mut runtime)?));
    }
    if !args.short {
        let mut embedded = all();
        embedded.env("HGC_ENGINE", "tract");
        embedded.env_remove("ORT_DYLIB_PATH");
        let title = "all tests, embedded engine".to_owned();
        summaries.push((title, tests(&mut embedded)?));
    } else {
        for (file, filters) in ENGINE_TESTS {
            let mut again = cargo::cargo();
            again.args(["test", "--no-fail-fast", "--test", file]);
            again.args(&args.rest);
            if !filters.is_empty() && args.rest.iter().all(|a| a != "--") {
                again.arg("--");
            }
            again
                .args(*filters)
                .env("HGC_ENGINE", "tract")
                .env_remove("ORT_DYLIB_PATH");
            let filters = filters.join(" ");
            let title = format!(
                "{}, embedded engine",
                format!("{file} {filters}").trim_end()
            );
            summaries.push((title, tests(&mut again)?));
        }
    }
    let leaves_python = args.no_python || args.embedded_only;
    if !leaves_python {
        summaries.extend(python::run(!args.short)?);
    }
    tell(&summaries);
    if leaves_python {
        println!("the Python package was not tested");
    } else if args.short {
        println!("the Python package was not tested in pipelines: `cargo xtask python` does that");
    }
    finish(&summaries)
}

fn tell(summaries: &[(String, Summary)]) {
    println!();
    for (title, summary) in summaries {
        println!("{title}:");
        summary.lines.iter().for_each(|line| println!("  {line}"));
    }
}

/// Whether all passed, as the result of a task.
fn finish(summaries: &[(String, Summary)]) -> Result<()> {
    match summaries.iter().all(|(_, s)| s.passed) {
        true => Ok(()),
        false => bail!("some tests failed"),
    }
}

/// Runs `cargo xtask prove`.
pub fn prove() -> Result<()> {
    let mut long = cargo::cargo();
    long.args(["test", "--test", "proof", "--", "--ignored", "--nocapture"]);
    long.env("HGC_ENGINE", "ort");
    long.env("ORT_DYLIB_PATH", setup::library()?);
    match tests(&mut long)?.passed {
        true => Ok(()),
        false => bail!("some proofs failed"),
    }
}

/// Runs `cargo xtask python`.
pub fn python() -> Result<()> {
    let summaries = python::run(true)?;
    tell(&summaries);
    finish(&summaries)
}

/// How a test run ended.
pub struct Summary {
    passed: bool,
    /// The runner's closing lines, one a test binary that has tests.
    lines: Vec<String>,
}

/// Runs a test command, passing its output on.
pub fn tests(command: &mut Command) -> Result<Summary> {
    let text = cargo::shown(command);
    println!("$ {text}");
    let command = command.current_dir(cargo::root()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run `{text}`"))?;
    let output = child.stdout.take().context("no output of the test run")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        let of_cargo =
            line.starts_with("test result: ") && !line.contains(" 0 passed; 0 failed; 0 ignored");
        let of_pytest = line.contains(" passed in ") || line.contains(" failed, ");
        if of_cargo || of_pytest {
            lines.push(line);
        }
    }
    std::io::stdout().flush()?;
    Ok(Summary {
        passed: child.wait()?.success(),
        lines,
    })
}
