//! `hgc doctor`: which engine runs here, and how to get another.

use std::path::PathBuf;

use serde::Serialize;

use hgc::unstable::engine::{Engine, EngineInfo, EngineKind, Lookup, Place, Provider};

use super::Outcome;
use super::args::Format;
use super::terminal::{print, print_json};

/// Options of `hgc doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// ONNX Runtime library to use: a file, or a folder that holds one
    #[arg(long, value_name = "PATH")]
    pub ort_lib: Option<PathBuf>,

    /// Library of a provider that is a plugin (openvino, tensorrt-rtx)
    #[arg(long, value_name = "FILE")]
    pub ep_lib: Option<PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Serialize)]
struct Report {
    hgc: &'static str,
    engine: &'static str,
    version: String,
    build: String,
    library: Option<PathBuf>,
    providers: Vec<ProviderReport>,
    looked: Vec<LookedReport>,
    cpu: Cpu,
    advice: Vec<String>,
}

#[derive(Serialize)]
struct ProviderReport {
    name: &'static str,
    built_in: bool,
    /// Whether a session starts on it.
    starts: bool,
    /// Why it does not, where it is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
struct LookedReport {
    path: PathBuf,
    place: &'static str,
    outcome: String,
}

#[derive(Serialize)]
struct Cpu {
    model: Option<String>,
    architecture: &'static str,
    threads: usize,
    features: Vec<&'static str>,
}

/// Runs `hgc doctor`.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let engine = super::engine::start(args.ort_lib, args.ep_lib)?;
    let report = Report::of(engine);
    match args.format {
        Format::Table => print(&report.text())?,
        Format::Json => print_json("hgc.doctor.v1", &[report])?,
    }
    Ok(Outcome::Done)
}

impl Report {
    fn of(engine: &Engine) -> Self {
        let info = engine.info();
        let looked = info.looked.iter().map(|l| LookedReport {
            path: l.path.clone(),
            place: l.place.name(),
            outcome: outcome(&l.outcome, l.place),
        });
        Self {
            hgc: env!("CARGO_PKG_VERSION"),
            engine: info.kind.name(),
            version: info.version.clone(),
            build: info.build.clone(),
            library: info.library.clone(),
            providers: Provider::ALL.map(|p| ProviderReport::of(engine, p)).into(),
            looked: looked.collect(),
            cpu: Cpu::here(),
            advice: advice(info),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("hgc        {}", self.hgc)];
        lines.push(match &self.library {
            Some(path) => format!(
                "engine     ONNX Runtime {} ({})",
                self.version,
                path.display()
            ),
            None => format!(
                "engine     embedded (tract {}): CPU only, slower",
                self.version
            ),
        });
        lines.push(format!("build      {}", self.build));
        for provider in &self.providers {
            let state = match (&provider.problem, provider.built_in) {
                (Some(problem), _) => format!("built in, but does not start: {problem}"),
                (None, true) => "yes".to_owned(),
                (None, false) => "no".to_owned(),
            };
            lines.push(format!("provider   {:<12} {state}", provider.name));
        }
        let features = self.cpu.features.join(" ");
        let model = self.cpu.model.as_deref().unwrap_or("unknown model");
        let (architecture, threads) = (self.cpu.architecture, self.cpu.threads);
        lines.push(format!(
            "cpu        {model}, {architecture}, {threads} threads, {features}"
        ));
        for looked in &self.looked {
            let (path, place) = (looked.path.display(), looked.place);
            lines.push(format!("looked at  {path} ({place}): {}", looked.outcome));
        }
        lines.extend(self.advice.iter().map(|a| format!("advice     {a}")));
        lines.join("\n") + "\n"
    }
}

impl ProviderReport {
    fn of(engine: &Engine, provider: Provider) -> Self {
        let built_in = engine.info().providers.contains(&provider);
        let tried = built_in.then(|| provider.try_on(engine));
        Self {
            name: provider.name(),
            built_in,
            starts: matches!(tried, Some(Ok(()))),
            problem: tried.and_then(Result::err).map(|e| deepest(&e)),
        }
    }
}

/// The cause of an error, without the place in the runtime's source that reports it.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    let reason = text.rsplit_once("with error: ").map(|(_, reason)| reason);
    reason.unwrap_or(&text).trim().to_owned()
}

fn outcome(outcome: &Lookup, place: Place) -> String {
    match outcome {
        Lookup::Used => "used".to_owned(),
        Lookup::Nothing => "no library there".to_owned(),
        Lookup::Rejected(_) if place == Place::System => "not found".to_owned(),
        Lookup::Rejected(reason) => format!("does not load: {reason}"),
    }
}

fn advice(info: &EngineInfo) -> Vec<String> {
    let mut advice = Vec::new();
    if info.kind == EngineKind::Embedded {
        advice.push(
            "for speed, `pip install onnxruntime` and pass the library in its folder \
             `onnxruntime/capi` with --ort-lib or ORT_DYLIB_PATH"
                .to_owned(),
        );
    }
    if !info.providers.contains(&Provider::Cuda) {
        advice.push(
            "for --ep cuda, `pip install onnxruntime-gpu[cuda,cudnn]` and pass its library the \
             same way"
                .to_owned(),
        );
    } else {
        advice.push(
            "CUDA and TensorRT libraries that pip installed beside the library are found by \
             themselves; others must be on LD_LIBRARY_PATH"
                .to_owned(),
        );
    }
    if !info.providers.contains(&Provider::TensorRt) {
        advice.push(
            "for --ep tensorrt, `pip install onnxruntime-gpu 'tensorrt<11'` (version 10)"
                .to_owned(),
        );
    }
    advice
}

impl Cpu {
    fn here() -> Self {
        Self {
            model: cpu_model(),
            architecture: std::env::consts::ARCH,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            features: cpu_features(),
        }
    }
}

/// The processor's name, where the system tells it in a file.
fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    let features = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ];
    features.into_iter().filter(|f| f.1).map(|f| f.0).collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    let features = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        (
            "dotprod",
            std::arch::is_aarch64_feature_detected!("dotprod"),
        ),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    features.into_iter().filter(|f| f.1).map(|f| f.0).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}
