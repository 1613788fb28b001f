//! `hgc run`: mistakes are named before anything is computed, and no file is lost.

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::{BAD, hgc, wrap};

/// A pipeline of models that compute nothing and a control image beside it.
fn pipeline() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["text_encoder", "unet", "controlnet", "vae_decoder"] {
        let path = folder.path().join("pipeline").join(part);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("model.onnx"), wrap::empty()).unwrap();
    }
    let scheduler = folder.path().join("pipeline/scheduler");
    fs::create_dir_all(&scheduler).unwrap();
    let config = r#"{"_class_name": "DDIMScheduler"}"#;
    fs::write(scheduler.join("scheduler_config.json"), config).unwrap();
    let map = RgbImage::new(64, 64);
    map.save(folder.path().join("map.png")).unwrap();
    folder
}

/// The arguments of a run that writes to `output`.
fn words(folder: &Path, output: &str) -> Vec<PathBuf> {
    let at = |name: &str| folder.join(name);
    let mut words = vec![at("pipeline"), "--prompt".into(), "a".into()];
    words.extend(["--control".into(), at("map.png"), "-o".into(), at(output)]);
    words
}

#[test]
fn mistakes_are_named_first() {
    let folder = pipeline();
    fs::write(folder.path().join("old.png"), "kept").unwrap();
    for (output, options, text) in [
        ("a.webp", "", ".png or .jpg"),
        ("a", "", ".png or .jpg"),
        ("no/a.png", "", "no such folder"),
        ("old.png", "", "--force"),
        ("map.png", "--force", "is an input"),
        ("a.png", "--control-start 5", "control-start is 5"),
        ("a.png", "--steps 0", "steps is 0"),
        (
            "a.png",
            "--control-start 0.5 --control-end 0.2",
            "before it ends",
        ),
        ("a.png", "--guidance inf", "finite"),
        ("a.png", "--control-scale NaN", "finite"),
        ("a.png", "--width 4294967232", "8..=16384"),
        ("a.png", "--sampler best", "best"),
        ("a.png", "--policy tgate", "--compare"),
        ("a.png", "--width 100", "multiples of 8"),
        ("a.png", "--ep-option device_id=1", "takes no options"),
    ] {
        let words = words(folder.path(), output);
        hgc("run", &words, options).fails(BAD, &[text]);
    }
    let mut twice = words(folder.path(), "a.png");
    twice.extend(["--control".into(), folder.path().join("map.png")]);
    hgc("run", &twice, "").fails(BAD, &["takes 1 control", "2 were given"]);
    assert_eq!(fs::read(folder.path().join("old.png")).unwrap(), b"kept");
    assert!(image::open(folder.path().join("map.png")).is_ok());
    assert!(!folder.path().join("a.png").exists());
}

#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_a_missing_one() {
    let folder = pipeline();
    let part = |name: &str| folder.path().join("pipeline").join(name);
    for (file, text) in [
        ("vae_decoder/config.json", "config.json"),
        ("model_index.json", "model_index.json"),
    ] {
        fs::write(part(file), b"\xff\xfe{}").unwrap();
        let words = words(folder.path(), "a.png");
        hgc("run", &words, "").fails(BAD, &[text]);
        fs::remove_file(part(file)).unwrap();
    }
    fs::write(part("vae_decoder/model.onnx"), "").unwrap();
    let words = words(folder.path(), "a.png");
    hgc("run", &words, "").fails(BAD, &["vae_decoder", "the file is empty"]);
}

#[test]
fn a_control_image_of_another_size_is_said_to_be_resized() {
    let folder = pipeline();
    let odd = RgbImage::new(500, 170);
    odd.save(folder.path().join("map.png")).unwrap();
    let words = words(folder.path(), "a.png");
    // There is no tokenizer, so it ends there.
    hgc("run", &words, "").fails(BAD, &["500x170; resized to 448x128", "tokenizer"]);
}
