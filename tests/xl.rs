//! A pipeline in the layout of SDXL: two text encoders, a pooled prompt, time ids.
//!
//! The encoders look tokens up in tables, so what reaches the UNet can be computed here.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/wrap.rs"]
mod wrap;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use hgc::unstable::analysis::shapes::declare;
use hgc::unstable::engine::{Engine, EngineRequest, SessionOptions};
use hgc::unstable::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use hgc::unstable::onnx::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto,
};
use hgc::unstable::pipeline::{Folder, encode, picture};
use prost::Message;

/// Tokens of a prompt, and words of the vocabulary.
const TOKENS: usize = 8;
const WORDS: usize = 11;
/// Widths of the two encoders; the fixture's UNet takes 64 together, and 64 pooled.
const WIDTHS: [usize; 2] = [24, 40];
const POOLED: usize = 64;

fn value(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| Dimension {
        value: Some(match text.parse() {
            Ok(number) => DimValue::DimValue(number),
            Err(_) => DimValue::DimParam((*text).to_owned()),
        }),
        ..Dimension::default()
    };
    let dim = dims.iter().map(dim).collect();
    declare(name, elem_type, TensorShapeProto { dim })
}

fn floats(name: &str, dims: &[usize], values: Vec<f32>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(1),
        dims: dims.iter().map(|d| i64::try_from(*d).unwrap()).collect(),
        float_data: values,
        ..TensorProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    NodeProto {
        name: Some(output.to_owned()),
        op_type: Some(op.to_owned()),
        input: owned(inputs),
        output: owned(&[output]),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(7),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn write(folder: &Path, part: &str, graph: GraphProto) {
    let model = wrap::wrap(graph);
    put(folder, &format!("{part}/model.onnx"), model.encode_to_vec());
}

fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Entry of an encoder's table.
#[allow(clippy::cast_precision_loss)]
fn entry(encoder: usize, token: usize, column: usize) -> f32 {
    (1.0 + token as f32 * 0.7 + column as f32 * 1.3 + encoder as f32).sin()
}

/// All hidden states, as exports of SDXL give them: `hidden_states.k` is `k + 1` times the
/// table's rows, and the pooled prompt the mean over tokens of a table of its own.
fn text_encoder(folder: &Path, encoder: usize) {
    let part = ["text_encoder", "text_encoder_2"][encoder];
    let width = WIDTHS[encoder];
    let rows = |width: usize, seed: usize| -> Vec<f32> {
        let row = |t| (0..width).map(move |c| entry(seed, t, c));
        (0..WORDS).flat_map(row).collect()
    };
    let mut graph = GraphProto {
        name: Some(part.to_owned()),
        input: vec![value("input_ids", 7, &["batch", "sequence"])],
        initializer: vec![
            floats("table", &[WORDS, width], rows(width, encoder)),
            floats("pooling", &[WORDS, POOLED], rows(POOLED, 2)),
        ],
        node: vec![
            node("Gather", &["table", "input_ids"], "rows", vec![]),
            node("Gather", &["pooling", "input_ids"], "pooling.rows", vec![]),
            node(
                "ReduceMean",
                &["pooling.rows"],
                "pooled",
                vec![integers("axes", &[1]), {
                    let mut keep = integers("keepdims", &[]);
                    (keep.r#type, keep.i) = (Some(2), Some(0));
                    keep
                }],
            ),
        ],
        output: vec![value("pooled", 1, &["batch", "64"])],
        ..GraphProto::default()
    };
    let width = width.to_string();
    for (k, factor) in [1.0f32, 2.0, 3.0].into_iter().enumerate() {
        let (name, by) = (format!("hidden_states.{k}"), format!("factor.{k}"));
        graph.initializer.push(floats(&by, &[1], vec![factor]));
        graph.node.push(node("Mul", &["rows", &by], &name, vec![]));
        let dims = ["batch", "sequence", width.as_str()];
        graph.output.push(value(&name, 1, &dims));
    }
    write(folder, part, graph);
}

/// Each value of the latent becomes eight by eight pixels.
#[allow(clippy::cast_precision_loss)]
fn decoder(folder: &Path) {
    let weights = (0..4 * 3 * 64).map(|i| (i as f32 * 0.37).sin() * 0.5);
    let strides = vec![
        integers("kernel_shape", &[8, 8]),
        integers("strides", &[8, 8]),
    ];
    let graph = GraphProto {
        name: Some("vae_decoder".to_owned()),
        input: vec![value("latent", 1, &["batch", "4", "h", "w"])],
        output: vec![value("sample", 1, &["batch", "3", "H", "W"])],
        initializer: vec![floats("weights", &[4, 3, 8, 8], weights.collect())],
        node: vec![
            node("ConvTranspose", &["latent", "weights"], "pixels", strides),
            node("Tanh", &["pixels"], "sample", vec![]),
        ],
        ..GraphProto::default()
    };
    write(folder, "vae_decoder", graph);
}

/// A whole pipeline around the fixture's UNet and ControlNet.
fn pipeline() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let fixture = fixtures::fixture("sdxl-ts17");
    for part in ["unet", "controlnet"] {
        fs::create_dir(path.join(part)).unwrap();
        for file in fs::read_dir(fixture.join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), path.join(part).join(file.file_name())).unwrap();
        }
    }
    (0..2).for_each(|encoder| text_encoder(path, encoder));
    decoder(path);
    let vocab = r#"{"a": 0, "b": 1, "c</w>": 2, "b</w>": 3, "ab": 4, "abc</w>": 5, "ab</w>": 6,
        "!</w>": 7, "<|startoftext|>": 8, "<|endoftext|>": 9, "!": 10}"#;
    for (tokenizer, pad) in [("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")] {
        put(path, &format!("{tokenizer}/vocab.json"), vocab);
        let merges = "#version: 0.2\na b\nab c</w>\na b</w>\n";
        put(path, &format!("{tokenizer}/merges.txt"), merges);
        let config = format!(r#"{{"model_max_length": {TOKENS}, "pad_token": "{pad}"}}"#);
        put(path, &format!("{tokenizer}/tokenizer_config.json"), config);
    }
    let scheduler = r#"{"_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085,
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "leading",
        "steps_offset": 1}"#;
    put(path, "scheduler/scheduler_config.json", scheduler);
    let index = r#"{"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}"#;
    put(path, "model_index.json", index);
    picture::write(
        &image::RgbImage::from_fn(128, 128, |x, y| {
            image::Rgb([u8::try_from(x).unwrap(), u8::try_from(y).unwrap(), 90])
        }),
        &path.join("map.png"),
        false,
    )
    .unwrap();
    folder
}

