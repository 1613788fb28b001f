//! Runs the tests of the Python package, each suite in an environment of its own under
//! `target/python`, which is made once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::test::{Summary, tests};
use crate::{cargo, setup};

/// Tests that belong together: a folder in `python/` with `requirements.txt`.
struct Suite {
    folder: &'static str,
    /// Whether it needs torch, which is a download of gigabytes.
    torch: bool,
    /// Whether it is left to `cargo xtask python` and whole test runs.
    long: bool,
}

impl Suite {
    const fn new(folder: &'static str, torch: bool, long: bool) -> Self {
        Self {
            folder,
            torch,
            long,
        }
    }
}

const SUITES: [Suite; 4] = [
    Suite::new("tests", false, false),
    Suite::new("tests_wheel", false, true),
    Suite::new("tests_diffusers", true, true),
    Suite::new("tests_optimum", true, true),
];
/// What the environments with torch share.
const TORCH: &str = "torch==2.9.1";

/// Runs the suites, the long ones only if `all`; how each ended.
pub fn run(all: bool) -> Result<Vec<(String, Summary)>> {
    // Built as for the other tests, so that it is there already after them.
    cargo::run(cargo::cargo().args(["test", "--workspace", "--no-run", "--test", "doctor"]))?;
    let target = cargo::target_dir()?;
    let program = target
        .join("debug")
        .join(format!("hgc{}", std::env::consts::EXE_SUFFIX));
    let library = setup::library()?;
    let mut summaries = Vec::new();
    for suite in SUITES.iter().filter(|s| all || !s.long) {
        let python = environment(suite, &target.join("python"))?;
        let mut command = Command::new(python);
        command.args([
            "-m",
            "pytest",
            "-q",
            "-W",
            "ignore",
            "-p",
            "no:cacheprovider",
        ]);
        command.arg(format!("python/{}", suite.folder));
        let here = cargo::root().join("python");
        let path = std::env::join_paths([here.join(suite.folder), here])?;
        command
            .env("PYTHONPATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("HGC", &program).env("ORT_DYLIB_PATH", &library);
        command.env("CARGO_TARGET_DIR", &target);
        summaries.push((format!("python/{}", suite.folder), tests(&mut command)?));
    }
    Ok(summaries)
}

/// The Python that exports models, made where it is not there.
pub fn models() -> Result<PathBuf> {
    let folder = cargo::target_dir()?.join("python");
    let suite = Suite::new("models", true, true);
    made(&suite, &cargo::root().join("models"), &folder)
}

/// The Python of a suite's environment, made where it is not there for these requirements.
fn environment(suite: &Suite, folder: &Path) -> Result<PathBuf> {
    let own = cargo::root().join("python").join(suite.folder);
    made(suite, &own, folder)
}

fn made(suite: &Suite, source: &Path, folder: &Path) -> Result<PathBuf> {
    let requirements = source.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let own = folder.join(suite.folder);
    let scripts = own.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let python = scripts.join(format!("python{}", std::env::consts::EXE_SUFFIX));
    let stamp = own.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(python);
    }
    eprintln!("making the Python environment of {}", suite.folder);
    let maker = setup::python()?;
    cargo::run(
        Command::new(&maker)
            .args(["-m", "venv", "--clear"])
            .arg(&own),
    )?;
    if suite.torch {
        link(&python, &torch(&maker, folder)?)?;
    }
    cargo::run(pip(&python).arg("-r").arg(&requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

/// The folder that torch is installed into.
fn torch(python: &Path, folder: &Path) -> Result<PathBuf> {
    let shared = folder.join(TORCH.replace("==", "-"));
    let stamp = shared.join("installed");
    if !stamp.is_file() {
        eprintln!("fetching {TORCH}");
        cargo::run(pip(python).arg("--target").arg(&shared).arg(TORCH))?;
        std::fs::write(stamp, "")?;
    }
    Ok(shared)
}

/// Makes an environment find what lies in another folder.
fn link(python: &Path, shared: &Path) -> Result<()> {
    const WHERE: &str = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output = Command::new(python).args(["-c", WHERE]).output()?;
    let site = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let line = format!("{}\n", shared.display());
    std::fs::write(site.join("shared.pth"), line)
        .with_context(|| format!("cannot write to {}", site.display()))
}

fn pip(python: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    pip
}
