//! Golden files: what is planned, written and printed, as text beside the tests.
//!
//! `BLESS=1 cargo xtask test` (or `BLESS=1 cargo test --test golden`) writes them anew; a
//! reviewer reads the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod docs;
#[path = "../common/fixtures.rs"]
mod fixtures;
mod graphs;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the golden files.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn is_blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|v| v != "0" && !v.is_empty())
}

/// Compares `text` with the golden file `name`, or writes it.
///
/// Gives the difference, for a test to show with those of other files.
fn differs(name: &str, text: &str) -> Option<String> {
    let path = folder().join(name);
    if is_blessing() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return None;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    if golden == text {
        return None;
    }
    let (mut old, mut new) = (golden.lines(), text.lines());
    let mut number = 0;
    let first = loop {
        number += 1;
        match (old.next(), new.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => break format!("- {}\n+ {}", a.unwrap_or("(end)"), b.unwrap_or("(end)")),
        }
    };
    Some(format!("tests/golden/{name}, line {number}:\n{first}"))
}

/// Fails with all differences, and how to take them over.
#[track_caller]
fn settle(differences: impl IntoIterator<Item = Option<String>>) {
    let found: Vec<String> = differences.into_iter().flatten().collect();
    assert!(
        found.is_empty(),
        "{} golden files differ (BLESS=1 takes the new text over):\n{}",
        found.len(),
        found.join("\n")
    );
}