/// As diffusers' SDXL pipelines have it; pipelines with one text encoder go without.
#[test]
fn normalised_latents_are_moved_back() {
    let folder = pipeline();
    let normalised =
        r#"{"scaling_factor": 0.5, "latents_mean": [1.0, 2.0], "latents_std": [3.0, 4.0]}"#;
    put(folder.path(), "vae_decoder/config.json", normalised);
    let read = Folder::read(folder.path()).unwrap();
    assert_eq!((read.affine(0), read.affine(1)), ((6.0, 1.0), (8.0, 2.0)));
    assert!(read.notes.is_empty(), "{:?}", read.notes);
    let half = r#"{"scaling_factor": 0.5, "latents_mean": [1.0, 2.0]}"#;
    put(folder.path(), "vae_decoder/config.json", half);
    let read = Folder::read(folder.path()).unwrap();
    assert_eq!(read.affine(1), (2.0, 0.0));
    assert!(read.notes[0].contains("latents_mean"), "{:?}", read.notes);
}

#[test]
fn prompts_are_the_last_but_one_states_of_both_encoders_side_by_side() {
    let folder = pipeline();
    let read = Folder::read(folder.path()).unwrap();
    assert_eq!(read.scaling_factor.to_bits(), 0.13025f32.to_bits());
    assert_eq!(read.size_for(None), (1024, 1024));
    // Without a configuration of the VAE that is said, and nothing is normalised.
    assert!(read.notes[0].contains("config.json"), "{:?}", read.notes);
    assert_eq!(read.affine(3), (1.0 / 0.13025, 0.0));
    let engine = Engine::start(&EngineRequest::from_env(None).unwrap()).unwrap();
    let texts = ["ab abc".to_owned(), String::new(), String::new()];
    // The last one is a negative prompt.
    let encoded = encode(engine, &read, &SessionOptions::default(), &texts, 2).unwrap();
    assert_eq!((encoded.tokens, encoded.width), (TOKENS, 64));
    let ids = [[8, 6, 5, 9, 9, 9, 9, 9], [8, 6, 5, 9, 10, 10, 10, 10]];
    let near = |a: f32, b: f32| (a - b).abs() < 1e-5;
    let states = encoded.states_of(0);
    for (token, row) in states.chunks(64).enumerate() {
        for (column, found) in row.iter().enumerate() {
            let (encoder, inner) = match column.checked_sub(WIDTHS[0]) {
                None => (0, column),
                Some(inner) => (1, inner),
            };
            let expected = 2.0 * entry(encoder, ids[encoder][token], inner);
            assert!(near(*found, expected), "token {token} column {column}");
        }
    }
    for (column, found) in encoded.pooled_of(0).iter().enumerate() {
        let sum: f32 = ids[1].iter().map(|id| entry(2, *id, column)).sum();
        assert!(near(*found, sum / 8.0), "pooled {column}");
    }
    // An empty prompt is a prompt; an empty negative prompt is zeros.
    assert!(encoded.states_of(1).iter().any(|v| *v != 0.0));
    let zeros = encoded.states_of(2).iter().chain(encoded.pooled_of(2));
    assert!(zeros.into_iter().all(|v| *v == 0.0));
}

