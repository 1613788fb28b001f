//! What is recognised in a small UNet, and what is not in graphs that only look like it.

use hgc::unstable::analysis::attention::AttentionKind;
use hgc::unstable::analysis::inputs::{InputKind, declared_shape};
use hgc::unstable::analysis::shapes::{Sizes, declare};
use hgc::unstable::analysis::trunk::Skip;
use hgc::unstable::analysis::{Analysis, Role};
use hgc::unstable::onnx::make_node;
use hgc::unstable::onnx::proto::tensor_shape_proto;

use crate::twins::{Beside, Cross, Stem, Twin, Vector};
use crate::{analyse, count, fixtures};

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

#[test]
fn what_is_joined_in_the_decoder_is_no_image() {
    let model = Twin {
        late: true,
        ..Twin::default()
    }
    .model();
    let analysis = analyse(&model);
    let found = kinds(&analysis);
    assert_eq!(found[0], InputKind::Latent);
    assert_eq!(found.last(), Some(&InputKind::Other));
    assert_eq!(analysis.role, Role::Unet);
}

/// Twenty to the power of eight ways lead through such sums.
#[test]
fn sums_that_branch_are_walked_once() {
    let mut model = Twin::default().model();
    let graph = model.graph.as_mut().unwrap();
    let mut before = vec!["extra".to_owned(); 20];
    for layer in 0..8 {
        let names: Vec<String> = (0..20).map(|i| format!("sum.{layer}.{i}")).collect();
        let sums = names
            .iter()
            .map(|name| make_node("Sum", name, before.clone(), [name.clone()]));
        graph.node.extend(sums.collect::<Vec<_>>());
        before = names;
    }
    before.push("stem".to_owned());
    graph
        .node
        .push(make_node("Sum", "last", before, ["last".to_owned()]));
    graph.node.sort_by_key(|n| n.output[0] == "out");
    let analysis = analyse(&model);
    assert_eq!(kinds(&analysis)[3], InputKind::Other);
}
