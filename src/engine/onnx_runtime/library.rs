//! Where an ONNX Runtime library may lie.
//!
//! In this order; the first that loads is used:
//!
//! 1. the library of the request (a file, or a folder that holds one),
//! 2. the variable `ORT_DYLIB_PATH`, likewise,
//! 3. the folder of the executable,
//! 4. the `onnxruntime` package of the Python environment that the executable is installed in,
//!    active or not,
//! 5. `onnxruntime/` in the cargo target folder, where `cargo xtask setup` puts it:
//!    the one the executable lies in, `CARGO_TARGET_DIR`, or `target/` of the cargo
//!    project around the current folder,
//! 6. what the system's loader finds under the library's usual name,
//! 7. the `onnxruntime` package of the active `VIRTUAL_ENV` or `CONDA_PREFIX`.
//!
//! The first two are requests: a library named there that does not load is an error,
//! and nothing else is tried.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a path was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The request; `--ort-lib` on a command line.
    Request,
    /// `ORT_DYLIB_PATH`.
    Variable,
    /// The executable's folder.
    Executable,
    /// The Python environment that the executable is installed in.
    Environment,
    /// A cargo target folder.
    Target,
    /// The system's loader.
    System,
    /// A Python environment.
    Python,
}

impl Place {
    /// Whether the user named this path.
    #[must_use]
    pub fn is_request(self) -> bool {
        matches!(self, Self::Request | Self::Variable)
    }

    /// The option, variable or place, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "the request",
            Self::Variable => "ORT_DYLIB_PATH",
            Self::Executable => "the executable's folder",
            Self::Environment => "the executable's Python environment",
            Self::Target => "the cargo target folder",
            Self::System => "the system loader",
            Self::Python => "the active Python environment",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A path to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The library: an absolute path, or a bare name for the system's loader.
    pub path: PathBuf,
    /// Why it is tried.
    pub place: Place,
}

/// A place that holds no library, or a library that is there.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What to try, in order.
    pub candidates: Vec<Candidate>,
    /// Folders that exist or not, but hold no library.
    pub empty: Vec<(PathBuf, Place)>,
}

impl Search {
    /// Looks in all places, or only at what the user named.
    pub fn new(request: Option<&Path>) -> Self {
        let mut search = Self::default();
        let variable = env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty());
        if let Some(path) = request {
            search.request(path, Place::Request);
        } else if let Some(path) = variable {
            search.request(Path::new(&path), Place::Variable);
        } else {
            search.look_around();
        }
        search
    }

    fn request(&mut self, path: &Path, place: Place) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let inside = if path.is_dir() {
            libraries_in(&path, 0)
        } else {
            Vec::new()
        };
        let path = inside.into_iter().next().unwrap_or(path);
        self.candidates.push(Candidate { path, place });
    }

    fn look_around(&mut self) {
        let exe = env::current_exe().ok();
        if let Some(folder) = exe.as_deref().and_then(Path::parent) {
            self.folder(folder, 0, Place::Executable);
        }
        // `bin/hgc`, or `Scripts\hgc.exe`, beside whose folder Python's configuration lies.
        let environment = exe.as_deref().and_then(|e| e.ancestors().nth(2));
        let environment = environment.filter(|root| root.join("pyvenv.cfg").is_file());
        for folder in environment.into_iter().flat_map(packages) {
            self.folder(&folder, 0, Place::Environment);
        }
        for folder in target_folders(exe.as_deref()) {
            self.folder(&folder.join("onnxruntime"), 3, Place::Target);
        }
        let name = format!(
            "{}onnxruntime{}",
            env::consts::DLL_PREFIX,
            env::consts::DLL_SUFFIX
        );
        self.candidates.push(Candidate {
            path: name.into(),
            place: Place::System,
        });
        for folder in python_folders() {
            self.folder(&folder, 0, Place::Python);
        }
    }

    fn folder(&mut self, folder: &Path, depth: usize, place: Place) {
        let found = libraries_in(folder, depth);
        if found.is_empty() {
            self.empty.push((folder.to_path_buf(), place));
        }
        self.candidates
            .extend(found.into_iter().map(|path| Candidate { path, place }));
    }
}

/// Cargo target folders this process can belong to.
fn target_folders(exe: Option<&Path>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut add = |folder: PathBuf| {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    };
    // target/release/hgc, target/debug/deps/test, target/TRIPLE/debug/deps/test.
    for folder in exe.into_iter().flat_map(|e| e.ancestors().skip(1).take(4)) {
        if folder.join("CACHEDIR.TAG").is_file() && folder.join("onnxruntime").is_dir() {
            add(folder.to_path_buf());
        }
    }
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty()) {
        add(PathBuf::from(folder));
    }
    let cwd = env::current_dir().ok();
    let project = cwd
        .iter()
        .flat_map(|d| d.ancestors())
        .find(|d| d.join("Cargo.lock").is_file());
    if let Some(project) = project {
        add(project.join("target"));
    }
    folders
}

