//! `hgc verify`: prove that a compiled model computes what its plan says.

use std::path::PathBuf;

use anyhow::bail;
use hgc::unstable::engine::Engine;
use hgc::unstable::measure::pairs::find_pairs;
use hgc::unstable::measure::verify::{Verdict, VerifyOptions, verify};

use super::Outcome;
use super::args::Format;
use super::engine::EngineArgs;
use super::progress::Progress;
use super::sizes::SizeArgs;
use super::terminal::{note, print, print_json};

/// Options of `hgc verify`.
#[derive(clap::Args)]
pub struct Args {
    /// Original model, or pipeline folder
    original: PathBuf,
    /// What `hgc compile` made of it: a file, or the folder with plan.toml
    rewritten: PathBuf,
    #[command(flatten)]
    sizes: SizeArgs,
    /// Seed of the made-up inputs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    engine: EngineArgs,
    /// How to print the verdict
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs `hgc verify`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let engine = args.engine.start()?;
    let known = args.sizes.of(&args.original)?;
    note(format_args!("made-up inputs: {known}"));
    let settings = VerifyOptions {
        sizes: known.sizes,
        seed: args.seed,
        provider: args.engine.ep,
        provider_options: args.engine.ep_option.clone(),
    };
    let verdicts = prove(engine, &files(args)?, &settings)?;
    let pass = verdicts.iter().all(|v| v.pass);
    match args.format {
        Format::Json => print_json("hgc.verify.v1", &verdicts)?,
        Format::Table => print(&verdicts.iter().map(render).collect::<String>())?,
    }
    Ok(if pass { Outcome::Done } else { Outcome::No })
}

/// Verifies pairs of an original and what was made of it.
pub fn prove(
    engine: &'static Engine,
    pairs: &[(PathBuf, PathBuf)],
    settings: &VerifyOptions,
) -> anyhow::Result<Vec<Verdict>> {
    let bar = Progress::new("verify", "{msg:30} {bar:30} {pos}/{len} runs {eta}");
    let mut verdicts = Vec::new();
    for (original, rewritten) in pairs {
        let name = rewritten.file_name().unwrap_or_default().to_string_lossy();
        let mut told = |done: u64, total: u64, what: &str| {
            bar.set_length(total);
            bar.set_message(format!("{name}: {what}"));
            bar.set_position(done);
        };
        verdicts.push(verify(engine, original, rewritten, settings, &mut told)?);
    }
    bar.finish();
    Ok(verdicts)
}

/// The pairs to verify.
fn files(args: &Args) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    if let Some(missing) = [&args.original, &args.rewritten]
        .into_iter()
        .find(|p| !p.exists())
    {
        bail!("{} does not exist", missing.display())
    }
    if !args.rewritten.is_dir() {
        return Ok(vec![(args.original.clone(), args.rewritten.clone())]);
    }
    let originals = hgc::unstable::compile::models_of(&args.original)?;
    let pairs = find_pairs(&originals, &args.rewritten)?;
    Ok(pairs
        .into_iter()
        .map(|p| (p.original, p.rewritten))
        .collect())
}

/// A verdict for people: a line a check.
pub fn render(verdict: &Verdict) -> String {
    let mut text = String::new();
    for check in &verdict.checks {
        let mark = if check.pass { "ok  " } else { "FAIL" };
        text.push_str(&format!("{mark} {:10} {}\n", check.name, check.detail));
    }
    if verdict.executed.is_none() && verdict.pass {
        text.push_str(
            "     executed   not proved: only ONNX Runtime on cpu or cuda tells which nodes ran\n",
        );
    }
    let word = if verdict.pass {
        "verified"
    } else {
        "NOT verified"
    };
    text.push_str(&format!("{word}: {}\n", verdict.file));
    text
}
