//! The command line: one file a subcommand, each with its options and `run`.

mod args;
mod bench;
mod compile;
mod doctor;
mod engine;
mod eval;
mod inspect;
mod plan;
mod print;
mod run;
mod sizes;
mod strip;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Compiler that inserts Hybrid-Grained Caches into exported ONNX diffusion graphs.
#[derive(Parser)]
#[command(name = "hgc", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a model is made of: role, blocks, attention, MACs
    Inspect(inspect::Args),
    /// Choose what to cache on which step and print the plan
    Plan(plan::Args),
    /// Rewrite a UNet and its ControlNets with caches
    Compile(compile::Args),
    /// Show a graph or a plan as text, one line a node
    Print(print::Args),
    /// Give the original back from a compiled model
    Strip(strip::Args),
    /// Prove that a compiled model computes what its plan says
    Verify(verify::Args),
    /// Time the denoising loop of original and compiled models
    Bench(bench::Args),
    /// Draw pictures with a pipeline, original or compiled, or compare the two
    Run(run::Args),
    /// Compare policies: compute saved, time, and what it costs in pictures
    Eval(eval::Args),
    /// Show which ONNX Runtime is used and what it offers
    Doctor(doctor::Args),
}

/// What a command ends with when nothing went wrong.
enum Outcome {
    /// Exit code 0.
    Done,
    /// Exit code 1: the answer is no (a proof failed, no site was found).
    No,
}

/// Runs the command line.
///
/// Exit codes: 0 done, 1 the answer is no, 2 bad input or usage.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // A panic that becomes an error of a model is told as that.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !hgc::contained::is_contained() {
            tell(info);
        }
    }));
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("HGC_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let handled = ctrlc::set_handler(|| {
        hgc::onnx::abandon_transactions();
        eprintln!("hgc: interrupted");
        std::process::exit(130);
    });
    if let Err(error) = handled {
        tracing::debug!("signals end the process at once: {error}");
    }
    let result = match cli.command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Print(args) => print::run(&args),
        Command::Strip(args) => strip::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Doctor(args) => doctor::run(args).map(|()| Outcome::Done),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            eprintln!("hgc: error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::from(2)
        }
    }
}
