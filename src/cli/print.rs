//! `hgc print`: a graph or a plan as text.

use std::path::PathBuf;

use hgc::unstable::analysis::Analysis;
use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::emit::print::{Annotations, print as text_of};
use hgc::unstable::emit::{is_compiled, strip};
use hgc::unstable::onnx::Model;
use hgc::unstable::onnx::proto::ModelProto;

use super::Outcome;
use super::args::read_plan;
use super::sizes::SizeArgs;
use super::terminal::print;

/// Options of `hgc print`.
#[derive(clap::Args)]
pub struct Args {
    /// An ONNX file, compiled or not, or a plan (TOML)
    file: PathBuf,
    #[command(flatten)]
    sizes: SizeArgs,
}

/// Runs `hgc print`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let is_plan = args.file.extension().is_some_and(|e| e == "toml");
    let text = if is_plan {
        read_plan(&args.file)?.to_string()
    } else {
        let model = Model::read(&args.file)?;
        text_of(
            &model.proto,
            &annotations(&model.proto, args.sizes.of(&args.file)?.sizes),
        )
    };
    print(&text)?;
    Ok(Outcome::Done)
}

/// Shapes of the graph, of the original's where it is compiled; none where they are unknown.
fn annotations(proto: &ModelProto, sizes: Sizes) -> Annotations {
    let original = is_compiled(proto).then(|| strip(proto).ok()).flatten();
    let proto = original.as_ref().unwrap_or(proto);
    let analysis = Analysis::of(proto, sizes);
    analysis.map_or_else(
        |_| Annotations::default(),
        |a| Annotations::of(&a.graph, &a.shapes),
    )
}
