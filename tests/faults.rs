//! What happens around a run: signals, full disks, readers that have gone, inputs that change,
//! names with control characters. Whatever happens: old files or new ones, nothing else, and a
//! message.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "common/fixtures.rs"]
mod fixtures;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fixtures::fixture;

fn unet() -> PathBuf {
    fixture("sd15-ts17").join("unet/model.onnx")
}

/// `sh -c script` with `$hgc` and what else it is told.
fn sh(script: &str, told: &[(&str, &Path)]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    shell.env("hgc", env!("CARGO_BIN_EXE_hgc"));
    shell.env_remove("HGC_LOG");
    for (name, value) in told {
        shell.env(name, value);
    }
    shell.stdin(Stdio::null()).output().unwrap()
}

fn compile() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hgc"));
    command.arg("compile").arg(unet());
    command.args(["--height", "16", "--width", "16"]);
    command
}

/// All files of a folder with their contents.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let file = |e: fs::DirEntry| {
        let name = e.file_name().to_string_lossy().into_owned();
        (name, fs::read(e.path()).unwrap())
    };
    entries.map(file).collect()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_signal_at_any_moment_leaves_all_old_files_or_all_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let run = |steps: &str| {
        let mut command = compile();
        command.args(["--steps", steps, "--force", "-o"]).arg(&out);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let start = Instant::now();
    assert!(run("4").status().unwrap().success());
    let whole = start.elapsed();
    let old = contents(&out);
    assert!(run("6").status().unwrap().success());
    let new = contents(&out);
    assert_ne!(old, new);
    assert!(run("4").status().unwrap().success());
    let (mut stopped, rounds) = (0, 12);
    for round in 0..rounds {
        let mut child = run("6").spawn().unwrap();
        // Most of the writing is in the last third.
        let share = if round % 2 == 0 { 0.6 } else { 0.0 };
        let share = share + (1.1 - share) * f64::from(round) / f64::from(rounds);
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        let pid = child.id().to_string();
        let signal = ["-TERM", "-INT", "-HUP"][round as usize % 3];
        Command::new("kill").args([signal, &pid]).status().unwrap();
        let ended = child.wait().unwrap();
        stopped += u32::from(ended.code() == Some(130));
        let found = contents(&out);
        let names = || found.keys().collect::<Vec<_>>();
        assert!(found == old || found == new, "{round}: {:?}", names());
        if found == new {
            assert!(run("4").status().unwrap().success());
        }
    }
    assert!(stopped > 0, "no run was stopped");
}

#[test]
fn a_limit_on_file_sizes_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"ulimit -f 64; exec "$hgc" compile "$unet" --steps 4 -o "$out/new" \
        --height 16 --width 16"#;
    let run = sh(script, &[("unet", &unet()), ("out", folder.path())]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(told(&run).contains("unet.onnx"), "{}", told(&run));
    assert!(contents(folder.path()).is_empty());
}

#[test]
fn an_input_that_is_cut_short_meanwhile_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("m.onnx"), folder.path().join("out"));
    let whole = fs::read(unet()).unwrap();
    let mut ended = BTreeMap::new();
    for round in 0u32..12 {
        fs::write(&model, &whole).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hgc"));
        command.arg("compile").arg(&model).args(["--steps", "4"]);
        command.args(["--height", "16", "--width", "16", "--force", "-o"]);
        command
            .arg(&out)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(20 + 60 * round)));
        let file = fs::OpenOptions::new().write(true).open(&model).unwrap();
        file.set_len(4096).unwrap();
        let run = child.wait_with_output().unwrap();
        let code = run.status.code();
        assert!(
            matches!(code, Some(0 | 2)),
            "{:?}: {}",
            run.status,
            told(&run)
        );
        assert_eq!(
            code == Some(2),
            told(&run).contains("error: "),
            "{}",
            told(&run)
        );
        *ended.entry(code).or_insert(0) += 1;
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert!(files <= 2, "{files} entries are left");
    }
    assert!(ended.contains_key(&Some(2)), "{ended:?}");
}

