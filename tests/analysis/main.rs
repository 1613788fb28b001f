//! What is recognised in every fixture, and what is not in graphs that only look alike.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "../common/fixtures.rs"]
mod fixtures;
mod lookalikes;
#[path = "../common/twins.rs"]
mod twins;
#[path = "../common/wrap.rs"]
mod wrap;

use hgc::unstable::analysis::attention::AttentionKind;
use hgc::unstable::analysis::inputs::InputKind;
use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::analysis::{Analysis, invariant};
use hgc::unstable::onnx::proto::ModelProto;
use sha2::{Digest, Sha256};

const SIZES: Sizes = Sizes {
    batch: 1,
    height: 16,
    width: 16,
    tokens: 77,
};

fn analyse(model: &ModelProto) -> Analysis<'_> {
    Analysis::of(model, SIZES).expect("an analysis")
}

fn count(analysis: &Analysis<'_>, kind: AttentionKind) -> usize {
    analysis.attention.iter().filter(|a| a.kind == kind).count()
}

fn ids(analysis: &Analysis<'_>) -> Vec<String> {
    analysis.blocks.iter().map(|b| b.id.clone()).collect()
}

/// Fixture, component, role, skips, self- and cross-attention, MACs of one row, those of
/// operators with weights, step-invariant values, whether the batch is open. MACs of the plain
/// exports are those of the shapes that ONNX Runtime computes.
const EXPECTED: &str = "
distilled-ts17 controlnet controlnet 0 3 3 35954688 32458752 7 true
distilled-ts17 unet unet 6 9 9 46004224 35516416 18 true
inpaint-ts17 controlnet controlnet 0 7 7 50572800 43539456 15 true
inpaint-ts17 unet unet 12 16 16 76878336 59357184 32 true
sd15-dynamo18 controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-dynamo18 unet unet 12 16 16 76694016 59172864 32 true
sd15-dynamo23 controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-dynamo23 unet unet 12 16 16 76694016 59172864 32 true
sd15-fp16 controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-fp16 unet unet 12 16 16 76694016 59172864 32 true
sd15-lcm controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-lcm unet unet 12 16 16 76695040 59173888 33 true
sd15-merged unet merged 12 23 23 127266816 102712320 47 true
sd15-onnxslim controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-onnxslim unet unet 12 16 16 76694016 59172864 32 true
sd15-ort-extended controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-ort-extended unet unet 12 16 16 76694016 59172864 32 true
sd15-ort-gpu controlnet controlnet 0 7 7 50572800 43539456 8 true
sd15-ort-gpu unet unet 12 16 16 76694016 59172864 16 true
sd15-ort-mha controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-ort-mha unet unet 12 16 16 76694016 59172864 32 true
sd15-renamed controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-renamed unet unet 12 16 16 76694016 59172864 32 true
sd15-static controlnet controlnet 0 7 7 156023296 127744000 15 false
sd15-static unet unet 12 16 16 241805824 171298816 32 false
sd15-static-batch controlnet controlnet 0 7 7 101145600 87078912 15 false
sd15-static-batch unet unet 12 16 16 153388032 118345728 32 false
sd15-ts14 controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-ts14 unet unet 12 16 16 76694016 59172864 32 true
sd15-ts17 controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-ts17 unet unet 12 16 16 76694016 59172864 32 true
sd15-two-controlnets controlnet controlnet 0 7 7 50572800 43539456 15 true
sd15-two-controlnets controlnet_1 controlnet 0 7 7 50572800 43539456 15 true
sd15-two-controlnets unet unet 12 16 16 76694016 59172864 32 true
sd15-unet-only unet unet 12 16 16 76694016 59172864 32 true
sd21-ts17 controlnet controlnet 0 7 7 50572800 43539456 15 true
sd21-ts17 unet unet 12 16 16 76694016 59172864 32 true
sdxl-ts17 controlnet controlnet 0 13 13 60507136 56482816 28 true
sdxl-ts17 unet unet 9 28 28 90234880 81031168 57 true
";

#[test]
fn every_fixture_is_recognised() {
    let rows = fixtures::names().into_iter().map(|(name, component)| {
        let model = fixtures::model(&name, &component);
        let analysis = analyse(&model);
        assert_eq!(
            analysis.shapes.unknown, [""; 0],
            "{name}/{component}: unknown shapes"
        );
        assert_eq!(
            analysis.uncounted(),
            [],
            "{name}/{component}: uncounted operators"
        );
        let macs = analysis.macs_of(analysis.graph.nodes(), SIZES.batch);
        format!(
            "{name} {component} {} {} {} {} {} {} {} {}",
            analysis.role.name(),
            analysis.skips.len(),
            count(&analysis, AttentionKind::SelfAttention),
            count(&analysis, AttentionKind::Cross),
            macs.all,
            macs.weights,
            invariant::find(&analysis).frontier.len(),
            analysis.shapes.symbolic_batch,
        )
    });
    let rows: Vec<String> = rows.collect();
    let rows = rows.join("\n");
    assert_eq!(rows, EXPECTED.trim(), "found:\n{rows}\n");
}