fn hgc(arguments: &[&str]) -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hgc"));
    let output = command
        .args(arguments)
        .args(["--format", "json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    results[0].clone()
}

#[test]
fn an_xl_pipeline_is_compiled_and_drawn_with() {
    let folder = pipeline();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (original, compiled, map) = (at(""), at("compiled"), at("map.png"));
    let sizes = ["--height", "16", "--width", "16", "--tokens", "8"];
    let mut words = vec!["compile", &original, "-o", &compiled, "--steps", "4"];
    words.extend(sizes);
    let report = hgc(&words);
    assert!(
        report["totals"]["reduction"].as_f64().unwrap() > 0.3,
        "{report}"
    );

    let draw = |pipeline: &str, prompt: &str, output: &str, more: &[&str]| {
        let output = at(output);
        let mut words = vec!["run", pipeline, "--prompt", prompt, "--control", &map];
        words.extend(["--steps", "4", "-o", &output]);
        words.extend(more);
        let report = hgc(&words);
        (report, picture::read(Path::new(&output)).unwrap())
    };
    let (_, plain) = draw(&original, "ab", "plain.png", &[]);
    let (_, other) = draw(&original, "abc", "other.png", &[]);
    assert!(
        picture::psnr(&plain, &other) < 60.0,
        "the prompt changes nothing"
    );
    let (_, weak) = draw(&original, "ab", "weak.png", &["--control-scale", "0"]);
    assert!(
        picture::psnr(&plain, &weak) < 60.0,
        "control changes nothing"
    );
    let (same, _) = draw(
        &original,
        "ab",
        "same.png",
        &["--compare", "--policy", "lossless"],
    );
    assert!(
        same["pictures"][0]["psnr"].as_f64().unwrap() > 60.0,
        "{same}"
    );
    let (_, cached) = draw(&compiled, "ab", "cached.png", &[]);
    let (compared, shown) = draw(&compiled, "ab", "compared.png", &["--compare"]);
    let psnr = compared["pictures"][0]["psnr"].as_f64().unwrap();
    assert!(psnr > 10.0 && psnr < 100.0, "{compared}");
    // The control map, original, cached and difference, below a line of text.
    assert_eq!(shown.dimensions(), (4 * 128, 12 + 128));
    let side = |n: u32| image::imageops::crop_imm(&shown, n * 128, 12, 128, 128).to_image();
    assert!(picture::psnr(&side(1), &plain) > 50.0);
    assert!(picture::psnr(&side(2), &cached) > 50.0);
}
