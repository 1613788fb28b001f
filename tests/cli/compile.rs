//! `hgc compile`: what is written where, and what is never overwritten.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use hgc::unstable::onnx::{Model, each_tensor};

use crate::{BAD, Pipeline, Run, hgc, listing, small, stored, to};

pub fn compile(model: &Path, out: &Path, options: &str) -> Run {
    let mut words = vec![model.as_os_str()];
    words.extend(to(out));
    hgc("compile", &words, &small(options))
}

fn names(folder: &Path) -> Vec<String> {
    let paths = listing(folder).into_keys();
    paths
        .map(|p| p.to_str().unwrap().replace('\\', "/"))
        .collect()
}

#[test]
fn a_pair_is_compiled_together() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/out");
    let (unet, controlnet) = (stored("unet"), stored("controlnet"));
    let mut words: Vec<&OsStr> = vec![unet.as_ref(), "--controlnet".as_ref(), controlnet.as_ref()];
    words.extend(to(&out));
    let report = hgc("compile", &words, &small("--format json")).json();
    assert_eq!(report["policy"], "hgc");
    assert_eq!(report["steps"], 4);
    let totals = &report["totals"];
    let number = |field: &str| totals[field].as_f64().unwrap();
    assert!(number("macs_after") < number("macs_before"), "{totals}");
    let saved = 1.0 - number("macs_weights_after") / number("macs_weights_before");
    assert!(
        (number("reduction") - saved).abs() < 1e-12 && saved > 0.3,
        "{totals}"
    );
    assert!(number("cache_bytes") > 0.0, "{totals}");
    let gates = report["gates"].as_array().unwrap();
    for model in ["unet", "controlnet"] {
        assert!(gates.iter().any(|g| g["model"] == model), "{model}");
    }
    for gate in gates {
        let schedule = gate["schedule"].as_str().unwrap();
        let refresh = schedule
            .char_indices()
            .filter(|(_, c)| *c != '.')
            .map(|(i, _)| i);
        assert_eq!(
            gate["refresh_steps"],
            serde_json::json!(refresh.collect::<Vec<_>>())
        );
        assert_eq!(schedule.len(), 4);
        assert!(!gate["sites"].as_array().unwrap().is_empty(), "{gate}");
    }
    // The weights are copied along to another folder.
    assert_eq!(
        names(&out),
        [
            "controlnet.hgc.json",
            "controlnet.onnx",
            "controlnet.onnx_data",
            "plan.toml",
            "unet.hgc.json",
            "unet.onnx",
            "unet.onnx_data"
        ]
    );
    let files: Vec<&str> = crate::words(&report["files"]);
    assert_eq!(files.len(), 7);
    assert!(files.iter().all(|f| Path::new(f).is_file()), "{files:?}");
    let weights = |path: &Path| fs::metadata(path).unwrap().len();
    let original = weights(&unet.with_file_name("weights.bin"));
    assert!(weights(&out.join("unet.onnx_data")) <= original);
    for name in ["unet.onnx", "controlnet.onnx"] {
        Model::read(&out.join(name)).unwrap();
    }

    // A compiled model is no original.
    let compiled = out.join("unet.onnx");
    let other = dir.path().join("other");
    compile(&compiled, &other, "").fails(BAD, &["unet.onnx is compiled already", "hgc strip"]);
    assert!(!other.exists());
}

#[test]
fn the_same_folder_shares_the_weights() {
    let pipeline = Pipeline::new();
    let unet = pipeline.unet();
    let folder = unet.parent().unwrap();
    let original = fs::read(&unet).unwrap();
    compile(&unet, folder, "").ok();
    assert_eq!(
        names(folder),
        [
            "model.onnx",
            "plan.toml",
            "unet.hgc.json",
            "unet.onnx",
            "weights.bin"
        ]
    );
    assert_eq!(fs::read(&unet).unwrap(), original);
    let compiled = Model::read(&folder.join("unet.onnx")).unwrap();
    let mut locations = Vec::new();
    let all = each_tensor(&compiled.proto, &mut |_, tensor| {
        let entries = tensor.external_data.iter();
        let of_tensor = entries.filter(|e| e.key() == "location");
        locations.extend(of_tensor.map(|e| e.value().to_owned()));
        Ok::<(), std::convert::Infallible>(())
    });
    all.unwrap();
    assert!(!locations.is_empty() && locations.iter().all(|l| l == "weights.bin"));
}

