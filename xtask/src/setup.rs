//! Fetches the pinned ONNX Runtime.
//!
//! The library comes from a Python wheel, fetched by pip against the hashes in
//! `xtask/onnxruntime.txt`, and lies in `target/onnxruntime/VERSION/`, where hgc finds
//! it by itself. pip only fetches: nothing is installed and no Python is run on it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// The requirement file: version and hashes.
const REQUIREMENT: &str = "xtask/onnxruntime.txt";

/// Takes the wheels of a folder apart, keeping the libraries.
const EXTRACT: &str = r#"
import pathlib, sys, zipfile
source, target = map(pathlib.Path, sys.argv[1:])
for wheel in source.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            file = pathlib.PurePosixPath(name)
            library = file.suffix in (".dll", ".dylib") or ".so" in file.suffixes
            if file.parent.name == "capi" and library and "pybind11" not in file.name:
                (target / file.name).write_bytes(archive.read(name))
"#;

/// The path of an ONNX Runtime library: `ORT_DYLIB_PATH`, or the pinned one, fetched
/// where it is not there yet.
pub fn library() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return Ok(path.into());
    }
    let requirement = std::fs::read_to_string(cargo::root().join(REQUIREMENT))?;
    let version = version(&requirement).with_context(|| format!("no version in {REQUIREMENT}"))?;
    let folder = cargo::target_dir()?.join("onnxruntime");
    let installed = folder.join(version);
    if let Some(library) = library_in(&installed) {
        return Ok(library);
    }
    eprintln!("fetching ONNX Runtime {version}");
    let partial = folder.join(format!(".partial-{}", std::process::id()));
    let result = fetch(&partial).and_then(|()| {
        library_in(&partial.join("lib")).context("the wheel holds no ONNX Runtime library")?;
        match std::fs::rename(partial.join("lib"), &installed) {
            Err(_) if library_in(&installed).is_some() => Ok(()),
            other => other.with_context(|| format!("cannot write {}", installed.display())),
        }
    });
    // What is left over is of no use to anyone; failing to remove it harms nobody.
    let _ = std::fs::remove_dir_all(&partial);
    result?;
    library_in(&installed).with_context(|| format!("no library in {}", installed.display()))
}

/// Fetches the wheel into `folder` and extracts its libraries to `folder/lib`.
fn fetch(folder: &Path) -> Result<()> {
    let tag = platform_tag()?;
    let libraries = folder.join("lib");
    std::fs::create_dir_all(&libraries)?;
    let python = python()?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    pip.args(["--no-deps", "--require-hashes", "--only-binary=:all:"]);
    pip.args([
        "--implementation",
        "cp",
        "--python-version",
        "3.12",
        "--abi",
        "cp312",
    ]);
    pip.args(["--platform", tag, "-r", REQUIREMENT, "-d"])
        .arg(folder);
    cargo::run(pip.current_dir(cargo::root()))?;
    let mut extract = Command::new(&python);
    extract.args(["-c", EXTRACT]).args([folder, &libraries]);
    match extract.status() {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("cannot extract the wheel in {}", folder.display()),
    }
}

/// The platform tag of the wheel for this machine.
fn platform_tag() -> Result<&'static str> {
    Ok(match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => "manylinux_2_28_x86_64",
        ("linux", "aarch64") => "manylinux_2_28_aarch64",
        ("macos", "aarch64") => "macosx_14_0_arm64",
        ("windows", "x86_64") => "win_amd64",
        ("windows", "aarch64") => "win_arm64",
        (os, arch) => bail!("there is no ONNX Runtime wheel for {arch} {os}"),
    })
}

/// A Python with pip.
pub fn python() -> Result<PathBuf> {
    let named = env::var_os("PYTHON").map(PathBuf::from);
    let usual = ["python3", "python"].map(PathBuf::from);
    let has_pip = |python: &PathBuf| {
        let output = Command::new(python)
            .args(["-m", "pip", "--version"])
            .output();
        output.is_ok_and(|o| o.status.success())
    };
    let found = named.into_iter().chain(usual).find(has_pip);
    found.context("no Python with pip found; set PYTHON, or ORT_DYLIB_PATH to a library you have")
}

/// The ONNX Runtime library in a folder.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    files.filter(|p| p.is_file()).find(|path| {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        name.starts_with("libonnxruntime.") || name == "onnxruntime.dll"
    })
}

fn version(requirement: &str) -> Option<&str> {
    let line = requirement
        .lines()
        .find_map(|l| l.strip_prefix("onnxruntime=="))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_off_the_requirement() {
        let text = std::fs::read_to_string(cargo::root().join(REQUIREMENT)).unwrap();
        let version = version(&text).unwrap();
        assert!(
            version.split('.').all(|n| n.parse::<u32>().is_ok()),
            "{version}"
        );
    }
}
