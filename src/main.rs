//! The `hgc` command; see [`cli`] for its subcommands.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
