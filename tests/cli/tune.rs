//! `hgc tune` with the trained pipeline, and what is done with the plan.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::eval::{row, shapes};
use crate::{BAD, hgc, to};

/// Few steps and one scene; scores mean nothing then.
const QUICK: &str = "--scenes 1 --steps 5 --guidance 5 --effort 3 --save 0.5";

/// The pipeline, and where its plan goes.
fn onto(output: &Path) -> Vec<OsString> {
    let mut words = vec![shapes("pipeline").into_os_string()];
    words.extend(to(output).map(ToOwned::to_owned));
    words
}

/// One scene, and no more runs than the formulas.
fn drawn() -> String {
    let control = shapes("choice/256.png");
    format!("--prompt circle --control {} --effort 1", control.display())
}

#[test]
fn a_plan_is_fitted_compiled_scored_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let set = shapes("choice/scenes.json");
    let mut words = vec![shapes("pipeline").into_os_string(), "--set".into()];
    words.push(set.clone().into_os_string());
    words.extend(to(&plan).map(ToOwned::to_owned));

    let found = hgc("tune", &words, &format!("{QUICK} --format json")).json();
    let fit = &found["fits"][0];
    assert!(fit["saved"].as_f64().unwrap() >= 0.5, "{fit:#}");
    assert!(fit["runs"].as_u64().unwrap() >= 4, "{fit:#}");
    // A formula with weights may be nearer by less than weights must be worth.
    let ratio = |what: &str| fit[what].as_f64().unwrap();
    assert!(ratio("signal") >= ratio("formula") - 0.1, "{fit:#}");
    let text = fs::read_to_string(&plan).unwrap();
    assert!(
        text.contains("[fitted]") && text.contains("sampler = \"ddim\""),
        "{text}"
    );
    hgc("tune", &words, QUICK).fails(BAD, &["plan.toml", "--force"]);
    // Nor are an earlier search's runs lost.
    fs::rename(&plan, plan.with_extension("away")).unwrap();
    hgc("tune", &words, QUICK).fails(BAD, &["plan.runs.jsonl", "--resume"]);
    fs::rename(plan.with_extension("away"), &plan).unwrap();

    // A search that goes on makes the same moves, and finds the same plan.
    let kept = plan.with_extension("runs.jsonl");
    let lines = fs::read_to_string(&kept).unwrap();
    let half: String = lines.lines().take(3).map(|l| format!("{l}\n")).collect();
    fs::write(&kept, half + "{\"case\":").unwrap();
    hgc("tune", &words, &format!("{QUICK} --resume --force")).ok();
    assert_eq!(text, fs::read_to_string(&plan).unwrap());
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&lines), sorted(&fs::read_to_string(&kept).unwrap()));
    let other = QUICK.replace("guidance 5", "guidance 3");
    hgc("tune", &words, &format!("{other} --resume --force"))
        .fails(BAD, &["runs.jsonl", "--resume"]);

    let (pipeline, plan) = (shapes("pipeline"), plan.display().to_string());
    let set = set.display();
    let options = format!(
        "--set {set} --scenes 1 --steps 5 --guidance 5 --timed 0 --format json --plan {plan}"
    );
    let report = hgc("eval", &[&pipeline], &options).json();
    assert!(row(&report, &plan)["reduction"].as_f64().unwrap() >= 0.5);
    // Beside it the rival that computes no less: the original in fewer steps.
    let fewer = row(&report, "steps=3");
    assert_eq!(fewer["policy"], "fewer steps");
    assert!(fewer["reduction"].as_f64() <= row(&report, &plan)["reduction"].as_f64());
    // In other numbers of steps it is spread, and told.
    let other = options.replace("--steps 5", "--steps 6");
    let other = hgc("eval", &[&pipeline], &other);
    assert!(other.err.contains("fitted on 5 steps"), "{}", other.err);
    assert!(row(&other.json(), &plan)["reduction"].as_f64().unwrap() > 0.3);

    let compiled = folder.path().join("compiled");
    let mut words = vec![pipeline.clone().into_os_string()];
    words.extend(to(&compiled).map(ToOwned::to_owned));
    hgc("compile", &words, &format!("--plan {plan}")).ok();
    let picture = folder.path().join("a.png");
    let mut words = vec![compiled.into_os_string()];
    words.extend(to(&picture).map(ToOwned::to_owned));
    let control = shapes("choice/256.png");
    let drawn = format!("--prompt circle --control {}", control.display());
    let run = hgc(
        "run",
        &words,
        &format!("{drawn} --guidance 15 --sampler euler"),
    );
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.err
            .contains("5 steps of ddim, not 5 of euler; guidance 5, not 15"),
        "{}",
        run.err
    );
}