#[test]
fn a_stderr_that_takes_nothing_changes_no_exit_code() {
    for script in [
        r#""$hgc" inspect none.onnx 2>/dev/full"#,
        r#""$hgc" inspect none.onnx 2>&-"#,
        r#""$hgc" inspect none.onnx --bad 2>/dev/full"#,
        r#""$hgc" inspect none.onnx --format json 2>/dev/full"#,
    ] {
        assert_eq!(sh(script, &[]).status.code(), Some(2), "{script}");
    }
    // Warnings before the work are lost, the work is not.
    let folder = tempfile::tempdir().unwrap();
    let script = r#""$hgc" compile "$unet" --steps 4 -o "$out/new" --height 16 --width 16 \
        >/dev/null 2>/dev/full"#;
    let run = sh(script, &[("unet", &unet()), ("out", folder.path())]);
    assert_eq!(run.status.code(), Some(0));
    assert!(folder.path().join("new/unet.onnx").exists());
}

#[test]
fn a_stdout_that_is_full_is_an_error() {
    let run = sh(
        r#""$hgc" --version >/dev/full; "$hgc" inspect "$unet" >/dev/full"#,
        &[("unet", &unet())],
    );
    assert_eq!(run.status.code(), Some(2), "{}", told(&run));
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let mut model = fixtures::model("sd15-ts17", "unet");
    let graph = model.graph.as_mut().unwrap();
    let old = graph.input[0].name().to_owned();
    let new = format!("{old}\u{1b}[31m\u{7}\u{202e}");
    graph.input[0].name = Some(new.clone());
    for node in &mut graph.node {
        for input in node.input.iter_mut().filter(|i| **i == old) {
            input.clone_from(&new);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    fs::write(&file, prost::Message::encode_to_vec(&model)).unwrap();
    for words in [
        "inspect \"$m\"",
        "inspect \"$m\" --format json",
        "print \"$m\"",
        "plan \"$m\" --steps 4",
        "plan \"$m\" --steps 4 --policy \"$(printf 'a\\033[31m')\"",
        "inspect \"$(printf 'none\\033[31m.onnx')\"",
        "run . --prompt a -o \"$(printf 'a\\033[31m')\"",
        "\"$(printf 'verb\\033[31m')\"",
    ] {
        let script = format!("\"$hgc\" {words} 2>&1");
        let run = sh(&script, &[("m", &file)]);
        let text = String::from_utf8(run.stdout).unwrap();
        assert!(!text.is_empty(), "{words}");
        for raw in ['\u{1b}', '\u{7}', '\u{202e}'] {
            assert!(!text.contains(raw), "{words}: {}", text.escape_debug());
        }
    }
}

#[test]
fn messages_stay_short_whatever_they_quote() {
    let mut model = fixtures::model("sd15-ts17", "unet");
    let graph = model.graph.as_mut().unwrap();
    let long = "n".repeat(1 << 20);
    graph.node[7].input[0] = long.clone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    fs::write(&file, prost::Message::encode_to_vec(&model)).unwrap();
    let plan = folder.path().join("plan.toml");
    fs::write(&plan, format!("{long} = 1\n")).unwrap();
    for words in [
        "inspect \"$m\"",
        "compile \"$u\" --plan \"$p\" -o out",
        "print \"$p\"",
    ] {
        let script = format!("\"$hgc\" {words}");
        let run = sh(&script, &[("m", &file), ("p", &plan), ("u", &unet())]);
        assert_eq!(run.status.code(), Some(2), "{words}");
        assert!(run.stderr.len() < 6000, "{words}: {}", run.stderr.len());
    }
}

#[test]
fn a_device_without_an_end_is_refused() {
    for words in [
        "run \"$p\" --prompts /dev/zero -o a.png",
        "eval \"$p\" --set /dev/zero",
        "run \"$p\" --prompt a --control /dev/zero -o a.png",
        "print /dev/zero",
        "compile \"$p\" --plan /dev/zero -o out",
        "inspect /dev/zero",
    ] {
        let script = format!("ulimit -v 8000000; \"$hgc\" {words}");
        let pipeline = Path::new("models/shapes/pipeline");
        let run = sh(&script, &[("p", pipeline)]);
        assert_eq!(run.status.code(), Some(2), "{words}: {}", told(&run));
        assert!(told(&run).contains("/dev/zero"), "{words}: {}", told(&run));
    }
}