#[test]
fn existing_files_are_replaced_only_when_told() {
    let pipeline = Pipeline::new();
    let out = pipeline.beside("out");
    compile(&pipeline.unet(), &out, "--policy deepcache").ok();
    let before = fs::read(out.join("unet.onnx")).unwrap();
    compile(&pipeline.unet(), &out, "").fails(BAD, &["exists already", "--force"]);
    assert_eq!(fs::read(out.join("unet.onnx")).unwrap(), before);
    compile(&pipeline.unet(), &out, "--force").ok();
    assert_ne!(fs::read(out.join("unet.onnx")).unwrap(), before);
}

#[test]
fn inputs_are_never_overwritten() {
    let pipeline = Pipeline::new();
    let before = listing(&pipeline.path());
    let mine = ["is an input and is never overwritten"];
    for options in ["", "--force"] {
        compile(&pipeline.path(), &pipeline.path(), options).fails(BAD, &mine);
        assert_eq!(listing(&pipeline.path()), before);
    }
    let unet = pipeline.path().join("unet/unet.onnx");
    fs::rename(pipeline.unet(), &unet).unwrap();
    let before = fs::read(&unet).unwrap();
    compile(&unet, unet.parent().unwrap(), "--force").fails(BAD, &mine);
    assert_eq!(fs::read(&unet).unwrap(), before);
}

#[test]
fn a_pipeline_folder_is_mirrored() {
    let pipeline = Pipeline::new();
    let put = |name: &str, content: &str| {
        let path = pipeline.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("model_index.json", "{}");
    put("tokenizer/merges/vocab.txt", "a b c");
    put("unet/config.json", "{\"sample_size\": 16}");
    let out = pipeline.beside("out");
    compile(&pipeline.path(), &out, "").ok();
    let expected = [
        "controlnet",
        "controlnet/hgc.json",
        "controlnet/model.onnx",
        "controlnet/model.onnx_data",
        "model_index.json",
        "plan.toml",
        "tokenizer",
        "tokenizer/merges",
        "tokenizer/merges/vocab.txt",
        "unet",
        "unet/config.json",
        "unet/hgc.json",
        "unet/model.onnx",
        "unet/model.onnx_data",
    ];
    assert_eq!(names(&out), expected);
    assert_eq!(
        fs::read_to_string(out.join("tokenizer/merges/vocab.txt")).unwrap(),
        "a b c"
    );
    let plan = fs::read_to_string(out.join("plan.toml")).unwrap();
    assert!(plan.contains("name = \"unet\"") && plan.contains("name = \"controlnet\""));
    assert!(!names(&pipeline.path()).contains(&"plan.toml".to_owned()));
}

#[test]
fn a_part_of_the_pipeline_is_no_place_for_the_result() {
    let pipeline = Pipeline::new();
    for inside in ["unet", "unet/out/deep"] {
        let out = pipeline.path().join(inside);
        compile(&pipeline.path(), &out, "").fails(BAD, &[inside, "lies in", "outside"]);
    }
    assert!(!names(&pipeline.path()).contains(&"unet/out".to_owned()));
}

#[test]
fn models_in_the_wrong_place_are_refused_with_advice() {
    let pipeline = Pipeline::new();
    let (unet, controlnet) = (pipeline.unet(), pipeline.controlnet());
    let out = pipeline.beside("out");
    compile(&controlnet, &out, "").fails(BAD, &["is a ControlNet", "give a UNet"]);
    let compile_with = |first: &Path, second: &Path| {
        let mut words = vec![
            first.as_os_str(),
            "--controlnet".as_ref(),
            second.as_os_str(),
        ];
        words.extend(to(&out));
        hgc("compile", &words, &small(""))
    };
    compile_with(&unet, &unet).fails(BAD, &["is a UNet; only ControlNets come after"]);
    compile_with(&pipeline.path(), &controlnet).fails(BAD, &["brings its own", "/unet"]);
    compile_with(&controlnet, &unet).fails(BAD, &["give the UNet first"]);
    let part = pipeline.path().join("scheduler");
    fs::create_dir_all(&part).unwrap();
    compile(&part, &out, "").fails(BAD, &["no unet/model.onnx", "do you mean", "original"]);
    let plain = crate::fixtures::fixture("sd15-unet-only").join("unet/model.onnx");
    compile_with(&plain, &controlnet).fails(BAD, &["gives 13 residuals", "takes 0"]);
    assert!(!out.exists());
}

#[test]
fn folders_of_one_model_are_taken_for_the_model() {
    let pipeline = Pipeline::new();
    let out = pipeline.beside("out");
    let (unet, controlnet) = (
        pipeline.path().join("unet"),
        pipeline.path().join("controlnet"),
    );
    let mut words = vec![
        unet.as_os_str(),
        "--controlnet".as_ref(),
        controlnet.as_os_str(),
    ];
    words.extend(to(&out));
    hgc("compile", &words, &small("")).ok();
    assert!(out.join("unet.onnx").exists() && out.join("controlnet.onnx").exists());

    // A pipeline without ControlNets takes one from elsewhere, into its own folder of parts.
    let alone = pipeline.beside("alone");
    fs::create_dir_all(alone.join("unet")).unwrap();
    for file in fs::read_dir(&unet).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), alone.join("unet").join(file.file_name())).unwrap();
    }
    let both = pipeline.beside("both");
    let mut words = vec![
        alone.as_os_str(),
        "--controlnet".as_ref(),
        controlnet.as_os_str(),
    ];
    words.extend(to(&both));
    hgc("compile", &words, &small("")).ok();
    for part in ["unet", "controlnet"] {
        assert!(both.join(part).join("model.onnx").exists(), "{part}");
    }
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_it_would() {
    let pipeline = Pipeline::new();
    let out = pipeline.beside("out");
    let text = compile(&pipeline.unet(), &out, "--dry-run").ok();
    assert!(
        text.contains("would write") && text.contains("saved"),
        "{text}"
    );
    assert!(!out.exists());
}

