//! Development tasks: `cargo xtask setup`, `cargo xtask test`, `cargo xtask demo`, `cargo xtask prove`,
//! `cargo xtask python`, `cargo xtask fuzz`, `cargo xtask gpu`.

mod cargo;
mod demo;
mod fuzz;
mod gpu;
mod python;
mod setup;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Development tasks of hgc.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch the pinned ONNX Runtime into the target folder
    Setup,
    /// Run all tests, those that need an engine once with each engine
    Test(test::Args),
    /// Run the tests of the Python package, also in pipelines of diffusers and optimum (fetches torch)
    Python,
    /// Run the proofs that take longer than the tests may: every policy in every form
    Prove,
    /// Feed damaged inputs to everything that reads files
    Fuzz(fuzz::Args),
    /// Build hgc, rewrite a small UNet and its ControlNet, prove and time the result
    Demo(demo::Args),
    /// Measure on a GPU: prepare everything here, measure there in one command, write the tables
    Gpu(gpu::Args),
}

fn main() -> Result<()> {
    if let Some(code) = fuzz::wrapped() {
        std::process::exit(code);
    }
    match Cli::parse().task {
        Task::Setup => {
            println!("{}", setup::library()?.display());
            Ok(())
        }
        Task::Test(args) => test::run(&args),
        Task::Python => test::python(),
        Task::Prove => test::prove(),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Gpu(args) => gpu::run(&args),
    }
}
