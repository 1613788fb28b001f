//! What is recognised in every fixture, and what is not in graphs that only look alike.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/twins.rs"]
mod twins;
#[path = "common/wrap.rs"]
mod wrap;

use hgc::analysis::attention::AttentionKind;
use hgc::analysis::inputs::{InputKind, declared_shape};
use hgc::analysis::shapes::{Sizes, declare};
use hgc::analysis::trunk::Skip;
use hgc::analysis::{Analysis, Role, invariant};
use hgc::onnx::proto::{ModelProto, tensor_shape_proto};
use sha2::{Digest, Sha256};
use twins::{Beside, Cross, Stem, Twin, Vector};

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
        let timed = |n: &hgc::graph::NodeId| {
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

fn kinds(analysis: &Analysis<'_>) -> Vec<InputKind> {
    analysis.kinds.clone()
}

#[test]
fn the_twin_of_all_twins_is_a_unet() {
    let model = Twin::default().model();
    let analysis = analyse(&model);
    assert_eq!(analysis.shapes.unknown, [""; 0]);
    assert_eq!(analysis.role, Role::Unet);
    assert_eq!(analysis.skips.len(), 1);
    assert_eq!(count(&analysis, AttentionKind::Cross), 1);
    use InputKind::{Latent, Residual, Text, Timestep};
    assert_eq!(kinds(&analysis), [Latent, Timestep, Text, Residual]);
}

#[test]
fn a_unet_without_a_timestep_is_no_diffusion_network() {
    let model = Twin {
        timed: false,
        ..Twin::default()
    }
    .model();
    let analysis = analyse(&model);
    assert_eq!((analysis.role, analysis.skips.len()), (Role::Other, 1));
}

#[test]
fn a_concatenation_of_branches_is_no_skip() {
    let model = Twin {
        skips: false,
        ..Twin::default()
    }
    .model();
    let analysis = analyse(&model);
    assert_eq!((analysis.role, analysis.skips.len()), (Role::Other, 0));
}

#[test]
fn an_input_that_is_added_to_tokens_is_no_text() {
    for cross in [Cross::Added, Cross::AttendedAndAdded] {
        let model = Twin {
            cross,
            ..Twin::default()
        }
        .model();
        let analysis = analyse(&model);
        assert_eq!(kinds(&analysis)[2], InputKind::Other, "{cross:?}");
        assert_eq!(count(&analysis, AttentionKind::Cross), 0, "{cross:?}");
    }
}

#[test]
fn keys_from_text_and_values_from_the_latent_are_no_attention() {
    let model = Twin {
        cross: Cross::KeysOnly,
        ..Twin::default()
    }
    .model();
    let analysis = analyse(&model);
    assert!(analysis.attention.is_empty());
    assert_eq!(kinds(&analysis)[2], InputKind::Other);
}

#[test]
fn an_input_that_multiplies_a_map_is_no_residual() {
    let model = Twin {
        residual: "Mul",
        ..Twin::default()
    }
    .model();
    assert_eq!(kinds(&analyse(&model))[3], InputKind::Other);
}

#[test]
fn attentions_that_are_added_have_one_result() {
    let outputs = |beside: Beside| {
        let model = Twin {
            beside,
            ..Twin::default()
        }
        .model();
        let analysis = analyse(&model);
        let found = analysis.attention.iter();
        let named = found.map(|a| (a.kind, analysis.graph.name(a.output).to_owned()));
        named.collect::<Vec<_>>()
    };
    use AttentionKind::{Cross, SelfAttention};
    let named = |kind, name: &str| (kind, name.to_owned());
    let (first, second) = ("attended", "beside.attended");
    assert_eq!(
        outputs(Beside::Picture),
        [named(Cross, "projected"), named(Cross, "projected")]
    );
    // Of text and latent only the first may be kept.
    assert_eq!(
        outputs(Beside::Latent),
        [named(Cross, first), named(SelfAttention, second)]
    );
}

#[test]
fn a_timestep_may_be_a_matrix_of_one_column() {
    for (columns, kind, role) in [
        (1, InputKind::Timestep, Role::Unet),
        // Sizes of a picture, it may be, but no pooled text says so.
        (8, InputKind::Other, Role::Other),
    ] {
        let model = Twin {
            time_columns: Some(columns),
            ..Twin::default()
        }
        .model();
        let analysis = analyse(&model);
        assert_eq!(
            (kinds(&analysis)[1], analysis.role),
            (kind, role),
            "{columns}"
        );
        assert_eq!(analysis.unrecognised().is_some(), role == Role::Other);
    }
}

#[test]
fn a_mask_is_as_long_as_the_text_whose_axis_it_shares() {
    let mut model = fixtures::model("sd15-ts17", "unet");
    let graph = model.graph.as_mut().unwrap();
    let text = graph
        .input
        .iter()
        .find(|i| i.name() == "encoder_hidden_states");
    let mut shape = declared_shape(text.unwrap()).unwrap().clone();
    shape.dim.truncate(2);
    let other = {
        let mut other = shape.clone();
        let name = tensor_shape_proto::dimension::Value::DimParam("unheard_of".to_owned());
        other.dim[1].value = Some(name);
        other
    };
    graph.input.push(declare("mask", 1, shape));
    graph.input.push(declare("other", 1, other));
    let analysis = analyse(&model);
    let dims = |name: &str| {
        let value = analysis.graph.value(name).unwrap();
        let shape = analysis.shapes.get(value)?;
        Some(shape.dims.iter().map(|d| d.at(2)).collect::<Vec<_>>())
    };
    assert_eq!(dims("mask"), Some(vec![2, analysis.sizes.tokens]));
    assert_eq!(dims("other"), None);
}

#[test]
fn a_timestep_may_be_repeated_for_every_row() {
    for (by, kind) in [
        ("ones", InputKind::Timestep),
        // What the latent scales is not the timestep that embeddings are made of.
        ("means", InputKind::ControlScale),
    ] {
        let model = Twin {
            widened: Some(by),
            ..Twin::default()
        }
        .model();
        assert_eq!(kinds(&analyse(&model))[1], kind, "{by}");
    }
}

#[test]
fn what_meets_the_latent_before_the_first_block_is_not_taken_for_it() {
    use InputKind::{Concatenated, ControlImage, Latent, Other};
    for (stem, latent, more, role) in [
        (Stem::Masked, Latent, vec![Concatenated; 2], Role::Unet),
        (Stem::Hinted, Latent, vec![ControlImage], Role::Unet),
        (Stem::Divided, Latent, vec![Other], Role::Unet),
        (Stem::DividedByMap, Other, vec![Other], Role::Other),
        (Stem::Rows, Other, vec![Other], Role::Other),
        (Stem::Summed, Other, vec![Other], Role::Other),
    ] {
        let model = Twin {
            stem,
            ..Twin::default()
        }
        .model();
        let analysis = analyse(&model);
        let found = kinds(&analysis);
        assert_eq!((found[0], &found[4..]), (latent, &more[..]), "{stem:?}");
        assert_eq!(analysis.role, role, "{stem:?}");
    }
}

#[test]
fn class_labels_are_no_embedding_of_the_guidance_scale() {
    for (vector, kind) in [
        (Vector::Sinusoids, InputKind::GuidanceEmbedding),
        (Vector::Embedding, InputKind::Other),
    ] {
        let model = Twin {
            vector,
            ..Twin::default()
        }
        .model();
        assert_eq!(kinds(&analyse(&model)).last(), Some(&kind), "{vector:?}");
    }
}

/// A pooled residual is one by one, whatever it is added to.
#[test]
fn declared_sizes_of_residuals_stay() {
    let mut model = fixtures::model("sd15-ts17", "unet");
    let graph = model.graph.as_mut().unwrap();
    let residual = graph
        .input
        .iter()
        .position(|i| i.name() == "mid_block_additional_residual")
        .unwrap();
    let mut shape = declared_shape(&graph.input[residual]).unwrap().clone();
    for axis in [2, 3] {
        shape.dim[axis].value = Some(tensor_shape_proto::dimension::Value::DimValue(1));
    }
    graph.input[residual] = declare("mid_block_additional_residual", 1, shape);
    let analysis = analyse(&model);
    assert_eq!(kinds(&analysis)[residual], InputKind::Residual);
    let found = analysis.shapes.get(analysis.graph.inputs()[residual]);
    let dims = &found.unwrap().dims;
    assert_eq!([dims[2].at(1), dims[3].at(1)], [1, 1]);
    assert_eq!(analysis.role, Role::Unet);
}

/// A latent of two by two is one by one half-way down, and so would one of four by four be:
/// dynamic all the same.
#[test]
fn small_latents_tell_what_is_dynamic() {
    let model = fixtures::model("sd15-ts17", "unet");
    let dynamic = |side: u64| {
        let sizes = Sizes {
            height: side,
            width: side,
            ..Sizes::default()
        };
        let analysis = Analysis::with_dynamics(&model, sizes).unwrap();
        let elsewhere = analysis.elsewhere.as_ref().unwrap();
        let differs = |skip: &Skip| {
            let (here, there) = (analysis.shapes.get(skip.source), elsewhere.get(skip.source));
            here.unwrap().dims[2..] != there.unwrap().dims[2..]
        };
        analysis.skips.iter().filter(|s| differs(s)).count()
    };
    assert_eq!([2, 8, 64, 72].map(dynamic), [12; 4]);
}