#[test]
fn a_merged_graph_costs_what_its_parts_cost() {
    let macs = |name: &str, component: &str| {
        let model = fixtures::model(name, component);
        let analysis = analyse(&model);
        let timed = |n: &hgc::unstable::graph::NodeId| {
            analysis
                .graph
                .outputs_of(*n)
                .iter()
                .any(|v| analysis.has(*v, InputKind::Latent))
        };
        analysis
            .macs_of(analysis.graph.nodes().filter(timed), 1)
            .all
    };
    let parts = macs("sd15-ts17", "unet") + macs("sd15-ts17", "controlnet");
    assert_eq!(macs("sd15-merged", "unet"), parts);
}

#[test]
fn halves_of_the_batch_can_run_alone_where_it_is_open() {
    for (name, expected) in [
        ("sd15-merged", true),
        ("sd15-dynamo23", true),
        ("sd15-static-batch", false),
    ] {
        let model = fixtures::model(name, "unet");
        assert_eq!(analyse(&model).can_halve(), expected, "{name}");
    }
}

#[test]
fn block_ids_follow_the_network() {
    let found = |name: &str, component: &str| ids(&analyse(&fixtures::model(name, component)));
    let distilled = "embedding stem down.0.resnet.0 down.0.transformer.0 down.0.downsample \
        down.1.resnet.0 down.1.transformer.0 down.1.downsample down.2.resnet.0 \
        down.2.transformer.0";
    let decoder = "up.0.resnet.0 up.0.transformer.0 up.0.resnet.1 up.0.transformer.1 up.0.upsample \
        up.1.resnet.0 up.1.transformer.0 up.1.resnet.1 up.1.transformer.1 up.1.upsample \
        up.2.resnet.0 up.2.transformer.0 up.2.resnet.1 up.2.transformer.1 head";
    assert_eq!(
        found("distilled-ts17", "unet").join(" "),
        format!("{distilled} {decoder}")
    );
    let control = found("distilled-ts17", "controlnet").join(" ");
    assert_eq!(control, format!("{distilled} head hint residuals"));
}

#[test]
fn exporters_do_not_change_the_blocks() {
    let usual = ids(&analyse(&fixtures::model("sd15-ts17", "unet")));
    for name in [
        "sd15-renamed",
        "sd15-dynamo23",
        "sd15-ort-mha",
        "sd15-ort-gpu",
        "sd15-ts14",
    ] {
        assert_eq!(
            ids(&analyse(&fixtures::model(name, "unet"))),
            usual,
            "{name}"
        );
    }
}

#[test]
fn a_merged_graph_has_the_blocks_of_its_parts() {
    let unet = ids(&analyse(&fixtures::model("sd15-ts17", "unet")));
    let control = ids(&analyse(&fixtures::model("sd15-ts17", "controlnet")));
    let mut parts = unet;
    parts.extend(control.iter().skip(1).map(|id| format!("control.{id}")));
    let model = fixtures::model("sd15-merged", "unet");
    let merged = analyse(&model);
    let mut found = ids(&merged);
    parts.sort();
    found.sort();
    assert_eq!(found, parts);
    assert_eq!(merged.mid_residuals.len(), 1);
}

#[test]
fn weights_follow_the_recipe() {
    let state = 1u64.wrapping_add(fixtures::fnv1a64("conv_in.weight"));
    let drawn: Vec<u64> = fixtures::numbers(state).take(2).collect();
    assert_eq!(
        drawn,
        [2_183_766_196_022_852_824, 3_288_625_231_248_363_711]
    );
    let folder = fixtures::fixture("sd15-ts17").join("unet");
    let weights = std::fs::read(folder.join("weights.bin")).expect("restored weights");
    let hash: String = Sha256::digest(weights)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(
        hash,
        "fa9cb4af620614d50d904ee6c91c96742acdafc81d3f08dbfc487e687f94ab5c"
    );
    let half = fixtures::Tensor {
        name: "conv_in.weight".to_owned(),
        dtype: "f16".to_owned(),
        elements: 2,
        offset: 0,
        scale: 0.5,
        bias: 1.0,
    };
    let halves = [
        half::f16::from_f32(0.618_164_06),
        half::f16::from_f32(0.678_222_66),
    ];
    assert_eq!(
        fixtures::bytes_of(1, &half),
        halves.map(half::f16::to_le_bytes).concat()
    );
}
