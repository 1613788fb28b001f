//! `hgc plan`, and plans given to `hgc compile`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::{BAD, NO, SMALL, fixtures, hgc, small, stored, to};

/// `UNET --controlnet CN`.
fn pair<'p>(unet: &'p Path, controlnet: &'p Path) -> Vec<&'p OsStr> {
    vec![
        unet.as_os_str(),
        "--controlnet".as_ref(),
        controlnet.as_os_str(),
    ]
}

#[test]
fn the_grid_shows_steps_and_gates() {
    let (unet, controlnet) = (stored("unet"), stored("controlnet"));
    let options = format!("--steps 6 --policy deepcache --interval 3 {SMALL}");
    let text = hgc("plan", &pair(&unet, &controlnet), &options).ok();
    for part in [
        "policy deepcache, cut 1, interval 3",
        "012345",
        "guidance            FFFFFF",
        "unet deep           R..R..",
        "controlnet control  R..R..",
        "R refresh, . reuse",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn refresh_steps_can_be_given() {
    let (unet, controlnet) = (stored("unet"), stored("controlnet"));
    let words = pair(&unet, &controlnet);
    let options = format!("--steps 6 --key-steps 2,5 --gate-step 5 --target cpu {SMALL}");
    let text = hgc("plan", &words, &options).ok();
    for part in [
        "key-steps 0,2,5",
        "guidance            FHFHHU",
        "unet deep           R.R..R",
        "controlnet control  R.R..R",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains("lambda-inter"), "{text}");
    let both = format!("{options} --lambda-inter 0.3");
    hgc("plan", &words, &both).fails(BAD, &["lambda-inter", "key-steps"]);
}

#[test]
fn json_has_costs_by_step() {
    let options = format!("--steps 6 --policy deepcache --format json {SMALL}");
    let report = hgc("plan", &[stored("unet")], &options).json();
    let steps: Vec<u64> = report["macs_by_step"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .collect();
    assert_eq!(steps.len(), 6);
    assert_eq!(report["totals"]["macs_after"], steps.iter().sum::<u64>());
    assert_eq!(report["totals"]["macs_before"], 6 * steps[0]);
    assert_eq!(steps[1], steps[2]);
    assert!(steps[1] < steps[0] && steps[3] == steps[0], "{steps:?}");
    assert_eq!(report["plan"]["model"][0]["name"], "unet");
    assert_eq!(
        report["gates"][0]["refresh_steps"],
        serde_json::json!([0, 3])
    );
}

#[test]
fn a_plan_can_be_stored_edited_and_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.toml");
    let (unet, controlnet) = (stored("unet"), stored("controlnet"));
    let mut words = pair(&unet, &controlnet);
    words.extend(to(&file));
    let options = format!("--steps 6 --policy deepcache {SMALL}");
    hgc("plan", &words, &options).ok();
    hgc("plan", &words, &options).fails(BAD, &["plan.toml", "exists already", "--force"]);
    hgc("plan", &words, &format!("{options} --force")).ok();

    let plan = fs::read_to_string(&file).unwrap();
    let compile = |out: &str| {
        let out = dir.path().join(out);
        let mut words = pair(&unet, &controlnet);
        words.extend(["--plan".as_ref(), file.as_os_str()]);
        words.extend(to(&out));
        let run = hgc("compile", &words, &format!("{SMALL} --format json"));
        (run, out)
    };
    let (run, out) = compile("same");
    assert_eq!(run.json()["gates"][0]["schedule"], "R..R..");
    assert_eq!(fs::read_to_string(out.join("plan.toml")).unwrap(), plan);

    let kinds = r#"["full", "reuse", "reuse", "full", "reuse", "reuse"]"#;
    let edited = r#"["full", "reuse", "full", "reuse", "reuse", "full"]"#;
    assert_eq!(plan.matches(kinds).count(), 1);
    fs::write(&file, plan.replace(kinds, edited)).unwrap();
    let (run, out) = compile("edited");
    let report = run.json();
    assert_eq!(report["gates"][0]["schedule"], "R.R..R");
    assert_eq!(
        report["gates"][1]["refresh_steps"],
        serde_json::json!([0, 2, 5])
    );
    assert!(
        fs::read_to_string(out.join("plan.toml"))
            .unwrap()
            .contains(edited)
    );

    let mistakes = [
        (kinds, r#"["full", "reuze"]"#, "did you mean reuse?"),
        (kinds, r#"["reuse", "full"]"#, "the first evaluation is"),
        (kinds, "[]", "no evaluations"),
        ("\"unet/deep\"", "\"unet/dep\"", "did you mean unet/deep?"),
        ("format = 2", "format = 9", "its format is 9"),
        ("format = 2", "format = 1", "no `steps`"),
        ("kinds = ", "kindz = ", "kindz"),
        ("gate = \"deep\"", "gate = \"shallow\"", "unet/deep"),
    ];
    for (right, mistaken, text) in mistakes {
        assert!(plan.contains(right), "{right}");
        fs::write(&file, plan.replace(right, mistaken)).unwrap();
        let (run, out) = compile("mistaken");
        run.fails(BAD, &["plan", text]);
        assert!(!out.exists());
    }
}

/// Plans of the format before had a row of characters a gate.
#[test]
fn plans_of_format_1_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("plan.toml"), dir.path().join("out"));
    let unet = stored("unet");
    let json = hgc("plan", &[&unet], &small("--policy deepcache --format json")).json();
    let model = &json["plan"]["model"][0];
    let (hash, tensor) = (&model["hash"], &model["site"][0]["tensors"][0]);
    let old = |steps: &str| {
        format!(
            "format = 1\npolicy = \"deepcache\"\nsteps = {steps}\n[guidance]\nschedule = \"FFFF\"\n\
             [[model]]\nname = \"unet\"\nrole = \"unet\"\nhash = {hash}\n[[model.gate]]\nname = \
             \"deep\"\nschedule = \"R.NR\"\n[[model.site]]\nname = \"deep\"\ngate = \"deep\"\n\
             tensors = [{tensor}]\n"
        )
    };
    fs::write(&file, old("4")).unwrap();
    let mut words = vec![unet.as_os_str(), "--plan".as_ref(), file.as_os_str()];
    words.extend(to(&out));
    let run = hgc("compile", &words, &format!("{SMALL} --format json"));
    assert_eq!(run.json()["gates"][0]["schedule"], "R.RR");
    let plan = fs::read_to_string(out.join("plan.toml")).unwrap();
    assert!(
        plan.contains(r#"["full", "reuse", "full", "full"]"#),
        "{plan}"
    );
    // Nothing is computed for so many steps before the lengths are compared.
    for (steps, text) in [("5", "4"), ("1000000000000", "1000000000000")] {
        fs::write(&file, old(steps)).unwrap();
        hgc("compile", &words, &format!("{SMALL} --force")).fails(BAD, &["plan", text]);
    }
}

#[test]
fn a_plan_for_another_graph_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.toml");
    let unet = stored("unet");
    let mut words = vec![unet.as_os_str()];
    words.extend(to(&file));
    hgc("plan", &words, &small("--policy deepcache")).ok();
    let other = fixtures::fixture("sd15-unet-only").join("unet/model.onnx");
    let out = dir.path().join("out");
    let mut words = vec![other.as_os_str(), "--plan".as_ref(), file.as_os_str()];
    words.extend(to(&out));
    let name = other.to_str().unwrap();
    hgc("compile", &words, SMALL).fails(BAD, &[name, "graph hash", "hgc plan"]);
    assert!(!out.exists());
}

#[test]
fn a_policy_that_finds_nothing_says_no() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let unet = stored("unet");
    let mut words = vec![unet.as_os_str()];
    words.extend(to(&out));
    let options = small("--policy deepcache --interval 1");
    hgc("compile", &words, &options).fails(NO, &["refused deep", "nothing was written"]);
    assert!(!out.exists());
    let run = hgc("plan", &words[..1], &options);
    assert_eq!(run.code, NO);
    assert!(run.out.contains("refused deep"), "{}", run.out);
}

#[test]
fn without_guidance_or_on_demand_no_step_runs_half_a_batch() {
    let unet = stored("unet");
    let json = |options: &str| {
        let options = small(&format!("--format json --target cpu {options}"));
        hgc("plan", &[&unet], &options).json()
    };
    let halves = |report: &serde_json::Value| report["plan"]["kind"].to_string().contains("held");
    assert!(halves(&json("")));
    assert!(!halves(&json("--prompted none --batch 1")));
    for policy in ["hgc", "hgc-paper", "tgate"] {
        let whole = json(&format!("--policy {policy} --whole-batch"));
        assert!(!halves(&whole), "{policy}");
        assert_eq!(whole["plan"]["parameters"]["whole-batch"], "true");
    }
    let one = small("--target cpu --batch 1");
    hgc("plan", &[&unet], &one).fails(BAD, &["prompted none"]);
}

/// The target decides what is not told: halves of the batch, kinds, the form.
#[test]
fn a_target_decides_what_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let unet = stored("unet");
    let plan = |options: &str| {
        let options = small(&format!("--format json {options}"));
        hgc("plan", &[&unet], &options).json()["plan"].clone()
    };
    let held = |plan: &serde_json::Value| plan["kind"].to_string().contains("held");
    for target in ["any", "cuda", "webgpu"] {
        assert!(!held(&plan(&format!("--target {target}"))), "{target}");
    }
    assert_eq!(plan(""), plan("--target any"));
    assert!(held(&plan("--target cpu")));
    assert!(held(&plan("--target cuda --whole-batch=false")));
    let few = plan("--target tensorrt");
    assert!(few["kind"].as_array().unwrap().len() <= 4, "{few}");
    hgc("plan", &[&unet], &small("--target tensort")).fails(BAD, &["did you mean tensorrt?"]);

    let out = dir.path().join("out");
    let mut words = vec![unet.as_os_str()];
    words.extend(to(&out));
    hgc("compile", &words, &small("--target tensorrt")).ok();
    for file in ["model.onnx", "full.onnx", "hgc.json"] {
        assert!(out.join("unet").join(file).is_file(), "{file}");
    }
    let told = small("--target tensorrt --form gated --force");
    hgc("compile", &words, &told).ok();
    assert!(out.join("unet.onnx").is_file());
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let unet = stored("unet");
    for (options, text) in [
        ("--steps 0", "steps is 0"),
        ("--steps 4 --gate-step 5", "gate-step is 5; use 1 to 4"),
        ("--steps 4 --lambda-inter 1.5", "lambda-inter is 1.5"),
        ("--steps 4 --lambda-intra NaN", "lambda-intra is NaN"),
        ("--steps 4 --policy deepcache --interval 0", "interval is 0"),
        (
            "--steps 4 --policy faster-diffusion --key-steps 0,9",
            "key-steps is 0,9; use steps up to 3",
        ),
        ("--steps 4 --policy best", "best"),
        ("--steps 4 --prompted middle", "give last, first or none"),
        ("--steps 4 --height 0", "0 is not in 1"),
        ("", "--steps"),
    ] {
        hgc("plan", &[&unet], options).fails(BAD, &[text]);
    }
}
