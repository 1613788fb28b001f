//! The commands of the README work as they are typed, one after the other, by somebody who has done
//! only what stands above them.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Commands in indented blocks, with comments taken off and continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|l| l.strip_prefix("    "));
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let line = line.split("  #").next().unwrap().trim();
        let (line, more) = match line.strip_suffix('\\') {
            Some(line) => (line.trim_end(), true),
            None => (line, false),
        };
        match found.last_mut().filter(|_| goes_on) {
            Some(last) => {
                last.push(' ');
                last.push_str(line);
            }
            None => found.push(line.to_owned()),
        }
        goes_on = more;
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn every_command_works_as_typed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // What the lines with `optimum-cli` and `models/export.py` give: these need packages and a
    // checkpoint. A small pipeline stands in, and one of its control maps.
    copy(&root.join("models/shapes/pipeline"), &here.join("sd15"));
    fs::copy(
        root.join("models/shapes/heldout/000.png"),
        here.join("map.png"),
    )
    .unwrap();
    std::os::unix::fs::symlink(root.join("models"), here.join("models")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_hgc")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut run = 0;
    for command in commands(&text) {
        let words: Vec<&str> = command.split_whitespace().collect();
        // Upper case stands for what a reader has: `hgc inspect UNET`.
        let is_pattern = |w: &&str| {
            w.as_bytes()
                .windows(2)
                .any(|w| w.iter().all(u8::is_ascii_uppercase))
        };
        if words.first() != Some(&"hgc") || words.iter().any(is_pattern) {
            continue;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(here);
        shell.env("HOME", here);
        shell.env("PATH", format!("{}:{path}", program.display()));
        let output = shell.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {told}");
        run += 1;
    }
    assert!(run >= 9, "only {run} commands");
    for made in [
        "sd15-cached/plan.toml",
        "house.png",
        "out.png",
        ".bash_completion",
    ] {
        assert!(here.join(made).exists(), "{made}");
    }
}
