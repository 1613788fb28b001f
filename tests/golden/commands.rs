//! Runs of the executable: `commands/NAME.txt` holds the command and all that it prints.
//!
//! A new case is a file with its first line, `$ hgc ...`; blessing adds the rest. `FIXTURE/x`
//! stands for the restored fixture `x`, `OUT` for an empty folder.

use std::fs;

use assert_cmd::Command;

use crate::{differs, fixtures, folder, settle};

/// The whole text of a case.
fn run(line: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    let home = out.path().display().to_string();
    let mut places: Vec<(String, String)> = vec![(home, "OUT".to_owned())];
    let mut command = Command::new(env!("CARGO_BIN_EXE_hgc"));
    command.env_remove("HGC_LOG").env("COLUMNS", "100");
    for word in line.split_whitespace().skip(2) {
        let word = match word.strip_prefix("FIXTURE/") {
            Some(rest) => {
                let (name, inside) = rest.split_once('/').unwrap_or((rest, ""));
                let fixture = fixtures::fixture(name);
                places.push((fixture.display().to_string(), format!("FIXTURE/{name}")));
                fixture.join(inside).display().to_string()
            }
            None => word.replace("OUT", &places[0].0),
        };
        command.arg(word);
    }
    let output = command.output().unwrap();
    let mut text = format!("{line}\nexit {}\n", output.status.code().unwrap());
    for (title, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        let mut shown = String::from_utf8(bytes).unwrap();
        for (path, name) in &places {
            shown = shown.replace(path.as_str(), name);
        }
        if !shown.is_empty() {
            text.push_str(&format!("--- {title}\n{shown}"));
        }
    }
    text
}

#[test]
fn every_command_prints_what_it_printed() {
    let entries = fs::read_dir(folder().join("commands")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() > 10, "{names:?}");
    settle(names.iter().map(|name| {
        let name = format!("commands/{}", name.to_str().unwrap());
        let golden = fs::read_to_string(folder().join(&name)).unwrap();
        let line = golden.lines().next().expect("a command");
        assert!(line.starts_with("$ hgc "), "{name}: {line}");
        differs(&name, &run(line))
    }));
}
