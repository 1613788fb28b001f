//! `hgc strip`: the original from a compiled model.

use std::path::PathBuf;

use anyhow::Context;
use hgc::unstable::emit;
use hgc::unstable::onnx::{Model, Transaction, folder_of};

use super::Outcome;
use super::terminal::print;

/// Options of `hgc strip`.
#[derive(clap::Args)]
pub struct Args {
    /// Compiled model
    model: PathBuf,
    /// File to write the original to
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// Runs `hgc strip`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let model = Model::read(&args.model)?;
    let original = emit::strip(&model.proto)
        .with_context(|| format!("cannot strip {}", args.model.display()))?;
    let mut transaction = Transaction::new(args.force);
    model.files().iter().for_each(|f| transaction.protect(f));
    transaction.add_model(
        original,
        &folder_of(&args.model),
        &args.output,
        &mut |_, _| {},
    )?;
    let written = transaction.commit()?;
    let lines = written.iter().map(|f| format!("wrote {}\n", f.display()));
    print(&lines.collect::<String>())?;
    Ok(Outcome::Done)
}
