//! `hgc verify` and `hgc bench`, on whichever engine the environment chooses.

use crate::{BAD, Pipeline, SMALL, hgc, small, stored, to};

/// Whether the engine is ONNX Runtime, which gives the same bits again and can count what
/// it ran.
fn exact() -> bool {
    let nothing: [&str; 0] = [];
    hgc("doctor", &nothing, "--format json").json()["engine"] != "embedded"
}

#[test]
fn a_compiled_pair_is_verified_and_benched() {
    let pipeline = Pipeline::new();
    let (original, out) = (pipeline.path(), pipeline.beside("out"));
    let mut words = vec![original.as_os_str()];
    words.extend(to(&out));
    hgc("compile", &words, &small("--target cpu")).ok();

    let json = format!("{SMALL} --format json");
    let verdicts = hgc("verify", &[&original, &out], &json).jsons();
    assert_eq!(verdicts.len(), 2);
    for part in &verdicts {
        assert_eq!(part["pass"], true, "{part}");
        assert_eq!(
            part["refresh_bitwise"].as_bool(),
            exact().then_some(true),
            "{part}"
        );
        // Forecasts are not exact; see below for held values.
        assert_eq!(part["reuse_bitwise"].as_bool(), None, "{part}");
        assert!(part["max_abs_diff"].as_f64() < Some(1e-3), "{part}");
    }
    let (unet, compiled) = (pipeline.unet(), out.join("unet/model.onnx"));
    let text = hgc("verify", &[&unet, &compiled], SMALL).ok();
    assert!(
        text.contains("ok   strip") && text.contains("\nverified: "),
        "{text}"
    );

    let controlnet = pipeline.controlnet();
    let texts = ["is not what", "graph hash"];
    hgc("verify", &[&controlnet, &compiled], SMALL).fails(BAD, &texts);
    hgc("verify", &[&unet, &unet], SMALL).fails(BAD, &["not made by `hgc compile`"]);
    let swapped = ["compiled already; give the original first"];
    hgc("verify", &[&compiled, &unet], SMALL).fails(BAD, &swapped);
    hgc("verify", &[&out, &out], SMALL).fails(BAD, &swapped);
    hgc("bench", &[&out, &out], SMALL).fails(BAD, &swapped);

    let odd = format!("{SMALL} --batch 3");
    hgc("bench", &[&original, &out], &odd).fails(BAD, &["a batch of 3 has no halves"]);
    let missing = out.join("none");
    hgc("verify", &[&original, &missing], SMALL).fails(BAD, &["none does not exist"]);

    let report = hgc("bench", &[&original, &out], &small("--format json")).json();
    assert_eq!(report["steps"], 4);
    assert_eq!(report["files"].as_array().unwrap().len(), 2);
    assert!(report["speed_up_macs"].as_f64() > Some(1.5), "{report}");
    for field in [
        "seconds_original",
        "seconds_rewritten",
        "speed_up",
        "efficiency",
    ] {
        assert!(report[field].as_f64() > Some(0.0), "{field} in {report}");
    }
    for file in report["files"].as_array().unwrap() {
        assert_eq!(file["steps"].as_array().unwrap().len(), 4);
    }
    let expected = exact().then_some(true);
    assert_eq!(report["macs_match"].as_bool(), expected, "{report}");
}

#[test]
fn held_values_are_exact() {
    let (unet, folder) = (stored("unet"), tempfile::tempdir().unwrap());
    let mut words = vec![unet.as_os_str()];
    words.extend(to(folder.path()));
    hgc("compile", &words, &small("--policy deepcache")).ok();
    let verdict = hgc(
        "verify",
        &[unet.as_path(), folder.path()],
        &format!("{SMALL} --format json"),
    );
    let verdict = verdict.json();
    assert_eq!(verdict["pass"], true, "{verdict}");
    let bitwise = exact().then_some(true);
    assert_eq!(verdict["refresh_bitwise"].as_bool(), bitwise, "{verdict}");
    assert_eq!(verdict["reuse_bitwise"].as_bool(), bitwise, "{verdict}");
    assert_eq!(verdict["max_abs_diff"], 0.0);
}

#[test]
fn folders_without_a_plan_are_refused() {
    let pipeline = Pipeline::new();
    let empty = pipeline.beside("empty");
    std::fs::create_dir(&empty).unwrap();
    for task in ["verify", "bench"] {
        let run = hgc(task, &[&pipeline.path(), &empty], SMALL);
        run.fails(BAD, &["empty", "plan.toml"]);
    }
}