/// A plan that leaves it to the running model is compiled in either form, and scored by what ran.
#[test]
fn a_gate_that_decides_is_fitted() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let words = onto(&plan);
    let set = shapes("choice/scenes.json");
    let scenes = format!("--set {} --scenes 1 --steps 6 --guidance 5", set.display());
    let options = format!("{scenes} --adaptive --save 0.4 --format json");
    let found = hgc("tune", &words, &options).json();
    let fit = &found["fits"][0];
    assert_eq!(fit["adaptive"], true);
    assert!(fit["saved"].as_f64().unwrap() > 0.2, "{fit:#}");
    let text = fs::read_to_string(&plan).unwrap();
    assert!(text.contains("[schedule.adaptive]"), "{text}");
    assert!(text.contains("decided = \".?????\""), "{text}");
    hgc("tune", &words, &format!("{options} --effort 5 --force")).fails(BAD, &["--adaptive"]);

    let pipeline = shapes("pipeline");
    let label = plan.display().to_string();
    let options = format!("{scenes} --timed 0 --fewer none --format json --plan {label}");
    let report = hgc("eval", &[&pipeline], &options).json();
    assert!(row(&report, &label)["reduction"].as_f64().unwrap() > 0.2);
    for form in ["gated", "variants"] {
        let compiled = folder.path().join(form);
        let mut words = vec![pipeline.clone().into_os_string()];
        words.extend(to(&compiled).map(ToOwned::to_owned));
        hgc("compile", &words, &format!("--plan {label} --form {form}")).ok();
        let pair = [pipeline.clone().into_os_string(), compiled.into_os_string()];
        hgc("verify", &pair, "").ok();
        hgc("bench", &pair, "").ok();
    }
}

#[test]
fn what_cannot_be_tuned_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let (words, drawn) = (onto(&plan), drawn());
    // One evaluation of four computes everything.
    hgc("tune", &words, &format!("{drawn} --steps 4 --save 0.9"))
        .fails(BAD, &["10.0 % of the MACs"]);
    hgc("tune", &words, "--prompt circle --steps 4").fails(BAD, &["control"]);
    let told = format!("{drawn} --steps 4 --gate-step 2 --force");
    hgc("tune", &words, &told).fails(BAD, &["--gate-step is what tune decides"]);
    assert!(!plan.exists());
}

/// Control switches in the plan where it switched while the plan was fitted.
#[test]
fn a_window_of_control_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let (words, drawn) = (onto(&plan), drawn());
    let options = format!("{drawn} --steps 4 --save 0.3 --control-end 0.5 --format json");
    let found = hgc("tune", &words, &options).json();
    // Everything runs on the step after which control is off.
    let fit = &found["fits"][0];
    assert_eq!(
        fit["deep"].as_str().unwrap().chars().nth(2),
        Some('R'),
        "{fit:#}"
    );
    let text = fs::read_to_string(&plan).unwrap();
    assert!(text.contains("control-end = \"0.5\""), "{text}");
    // A frontier leaves out what so few steps cannot save, and says so.
    let plans = folder.path().join("plans");
    let words = onto(&plans);
    let run = hgc("tune", &words, &format!("{drawn} --steps 2 --frontier"));
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.err.contains("save-75.toml") && run.err.contains("left out"),
        "{}",
        run.err
    );
    assert!(plans.join("save-40.toml").is_file());
}

/// The number of steps is chosen against the converged picture, beside the best plain sampler.
#[test]
fn the_number_of_steps_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let words = onto(&plan);
    let options = format!("{} --steps 3..5 --save 0.4 --sampler ddim,dpm++2m", drawn());
    let found = hgc("tune", &words, &format!("{options} --format json")).json();
    let (choice, fit) = (&found["choice"], &found["fits"][0]);
    let tried = choice["tried"].as_object().unwrap();
    assert!(tried.len() >= 2, "{found:#}");
    let plain = choice["plain"].as_str().unwrap();
    assert!(plain.ends_with(" 3"), "{found:#}");
    assert!(
        plain.starts_with(fit["sampler"].as_str().unwrap()),
        "{found:#}"
    );
    let text = fs::read_to_string(&plan).unwrap();
    let steps = fit["steps"].as_u64().unwrap();
    assert!(
        (3..=5).contains(&steps) && text.contains("[[schedule]]"),
        "{found:#}"
    );
    // No more than three whole evaluations.
    let spent = steps as f64 * (1.0 - fit["saved"].as_f64().unwrap());
    assert!(spent <= 3.0 + 1e-9, "{found:#}");
    let options = format!("{} --steps 3..6 --force --psnr 30", drawn());
    hgc("tune", &words, &options).fails(BAD, &["stands alone"]);
}

/// The largest saving that keeps a PSNR; one that nothing keeps is told with what was found.
#[test]
fn a_psnr_can_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let words = onto(&plan);
    let options = format!("{} --steps 4", drawn());
    let found = hgc("tune", &words, &format!("{options} --psnr 5 --format json")).json();
    let fit = &found["fits"][0];
    assert!(fit["psnr"].as_f64().unwrap() >= 5.0, "{found:#}");
    assert!(fit["saved"].as_f64().unwrap() >= 0.4, "{found:#}");
    let other = folder.path().join("other.toml");
    let options = format!("{} --steps 3", drawn());
    hgc("tune", &onto(&other), &format!("{options} --psnr 99"))
        .fails(BAD, &["no saving from 40 % on keeps 99 dB"]);
    assert!(!other.exists());
}

/// Budgets in seconds: what was measured is told.
#[test]
fn budgets_can_be_in_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let words = onto(&folder.path().join("plan.toml"));
    let options = format!("{} --steps 4 --save 0.3 --cost time --format json", drawn());
    let found = hgc("tune", &words, &options).json();
    let fit = &found["fits"][0];
    assert!(fit["saved_time"].as_f64().unwrap() >= 0.3, "{found:#}");
    assert!(fit["saved"].as_f64().unwrap() > 0.0, "{found:#}");
}
