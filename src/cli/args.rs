//! Options that several subcommands share.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use clap::ValueEnum;
use hgc::unstable::plan::Plan;
use hgc::unstable::sampler::Method;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// A MAC count with a unit: `401.6 G`.
pub fn macs(count: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let value = count as f64;
    match count {
        0 => "-".to_owned(),
        1..1_000_000 => format!("{:.1} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        1_000_000_000..1_000_000_000_000 => format!("{:.1} G", value / 1e9),
        _ => format!("{:.2} T", value / 1e12),
    }
}

/// A byte count with a unit: `12.5 MB`.
pub fn bytes(count: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let value = count as f64;
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// A plain table without a frame, first column to the left, numbers to the right.
pub fn table(header: &[&str], right: &[usize]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header.to_vec());
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    table
}

/// That a scheduler of another class than the file's draws.
pub fn stands_for(class: &str, method: Method) -> String {
    format!(
        "scheduler class {class} is not implemented; {method} draws in its place \
         (choose with --sampler)"
    )
}

/// A number that is one, for options of any size.
pub fn finite<T: FromStr<Err: Display> + Into<f64> + Copy>(text: &str) -> Result<T, String> {
    let number: T = text.parse().map_err(|e: T::Err| e.to_string())?;
    match number.into().is_finite() {
        true => Ok(number),
        false => Err("give a finite number".to_owned()),
    }
}

/// A share of a whole, above 0 and at most 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("{text:?} is not above 0 and at most 1")),
    }
}

/// The prompts of a file, one a line; none where there is no file.
pub fn prompts(file: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let text = hgc::unstable::limited::read_text(file)
        .with_context(|| format!("cannot read the prompts {}", file.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// A plan that was made before.
pub fn read_plan(file: &Path) -> anyhow::Result<Plan> {
    let text = hgc::unstable::limited::read_text(file)
        .with_context(|| format!("cannot read the plan {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a plan", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_lines_without_a_mark_of_byte_order() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("prompts.txt");
        std::fs::write(&file, "\u{feff}a circle\r\n\n  a ring \n")?;
        assert_eq!(prompts(Some(&file))?, ["a circle", "a ring"]);
        Ok(())
    }
}
