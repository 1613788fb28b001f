//! The command line: one file a subcommand, each with its options and `run`.

mod args;
mod bench;
mod compile;
mod complete;
mod doctor;
mod engine;
mod eval;
mod evaluations;
mod hints;
mod inspect;
mod plan;
mod print;
mod progress;
mod run;
mod scenes;
mod schedule;
mod signals;
mod sizes;
mod strip;
mod terminal;
mod tune;
mod verify;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the answer is no: a proof failed, or no site to cache was found
  2  bad input or usage; nothing was written
130  interrupted: all files of a result are there, or none

Begin with:
  hgc inspect PIPELINE                         what it is made of
  hgc plan PIPELINE --steps 20                 what would be cached, and what it saves
  hgc compile PIPELINE --steps 20 -o OUT       the same, written as new models
  hgc verify PIPELINE OUT                      proof that nothing else changed";

/// Compiler that inserts Hybrid-Grained Caches into exported ONNX diffusion graphs.
#[derive(Parser)]
#[command(name = "hgc", version, long_version = version::LONG.as_str(), about, max_term_width = 100)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: Output,
}

/// What is told beside results.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// Tell warnings and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Tell the steps of the work and their times; twice for more (HGC_LOG chooses by module)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: clap::ColorChoice,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a model is made of: role, blocks, attention, MACs
    Inspect(inspect::Args),
    /// Choose what to cache on which step and print the plan
    Plan(plan::Args),
    /// Rewrite a UNet and its ControlNets with caches
    Compile(compile::Args),
    /// List, add and remove schedules of compiled models: other numbers of steps, other samplers
    Schedule(schedule::Args),
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
    /// Find the plan that suits one pipeline by drawing with it
    Tune(tune::Args),
    /// Show which ONNX Runtime is used and what it offers
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completions(complete::Completions),
    /// Print the manual page, or write one for each command to a folder
    Man(complete::Man),
}

impl Command {
    fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Inspect(args) => inspect::run(&args),
            Self::Plan(args) => plan::run(&args),
            Self::Compile(args) => compile::run(&args),
            Self::Schedule(args) => schedule::run(&args),
            Self::Print(args) => print::run(&args),
            Self::Strip(args) => strip::run(&args),
            Self::Verify(args) => verify::run(&args),
            Self::Bench(args) => bench::run(&args),
            Self::Run(args) => run::run(&args),
            Self::Eval(args) => eval::run(&args),
            Self::Tune(args) => tune::run(&args),
            Self::Doctor(args) => doctor::run(args),
            Self::Completions(args) => complete::completions(&args, &mut Cli::command()),
            Self::Man(args) => complete::man(&args, Cli::command()),
        }
    }

    /// Whether results are asked for as JSON, and so errors.
    fn speaks_json(&self) -> bool {
        use args::Format::Json;
        match self {
            Self::Inspect(args) => args.format == inspect::InspectFormat::Json,
            Self::Plan(args) => args.format == plan::PlanFormat::Json,
            Self::Compile(args) => args.format == Json,
            Self::Schedule(args) => args.speaks_json(),
            Self::Verify(args) => args.format == Json,
            Self::Bench(args) => args.format == Json,
            Self::Run(args) => args.format == Json,
            Self::Eval(args) => args.format == Json,
            Self::Tune(args) => args.format == Json,
            Self::Doctor(args) => args.format == Json,
            Self::Print(_) | Self::Strip(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

/// What a command ends with when nothing went wrong.
enum Outcome {
    /// Exit code 0.
    Done,
    /// Exit code 1: the answer is no (a proof failed, no site was found).
    No,
}

/// Runs the command line. Exit codes: see the help.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    terminal::set_up(cli.output.quiet, cli.output.color);
    // A panic that becomes an error of a model is told as that.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !hgc::unstable::contained::is_contained() {
            tell(info);
        }
    }));
    log_steps(cli.output.verbose);
    signals::install();
    let json = cli.command.speaks_json();
    match cli.command.run() {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            if json {
                terminal::error_as_json(&error);
            } else {
                terminal::error(&error);
            }
            ExitCode::from(2)
        }
    }
}

/// Help and version, or what is wrong with the arguments, which may hold any character.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    terminal::usage(&error.to_string());
    ExitCode::from(2)
}

/// Writes what the library does to stderr: as `HGC_LOG` says, or as often as `-v` is given.
fn log_steps(verbose: u8) {
    let level = match verbose {
        0 => "off",
        1 => "hgc=info",
        2 => "hgc=debug",
        _ => "trace",
    };
    let chosen = std::env::var("HGC_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let filter = match chosen {
        // A level alone is that of hgc: the libraries have much to tell.
        Some(text) if !text.contains(['=', ',']) => format!("hgc={text}"),
        Some(text) => text,
        None => level.to_owned(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(terminal::has_color())
        .with_target(false)
        .without_time()
        .log_internal_errors(false)
        .init();
}
