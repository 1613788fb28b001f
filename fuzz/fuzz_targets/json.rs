//! Configuration files of a pipeline are read or refused by name.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hgc::unstable::pipeline::Folder;
use hgc::unstable::sampler::Config;
use hgc::unstable::sampler::evaluations::{Asked, evaluations};
use hgc::unstable::sidecar::{Sidecar, schedule_for};
use hgc_fuzz::configuration::FILES;
use libfuzzer_sys::fuzz_target;

/// A copy of a small pipeline, its models linked.
static PIPELINE: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/shapes/pipeline");
    let root = root.canonicalize().expect("the pipeline is there");
    let copy = std::env::temp_dir().join(format!("hgc-fuzz-{}", std::process::id()));
    let mut todo = vec![PathBuf::new()];
    while let Some(inner) = todo.pop() {
        fs::create_dir_all(copy.join(&inner)).expect("a temporary folder");
        for entry in fs::read_dir(root.join(&inner)).expect("a folder").flatten() {
            let inside = inner.join(entry.file_name());
            if entry.path().is_dir() {
                todo.push(inside);
            } else if FILES.iter().any(|f| inside == Path::new(f)) {
                fs::copy(entry.path(), copy.join(inside)).expect("a copy");
            } else {
                std::os::unix::fs::symlink(entry.path(), copy.join(inside)).expect("a link");
            }
        }
    }
    copy
});

fuzz_target!(|data: &[u8]| {
    hgc_fuzz::contain_panics();
    let [which, text @ ..] = data else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = Config::parse(text, None);
        let asked = Asked {
            steps: 20,
            strength: 0.5,
            end: 0.8,
        };
        let _ = evaluations(text, asked);
        if let Ok(sidecar) = Sidecar::parse(text, "hgc.json") {
            let schedule = schedule_for(&[&sidecar], 9, Some("ddim"));
            assert_eq!(schedule.map(|s| s.evaluations()), Some(9));
        }
    }
    let file = PIPELINE.join(FILES[usize::from(*which) % FILES.len()]);
    let before = fs::read(&file).ok();
    fs::write(&file, text).expect("a temporary file");
    if let Ok(folder) = Folder::read(&PIPELINE) {
        let _ = folder.sampler(None);
        let _ = folder.tokens();
        let (width, height) = folder.size_for(None);
        let _ = folder.sizes((width, height), 2, 77);
    }
    let _ = hgc::unstable::compile::Configured::of(&PIPELINE);
    match before {
        Some(before) => fs::write(&file, before).expect("a temporary file"),
        None => fs::remove_file(&file).expect("a temporary file"),
    }
});
