//! `hgc doctor`: which library is found, and what is said where none is.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use assert_cmd::Command;

/// A program cannot be started while another thread's child still holds it open for
/// writing, so the tests of this file, which copy theirs, run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `hgc doctor` with nothing to be found around it: a copy, run in `folder`.
fn doctor(folder: &Path) -> Command {
    let copy = folder.join(format!("hgc{}", std::env::consts::EXE_SUFFIX));
    std::fs::copy(env!("CARGO_BIN_EXE_hgc"), &copy).unwrap();
    let mut command = Command::new(copy);
    command.arg("doctor").current_dir(folder);
    for name in [
        "HGC_ENGINE",
        "ORT_DYLIB_PATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(name);
    }
    command
}

/// Puts a library where a Python environment has it.
fn install(library: &Path, environment: &Path) {
    let capi = environment.join("lib/python3.12/site-packages/onnxruntime/capi");
    std::fs::create_dir_all(&capi).unwrap();
    std::fs::copy(library, capi.join(library.file_name().unwrap())).unwrap();
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.assert().failure().get_output().stderr.clone()).unwrap()
}

#[test]
fn the_embedded_engine_is_always_there() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut command = doctor(folder.path());
    let text = stdout(
        command
            .env("HGC_ENGINE", "tract")
            .args(["--format", "json"]),
    );
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let report = &report[0];
    assert_eq!(report["engine"], "embedded");
    for (provider, there) in [(0, true), (1, false), (2, false)] {
        let provider = &report["providers"][provider];
        assert_eq!(provider["built_in"], there, "{provider}");
        assert_eq!(provider["starts"], there, "{provider}");
        assert!(provider.get("problem").is_none(), "{provider}");
    }
    assert!(
        report["advice"][0]
            .as_str()
            .unwrap()
            .contains("pip install onnxruntime")
    );
}

#[test]
fn a_library_asked_for_by_name_must_load() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let text = stderr(doctor(folder.path()).args(["--ort-lib", "nowhere/libonnxruntime.so"]));
    assert!(
        text.contains("--ort-lib") && text.contains("nowhere/libonnxruntime.so"),
        "{text}"
    );
    let junk = folder.path().join("libonnxruntime.so");
    std::fs::write(&junk, "no library").unwrap();
    let text = stderr(doctor(folder.path()).env("ORT_DYLIB_PATH", &junk));
    assert!(text.contains("ORT_DYLIB_PATH"), "{text}");
    let text = stderr(doctor(folder.path()).env("HGC_ENGINE", "fast"));
    assert!(text.contains("HGC_ENGINE"), "{text}");
}

/// The search goes on after a library that does not load.
#[test]
fn a_python_environment_is_searched_after_a_broken_library() {
    let Some(library) = std::env::var_os("ORT_DYLIB_PATH") else {
        return;
    };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("target/onnxruntime");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::write(folder.path().join("Cargo.lock"), "").unwrap();
    std::fs::write(broken.join("libonnxruntime.so.1.99.0"), "no library").unwrap();
    install(Path::new(&library), &folder.path().join("venv"));
    let mut command = doctor(folder.path());
    let text = stdout(command.env("VIRTUAL_ENV", folder.path().join("venv")));
    assert!(text.contains("ONNX Runtime"), "{text}");
    assert!(
        text.contains("libonnxruntime.so.1.99.0") && text.contains("does not load"),
        "{text}"
    );
}

/// As `pip install` leaves it; the environment is not activated.
#[test]
fn the_environment_of_the_executable_is_searched() {
    let Some(library) = std::env::var_os("ORT_DYLIB_PATH") else {
        return;
    };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let venv = folder.path().join("venv");
    let bin = venv.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    install(Path::new(&library), &venv);
    // Without its configuration the folder is no environment.
    let text = stdout(&mut doctor(&bin));
    assert!(!text.contains("site-packages"), "{text}");
    std::fs::write(venv.join("pyvenv.cfg"), "").unwrap();
    let text = stdout(&mut doctor(&bin));
    assert!(
        text.contains("ONNX Runtime") && text.contains("site-packages"),
        "{text}"
    );
}