/// `onnxruntime/capi` of the active Python environments.
fn python_folders() -> Vec<PathBuf> {
    let roots = ["VIRTUAL_ENV", "CONDA_PREFIX"];
    let roots = roots.into_iter().filter_map(env::var_os);
    roots.flat_map(|root| packages(Path::new(&root))).collect()
}

/// `onnxruntime/capi` of a Python environment, of each version of Python that has one.
fn packages(environment: &Path) -> Vec<PathBuf> {
    let versions = std::fs::read_dir(environment.join("lib"));
    let versions = versions.into_iter().flatten().flatten();
    let mut sites: Vec<_> = versions.map(|v| v.path().join("site-packages")).collect();
    sites.sort();
    sites.push(environment.join("Lib").join("site-packages"));
    let capi = sites
        .into_iter()
        .map(|s| s.join("onnxruntime").join("capi"));
    capi.filter(|c| c.is_dir()).collect()
}

/// The libraries in `folder` and `depth` levels below, newest version first.
fn libraries_in(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), depth)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if depth > 0 {
                    folders.push((path, depth - 1));
                }
            } else if let Some(version) = path.file_name().and_then(version_in_name) {
                found.push((version, path));
            }
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The version in a library's file name (empty where it has none); `None` for
/// other files, such as the provider libraries that lie beside it.
fn version_in_name(name: &OsStr) -> Option<Vec<u32>> {
    let name = name.to_str()?;
    let rest = name
        .strip_prefix("lib")
        .unwrap_or(name)
        .strip_prefix("onnxruntime.")?;
    let numbers = |text: &str| {
        text.split('.')
            .map(|n| n.parse().ok())
            .collect::<Option<Vec<u32>>>()
    };
    if rest == "so" || rest == "dylib" || rest == "dll" {
        return Some(Vec::new());
    }
    numbers(
        rest.strip_prefix("so.")
            .or_else(|| rest.strip_suffix(".dylib"))?,
    )
}

/// Loads a library, for good, and returns its version, or says why it is of no use.
///
/// `ort::init_from` must not be called with a path that fails: it then takes a later
/// call, with another path, for done. So each path is tried here first.
pub(super) fn try_load(path: &Path) -> Result<String, String> {
    if let Err(error) = ort::util::preload_dylib(path) {
        let cause = error
            .source()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        return Err(format!("{error}{cause}"));
    }
    let minor = ort::util::probe(path);
    let minor = minor.ok_or("it is no ONNX Runtime, or none of version 1")?;
    if minor < ort::MINOR_VERSION {
        return Err(format!(
            "version 1.{minor} is older than 1.{}",
            ort::MINOR_VERSION
        ));
    }
    let named = path
        .file_name()
        .and_then(version_in_name)
        .filter(|v| v.get(1) == Some(&minor));
    let numbers = named.unwrap_or_else(|| vec![1, minor]);
    Ok(numbers
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_names_are_told_from_their_neighbours() {
        let version = |name: &str| version_in_name(OsStr::new(name));
        assert_eq!(version("libonnxruntime.so.1.32.0"), Some(vec![1, 32, 0]));
        assert_eq!(version("libonnxruntime.1.32.0.dylib"), Some(vec![1, 32, 0]));
        assert_eq!(version("libonnxruntime.so"), Some(vec![]));
        assert_eq!(version("onnxruntime.dll"), Some(vec![]));
        assert_eq!(version("libonnxruntime_providers_cuda.so"), None);
        assert_eq!(version("libonnxruntime.so.debug"), None);
        assert_eq!(version("onnxruntime.py"), None);
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_with_the_reason() {
        let reason = try_load(Path::new("/nonexistent/libonnxruntime.so")).unwrap_err();
        assert!(
            reason.contains("/nonexistent/libonnxruntime.so"),
            "{reason}"
        );
    }

    #[test]
    fn the_newest_library_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b");
        std::fs::create_dir_all(&nested).unwrap();
        std::fs::write(dir.path().join("libonnxruntime.so.1.9.0"), "").unwrap();
        std::fs::write(nested.join("libonnxruntime.so.1.32.0"), "").unwrap();
        let found = libraries_in(dir.path(), 3);
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with("libonnxruntime.so.1.32.0"));
        assert_eq!(libraries_in(dir.path(), 1).len(), 1);
    }
}
