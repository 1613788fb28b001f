//! `hgc verify`: prove that a compiled model computes what its plan says.

use std::path::PathBuf;

use anyhow::bail;
use hgc::analysis::shapes::Sizes;
use hgc::compile::Configured;
use hgc::measure::pairs::find_pairs;
use hgc::measure::verify::{Settings, Verdict, verify};

use super::Outcome;
use super::args::{Format, print};
use super::engine::EngineArgs;

/// Options of `hgc verify`.
#[derive(clap::Args)]
pub struct Args {
    /// Original model, or pipeline folder
    original: PathBuf,
    /// What `hgc compile` made of it: a file, or the folder with plan.toml
    rewritten: PathBuf,
    /// Rows of the made-up latent
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Height of the made-up latent, where the model leaves it open
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=65536))]
    height: u64,
    /// Width of the made-up latent, where the model leaves it open
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=65536))]
    width: u64,
    /// Tokens of the made-up prompt, where the model leaves them open [default:
    /// max_position_embeddings of the text encoder's config.json, or 77]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65536))]
    tokens: Option<u64>,
    /// Seed of the made-up inputs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    engine: EngineArgs,
    /// How to print the verdict
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `hgc verify`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let engine = args.engine.start()?;
    let configured = Configured::of(&args.original)?
        .tokens
        .map(|(tokens, _)| tokens);
    let sizes = Sizes {
        batch: args.batch,
        height: args.height,
        width: args.width,
        tokens: args
            .tokens
            .or(configured)
            .unwrap_or(Sizes::default().tokens),
    };
    let settings = Settings {
        sizes,
        seed: args.seed,
        provider: args.engine.ep,
        provider_options: args.engine.ep_option.clone(),
    };
    let mut verdicts = Vec::new();
    for (original, rewritten) in files(args)? {
        verdicts.push(verify(engine, &original, &rewritten, &settings)?);
    }
    let pass = verdicts.iter().all(|v| v.pass);
    print(&match args.format {
        Format::Json => json(&verdicts, pass)?,
        Format::Table => verdicts.iter().map(render).collect(),
    })?;
    Ok(if pass { Outcome::Done } else { Outcome::No })
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
    let originals = hgc::compile::models_of(&args.original)?;
    let pairs = find_pairs(&originals, &args.rewritten)?;
    Ok(pairs
        .into_iter()
        .map(|p| (p.original, p.rewritten))
        .collect())
}

/// One file: its verdict. Several: the same fields over all of them, and `files`.
fn json(verdicts: &[Verdict], pass: bool) -> anyhow::Result<String> {
    if let [one] = verdicts {
        return Ok(serde_json::to_string_pretty(one)?);
    }
    let all = |pick: &dyn Fn(&Verdict) -> Option<bool>| -> Option<bool> {
        verdicts
            .iter()
            .map(pick)
            .collect::<Option<Vec<_>>>()
            .map(|v| v.into_iter().all(|b| b))
    };
    let largest = verdicts.iter().map(|v| v.max_abs_diff).fold(0.0, f64::max);
    Ok(serde_json::to_string_pretty(&serde_json::json!({
        "pass": pass,
        "refresh_bitwise": all(&|v| v.refresh_bitwise),
        "reuse_bitwise": all(&|v| v.reuse_bitwise),
        "executed": all(&|v| v.executed),
        "max_abs_diff": largest,
        "files": verdicts,
    }))?)
}

fn render(verdict: &Verdict) -> String {
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