#[test]
fn what_was_compiled_can_be_proved_at_once() {
    let pipeline = Pipeline::new();
    let out = pipeline.beside("out");
    let text = compile(&pipeline.unet(), &out, "--verify").ok();
    assert!(text.contains("verified: "), "{text}");
}

/// As `snapshots/REVISION/unet/model.onnx -> ../../../blobs/HASH` of download caches.
#[cfg(unix)]
fn cached(pipeline: &Path, cache: &Path) -> std::path::PathBuf {
    use std::os::unix::fs::symlink;

    let (blobs, snapshot) = (cache.join("blobs"), cache.join("snapshots/abc"));
    fs::create_dir_all(&blobs).unwrap();
    for (number, name) in listing(pipeline).keys().enumerate() {
        let (from, link) = (pipeline.join(name), snapshot.join(name));
        if from.is_dir() {
            fs::create_dir_all(&link).unwrap();
            continue;
        }
        let blob = blobs.join(format!("{number:064x}"));
        fs::rename(from, &blob).unwrap();
        symlink(
            Path::new("../../../blobs").join(blob.file_name().unwrap()),
            link,
        )
        .unwrap();
    }
    snapshot
}

#[cfg(unix)]
#[test]
fn a_download_cache_is_compiled_and_proved() {
    let pipeline = Pipeline::new();
    let snapshot = cached(&pipeline.path(), &pipeline.beside("cache"));
    for options in ["", "--form variants"] {
        let out = pipeline.beside(if options.is_empty() { "a" } else { "b" });
        let text = compile(&snapshot, &out, &format!("{options} --verify")).ok();
        assert_eq!(text.matches("verified: ").count(), 2, "{text}");
        hgc("verify", &[&snapshot, &out], crate::SMALL).ok();
    }
}
