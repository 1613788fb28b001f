//! The whole path on the trained pipeline in models/shapes: compile, verify, run, compare.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use hgc::unstable::eval::{Set, score};
use hgc::unstable::pipeline::picture;
use image::RgbImage;
use serde_json::Value;

const PIPELINE: &str = "models/shapes/pipeline";
const SET: &str = "models/shapes/heldout/scenes.json";

/// Both engines, or the embedded one where the tests run on that.
fn engines() -> Vec<&'static str> {
    match std::env::var("HGC_ENGINE").as_deref() {
        Ok("tract") => vec!["tract"],
        _ => vec!["ort", "tract"],
    }
}

/// The standard output of `hgc` with these arguments on an engine.
#[track_caller]
fn hgc(engine: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hgc"));
    command.env("HGC_ENGINE", engine).args(arguments);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{engine} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(engine: &str, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["--format", "json"]);
    let results: Value = serde_json::from_str(&hgc(engine, &all)).unwrap();
    let results = results.as_array().unwrap();
    // A verification answers for every model.
    let failed = results.iter().find(|r| r["pass"] == false);
    failed.unwrap_or(&results[0]).clone()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The largest and the mean difference of two pictures, in grey levels.
fn difference(a: &RgbImage, b: &RgbImage) -> (u8, f64) {
    assert_eq!(a.dimensions(), b.dimensions());
    let pairs = || a.as_raw().iter().zip(b.as_raw());
    let largest = pairs().map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let sum: u64 = pairs().map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    #[allow(clippy::cast_precision_loss)]
    (largest, sum as f64 / a.as_raw().len() as f64)
}

#[test]
fn from_pipeline_to_picture() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let compiled = at("compiled");
    let options = [
        "-o",
        text(&compiled),
        "--target",
        "cpu",
        "--policy",
        "hgc",
        "--steps",
        "20",
    ];
    let mut compile = vec!["compile", PIPELINE];
    compile.extend(options);
    compile.extend(["--height", "16", "--width", "16", "--tokens", "24"]);
    let report = json(engines()[0], &compile);
    let reduction = report["totals"]["reduction"].as_f64().unwrap();
    assert!(reduction >= 0.63, "{reduction}");

    let set = Set::read(Path::new(SET)).unwrap();
    let scene = &set.scenes[0];
    let truth = scene.truth.as_ref().unwrap();
    let map = Path::new(SET).with_file_name("000.png");
    let seed = scene.seed.to_string();
    let drawing = |pipeline: &Path, output: &Path, engine: &str, more: &[&str]| {
        let mut arguments = vec!["run", text(pipeline), "--prompt", &scene.prompt];
        arguments.extend(["--control", text(&map), "--guidance", "5", "--seed", &seed]);
        arguments.extend(["--steps", "20", "-o", text(output)]);
        arguments.extend(more);
        json(engine, &arguments)
    };
    let mut pictures = Vec::new();
    for engine in engines() {
        let sizes = ["--height", "16", "--width", "16"];
        let mut verify = vec!["verify", PIPELINE, text(&compiled)];
        verify.extend(sizes);
        let proof = json(engine, &verify);
        assert_eq!(proof["pass"], true, "{engine}: {proof}");

        let output = at(&format!("{engine}.png"));
        drawing(&compiled, &output, engine, &[]);
        pictures.push(picture::read(&output).unwrap());

        // The original is compiled in memory, or is what the compiled one holds.
        for (name, pipeline) in [("before", Path::new(PIPELINE)), ("after", &compiled)] {
            let side = at(&format!("{engine}-{name}.png"));
            let compared = drawing(pipeline, &side, engine, &["--compare"]);
            let psnr = compared["pictures"][0]["psnr"].as_f64().unwrap();
            assert!(psnr > 15.0 && psnr < 100.0, "{engine} {name}: {psnr}");
            assert!(compared["speed_up"].as_f64().unwrap() > 0.0);
            let shown = picture::read(&side).unwrap();
            // The control map, original, cached and difference, below a line of text.
            assert_eq!(shown.dimensions(), (4 * 128, 12 + 128));
            let original = image::imageops::crop_imm(&shown, 128, 12, 128, 128).to_image();
            let miou = score::mean_iou(&original, truth, set.appearance.as_ref().unwrap());
            assert!(miou > 0.5, "{engine} {name}: {miou}");
            let cached = image::imageops::crop_imm(&shown, 256, 12, 128, 128).to_image();
            let (largest, _) = difference(&cached, pictures.last().unwrap());
            assert!(largest <= 2, "{engine} {name}: {largest}");
        }
    }
    for drawn in &pictures {
        let (largest, mean) = difference(&pictures[0], drawn);
        assert!(largest <= 16 && mean < 0.25, "{largest} {mean}");
    }
}
