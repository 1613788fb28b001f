//! `hgc completions` and `hgc man`: what shells and `man` need, from the options themselves.

use std::path::PathBuf;

use clap_complete::Shell;
use hgc::unstable::onnx::Transaction;

use super::Outcome;
use super::terminal::print;

/// Options of `hgc completions`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hgc completions bash >> ~/.bash_completion")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Options of `hgc man`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hgc man -o ~/.local/share/man/man1 && man hgc-compile")]
pub struct Man {
    /// Folder for one page a command; without it, the page of `hgc` is printed
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// Runs `hgc completions`.
pub fn completions(args: &Completions, command: &mut clap::Command) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "hgc", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}

/// Runs `hgc man`.
pub fn man(args: &Man, mut command: clap::Command) -> anyhow::Result<Outcome> {
    command.build();
    let Some(folder) = &args.output else {
        print(&page(command)?)?;
        return Ok(Outcome::Done);
    };
    let mut transaction = Transaction::new(args.force);
    let names = command.get_subcommands().filter(|c| c.get_name() != "help");
    let mut pages: Vec<clap::Command> = names.cloned().collect();
    for page in &mut pages {
        // `man hgc-compile`, as git has it.
        *page = page.clone().name(format!("hgc-{}", page.get_name()));
    }
    pages.push(command);
    for command in pages {
        let file = folder.join(format!("{}.1", command.get_name()));
        transaction.add_bytes(&file, page(command)?.as_bytes())?;
    }
    let written = transaction.commit()?;
    let lines = written.iter().map(|f| format!("wrote {}\n", f.display()));
    print(&lines.collect::<String>())?;
    Ok(Outcome::Done)
}

fn page(command: clap::Command) -> anyhow::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(String::from_utf8(text)?)
}
