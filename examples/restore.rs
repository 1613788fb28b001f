//! Restores a stored fixture: a pipeline whose weights are made up again by its recipes.
//!
//! ```sh
//! cargo run --example restore -- tests/fixtures/sd15-ts17 /tmp/pipeline
//! ```
//!
//! writes `/tmp/pipeline/unet/{model.onnx, weights.bin}` and the same for every other
//! component, and prints the models' paths.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[path = "../tests/common/fixtures.rs"]
mod fixtures;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [fixture, out] = arguments.as_slice() else {
        bail!("usage: restore FIXTURE_DIR OUT_DIR")
    };
    let components = components(fixture)?;
    if components.is_empty() {
        bail!(
            "{} has no */model.onnx.zst; it is not a fixture",
            fixture.display()
        );
    }
    for component in &components {
        fixtures::restore(component, out);
        let name = component.file_name().context("a component has no name")?;
        println!("{}", out.join(name).join("model.onnx").display());
    }
    Ok(())
}

/// Folders of a fixture that hold a model.
fn components(fixture: &Path) -> Result<Vec<PathBuf>> {
    let entries = fixture
        .read_dir()
        .with_context(|| format!("cannot list {}", fixture.display()))?;
    let paths: Vec<PathBuf> = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    let has_model = |p: &PathBuf| p.join("model.onnx.zst").is_file();
    let mut components: Vec<PathBuf> = paths.into_iter().filter(has_model).collect();
    components.sort();
    Ok(components)
}
