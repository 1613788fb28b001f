//! `hgc verify`: prove that a compiled model computes what its plan says.

use std::io::Write as _;
use std::path::PathBuf;

use hgc::analysis::shapes::Sizes;
use hgc::measure::verify::{Settings, Verdict, verify};

use super::Outcome;
use super::args::Format;
use super::engine::EngineArgs;

/// Options of `hgc verify`.
#[derive(clap::Args)]
pub struct Args {
    /// Original model
    original: PathBuf,
    /// Model that `hgc compile` made of it
    rewritten: PathBuf,
    /// Rows of the made-up latent
    #[arg(long, default_value_t = 2)]
    batch: u64,
    /// Height of the made-up latent, where the model leaves it open
    #[arg(long, default_value_t = 16)]
    height: u64,
    /// Width of the made-up latent, where the model leaves it open
    #[arg(long, default_value_t = 16)]
    width: u64,
    /// Tokens of the made-up prompt, where the model leaves them open
    #[arg(long, default_value_t = 77)]
    tokens: u64,
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
    let sizes =
        Sizes { batch: args.batch, height: args.height, width: args.width, tokens: args.tokens };
    let settings = Settings {
        sizes,
        seed: args.seed,
        provider: args.engine.ep,
        provider_options: args.engine.ep_option.clone(),
    };
    let verdict = verify(engine, &args.original, &args.rewritten, &settings)?;
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&verdict)?)?,
        Format::Table => write!(out, "{}", render(&verdict))?,
    }
    Ok(if verdict.pass { Outcome::Done } else { Outcome::No })
}

fn render(verdict: &Verdict) -> String {
    let mut text = String::new();
    for check in &verdict.checks {
        let mark = if check.pass { "ok  " } else { "FAIL" };
        text.push_str(&format!("{mark} {:10} {}\n", check.name, check.detail));
    }
    let word = if verdict.pass { "verified" } else { "NOT verified" };
    text.push_str(&format!("{word}: {}\n", verdict.file));
    text
}
