//! Damaged and malicious files: exit code 2, file and reason named, nothing written.

use crate::hostile_cases::cases;
use crate::{BAD, Run, hgc, listing, to};

/// What is wrong with a refusal; none if it is as it must be.
fn wrong(run: &Run, file: &str, text: &str) -> Option<String> {
    let as_asked = run.code == BAD
        && run.out.is_empty()
        && run.err.contains(file)
        && run.err.contains(text)
        && !run.err.contains("panicked");
    (!as_asked).then(|| format!("exit code {}, {:?} {:?}", run.code, run.out, run.err))
}

#[test]
fn every_hostile_file_is_refused() {
    let mut failures = Vec::new();
    for case in cases() {
        let dir = tempfile::tempdir().unwrap();
        let path = (case.write)(dir.path());
        let file = path.to_str().unwrap();
        let before = listing(dir.path());
        let out = dir.path().join("OUT");
        let inspected = hgc("inspect", &[&path], "");
        let mut words = vec![path.as_os_str()];
        words.extend(to(&out));
        let compiled = hgc("compile", &words, "--steps 4");
        // Here a folder is a pipeline.
        let text = if path.is_dir() {
            "has no unet/model.onnx"
        } else {
            case.text
        };
        for problem in [
            wrong(&inspected, file, text).map(|p| format!("inspect: {p}")),
            wrong(&compiled, file, text).map(|p| format!("compile: {p}")),
            (listing(dir.path()) != before).then(|| "something was written".to_owned()),
        ] {
            failures.extend(problem.map(|p| format!("{}: {p}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn hostile_controlnets_and_compiled_files_are_refused_too() {
    let unet = crate::stored("unet");
    for case in cases()
        .into_iter()
        .filter(|c| c.name.contains("cut") || c.name == "empty")
    {
        let dir = tempfile::tempdir().unwrap();
        let path = (case.write)(dir.path());
        let file = path.to_str().unwrap();
        let out = dir.path().join("OUT");
        let mut words = vec![unet.as_os_str(), "--controlnet".as_ref(), path.as_os_str()];
        words.extend(to(&out));
        hgc("compile", &words, "--steps 4").fails(BAD, &[file, case.text]);
        let mut words = vec![path.as_os_str()];
        words.extend(to(&out));
        hgc("strip", &words, "").fails(BAD, &[file, case.text]);
        assert!(!out.exists());
    }
}
