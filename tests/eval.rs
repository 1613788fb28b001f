//! Scores of pictures and sets of scenes: as models/shapes/score.py, and what is wrong is named.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::error::Error;
use std::fs;
use std::path::Path;

use hgc::unstable::eval::{Set, score};
use hgc::unstable::pipeline::picture;
use serde::Deserialize;
use serde_json::{Value, json};

const SCORES: &str = "tests/fixtures/scores";

#[derive(Deserialize)]
struct Expected {
    picture: String,
    miou: f64,
    right: usize,
    objects: usize,
}

#[test]
fn scores_are_those_of_python() {
    let folder = Path::new(SCORES);
    let set = Set::read(&folder.join("scenes.json")).unwrap();
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Vec<Expected> = serde_json::from_str(&text).unwrap();
    let appearance = set.appearance.as_ref().unwrap();
    assert_eq!(set.scenes.len(), expected.len());
    for (scene, expected) in set.scenes.iter().zip(&expected) {
        let drawn = picture::read(&folder.join(&expected.picture)).unwrap();
        let truth = scene.truth.as_ref().unwrap();
        let name = &expected.picture;
        let miou = score::mean_iou(&drawn, truth, appearance);
        assert!(
            (miou - expected.miou).abs() < 1e-9,
            "{name}: {miou}, Python says {}",
            expected.miou
        );
        let matches = score::matches(&drawn, truth, appearance);
        assert_eq!(matches, (expected.right, expected.objects), "{name}");
    }
    // A score that cannot tell right from wrong would pass the above on right pictures only.
    assert!(expected.iter().any(|e| e.miou < 0.7));
    assert!(expected.iter().any(|e| e.right < e.objects));
}

#[test]
fn sets_in_the_repository_can_be_read() {
    for (name, count, first) in [("heldout", 256, 0), ("choice", 64, 256)] {
        let set = Set::read(&Path::new("models/shapes").join(name).join("scenes.json")).unwrap();
        assert_eq!(set.scenes.len(), count, "{name}");
        for (scene, seed) in set.scenes.iter().zip(first..) {
            assert_eq!(scene.seed, seed, "{name}");
            let truth = scene.truth.as_ref().unwrap();
            let regions = truth.regions.len();
            assert!((3..=5).contains(&regions), "{name} {seed}: {regions}");
            assert_eq!(
                truth.labels.iter().max().map(|l| usize::from(*l) + 1),
                Some(regions),
                "{name} {seed}"
            );
        }
    }
}

/// What an error says, its causes included.
fn said(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[test]
fn mistakes_in_a_set_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenes.json");
    let map = Path::new(SCORES).join("256.png");
    fs::copy(map, folder.path().join("map.png")).unwrap();
    let good = json!({
        "colours": {"red": [[200, 0, 0], [100, 0, 0]]},
        "textures": {"plain": ["."]},
        "scenes": [
            {"prompt": "a", "control": ["map.png"], "seed": 1,
             "regions": [{"map": [0, 0, 0], "colour": "red", "texture": "plain"}]},
            {"prompt": "b", "control": ["map.png"], "seed": 2},
        ],
    });
    fs::write(&file, good.to_string()).unwrap();
    assert_eq!(Set::read(&file).unwrap().scenes.len(), 2);
    let cases: [(&str, Value, &str); 9] = [
        ("/scenes", json!([]), "no scenes"),
        (
            "/scenes/1",
            json!({"prompt": "b", "control": ["map.png"], "seed": 2, "negative": "c"}),
            "negative",
        ),
        ("/scenes/1/seed", json!(-1), "not a set of scenes"),
        ("/scenes/1/control", json!(["none.png"]), "scene 1"),
        ("/scenes/1/control", json!([]), "same number"),
        ("/scenes/0/regions/0/colour", json!("mauve"), "mauve"),
        ("/scenes/0/regions/0/texture", json!("fluffy"), "fluffy"),
        ("/textures/plain", json!([""]), "no pixels"),
        ("/colours/red", json!([[300, 0, 0], [0, 0, 0]]), "300"),
    ];
    for (place, value, part) in cases {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        fs::write(&file, bad.to_string()).unwrap();
        let error = said(&Set::read(&file).unwrap_err());
        assert!(error.contains(part), "{place}: {error}");
        assert!(error.contains("scenes.json"), "{place}: {error}");
    }
    fs::remove_file(&file).unwrap();
    let error = said(&Set::read(&file).unwrap_err());
    assert!(error.contains("scenes.json"), "{error}");
}
