//! Compiles a UNet and its ControlNet through the library.
//!
//! ```sh
//! cargo run --example restore -- tests/fixtures/sd15-ts17 /tmp/pipeline
//! cargo run --example compile_pair -- \
//!     /tmp/pipeline/unet/model.onnx /tmp/pipeline/controlnet/model.onnx /tmp/compiled
//! ```
//!
//! writes `unet.onnx`, `controlnet.onnx`, their weights and `plan.toml` to
//! `/tmp/compiled`. `denoise` runs what is there.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::compile::{Inputs, Project};
use hgc::unstable::plan::parameter::{LAMBDA_INTER, Parameters, Value};
use hgc::unstable::plan::policy::Hgc;

const STEPS: usize = 20;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [unet, controlnet, out] = arguments.as_slice() else {
        bail!("usage: compile_pair UNET CONTROLNET OUT_DIR")
    };
    let inputs = Inputs::read(unet, std::slice::from_ref(controlnet))?;
    // Sizes only weigh costs; a model with dynamic axes runs at any other size too.
    let sizes = Sizes {
        batch: 2,
        height: 16,
        width: 16,
        tokens: 77,
    };
    let project = Project::new(&inputs, sizes)?;

    // Both files are planned together: the ControlNet refreshes when the UNet reads it.
    let parameters = Parameters::new(STEPS).with(&LAMBDA_INTER, Value::Share(0.4));
    let planned = project.plan(&Hgc, &parameters)?;
    if !planned.plan.changes_anything() {
        bail!("there is nothing to cache in {}", unet.display());
    }
    for (model, cost) in planned.plan.models.iter().zip(&planned.costs) {
        println!("{}", model.name);
        for gate in &model.gates {
            let sites = model.sites.iter().filter(|s| s.gate == gate.name).count();
            println!("  {}  {} ({sites} sites)", gate.schedule, gate.name);
        }
        for refusal in &model.refusals {
            println!("  refused {}: {}", refusal.candidate, refusal.reason);
        }
        let (before, after) = (cost.before().all, cost.after().all);
        println!("  {before} -> {after} MACs in {STEPS} steps");
    }

    let files = project
        .compile(&planned)?
        .write(out, true, &mut |_, _| {})
        .with_context(|| format!("cannot write to {}", out.display()))?;
    for file in files {
        println!("wrote {}", file.display());
    }
    Ok(())
}
