//! `hgc eval` with the trained pipeline: reports, interrupted and continued.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::{BAD, hgc, to};

pub fn shapes(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/models/shapes")).join(name)
}

/// Few steps and one scene; scores mean nothing then.
const QUICK: &str = "--scenes 1 --steps 4 --guidance 5 --timed 0 --fewer none";

pub fn row<'r>(report: &'r Value, label: &str) -> &'r Value {
    let rows = report["points"].as_array().unwrap();
    let found = rows.iter().find(|r| r["label"] == label);
    found.unwrap_or_else(|| panic!("no {label} in {report:#}"))
}

#[test]
fn a_report_is_written_kept_and_added_to() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let set = shapes("choice/scenes.json");
    let mut words = vec![shapes("pipeline").into_os_string(), "--set".into()];
    words.push(set.into_os_string());
    words.extend(to(&out).map(ToOwned::to_owned));

    let options = format!("{QUICK} --format json --policy lossless --policy deepcache:interval=2");
    let first = hgc("eval", &words, &options).json();
    assert_eq!(first["about"]["scenes"], 1);
    assert!(first["baseline"]["miou"].is_number());
    let lossless = row(&first, "lossless");
    assert!(lossless["psnr"].as_f64().unwrap() > 60.0, "{lossless:#}");
    let cached = row(&first, "deepcache:interval=2");
    assert!(cached["psnr"].as_f64().unwrap() < 60.0, "{cached:#}");
    assert!(cached["reduction"].as_f64().unwrap() > 0.4);
    assert_eq!(first["comparisons"], serde_json::json!([]));
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("deepcache:interval=2") && page.contains("data:image/"));
    let scenes: Value =
        serde_json::from_slice(&fs::read(shapes("choice/scenes.json")).unwrap()).unwrap();
    let prompt = scenes["scenes"][0]["prompt"].as_str().unwrap();
    assert!(page.contains(prompt) && page.contains(">control<"));
    assert!(!page.contains("src=\"http") && !page.contains("<link"));

    hgc("eval", &words, QUICK).fails(BAD, &["report.html", "--force", "--resume"]);

    // What was drawn is kept, and the new point joins it.
    let options = format!("{QUICK} --format json --policy hgc --resume");
    let second = hgc("eval", &words, &options).json();
    assert_eq!(row(&second, "deepcache:interval=2"), cached);
    assert!(row(&second, "hgc")["reduction"].as_f64().unwrap() > 0.2);
    let compared = second["comparisons"].as_array().unwrap();
    assert_eq!(compared.len(), 1, "{compared:#?}");

    // Other settings are other pictures.
    let other = QUICK.replace("guidance 5", "guidance 3");
    let options = format!("{other} --policy hgc --resume");
    hgc("eval", &words, &options).fails(BAD, &["points.json"]);
}

#[test]
fn mistakes_are_named_before_drawing() {
    let pipeline = [shapes("pipeline")];
    for (options, text) in [
        ("--prompt a --policy best", "no policy \"best\""),
        ("--prompt a --policy hgc:gate-step=30", "1 to 20"),
        ("--prompt a --policy easycache:tau=1", "it has threshold"),
        ("", "--set FILE or --prompt TEXT"),
        ("--prompt a --scenes 0", "nothing to draw"),
        ("--prompt a --steps 0", "steps is 0"),
        ("--set none.json", "none.json"),
        ("--prompt a --guidance NaN", "finite"),
        ("--prompt a --resume", "--output"),
    ] {
        hgc("eval", &pipeline, options).fails(BAD, &[text]);
    }
}

/// One report a cell, one over all, and what was drawn is kept.
#[test]
fn a_matrix_is_drawn_cell_by_cell() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let matrix = folder.path().join("matrix.toml");
    let text = format!(
        "samplers = [\"ddim\", \"unipc\"]\nsteps = [6]\nscenes = 1\n\
         policies = [\"hgc\", \"control:interval=2\", \"easycache:threshold=0.3\", \"spectrum:interval=2\"]\n\
         [[pipeline]]\npath = {:?}\nset = {:?}\nguidance = 5\n",
        shapes("pipeline"),
        shapes("choice/scenes.json")
    );
    fs::write(&matrix, &text).unwrap();
    let mut words = vec!["--matrix".into(), matrix.clone().into_os_string()];
    words.extend(to(&out).map(ToOwned::to_owned));
    let found = hgc("eval", &words, "--format json").json();
    let cells = found["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2, "{found:#}");
    assert_eq!(cells[0]["pipeline"], "shapes");
    let rival = &cells[0]["rival"];
    assert!(
        rival["reduction"].as_f64() <= cells[0]["reduction"].as_f64(),
        "{found:#}"
    );
    assert_eq!(found["worst"][0]["cells"], 2);
    // Skipping computes less than all, and control alone leaves the UNet as it is.
    let report = fs::read(out.join("shapes-ddim-6/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let report = report.get(0).unwrap_or(&report);
    let reduction = |label: &str| row(report, label)["reduction"].as_f64().unwrap();
    assert!((0.1..0.7).contains(&reduction("spectrum:interval=2")));
    assert!((0.0..0.9).contains(&reduction("easycache:threshold=0.3")));
    assert!((0.05..0.5).contains(&reduction("control:interval=2")));
    let page = fs::read_to_string(out.join("matrix.html")).unwrap();
    assert!(page.contains("unipc") && page.contains("hsl("));

    hgc("eval", &words, "").fails(BAD, &["matrix.html", "--force", "--resume"]);
    let again = hgc("eval", &words, "--format json --resume").json();
    assert_eq!(again, found);
    // What the file tells for each cell is not told beside it.
    hgc("eval", &words, "--force --steps 4").fails(BAD, &["--matrix", "--steps"]);
    fs::write(&matrix, text.replace("steps = [6]", "steps = []")).unwrap();
    hgc("eval", &words, "--force").fails(BAD, &["names no pipelines, samplers or steps"]);
    fs::write(&matrix, text.replace("scenes", "scene")).unwrap();
    hgc("eval", &words, "--force").fails(BAD, &["matrix.toml", "unknown field"]);
}
