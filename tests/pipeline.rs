//! Pipeline folders, tokenizers and pictures; what is wrong is named.
#![allow(clippy::unwrap_used)]

#[path = "common/wrap.rs"]
mod wrap;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use hgc::unstable::engine::Tensor;
use hgc::unstable::pipeline::tokenizer::Tokenizer;
use hgc::unstable::pipeline::{Folder, picture};
use image::{Rgb, RgbImage};

fn put(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// CLIP's files with a handful of words: `<w>` ends a word, pairs join from the left.
fn clip(folder: &Path) {
    let vocab = r#"{"a": 0, "b": 1, "c</w>": 2, "b</w>": 3, "ab": 4, "abc</w>": 5, "ab</w>": 6,
        "!</w>": 7, "<|startoftext|>": 8, "<|endoftext|>": 9, "!": 10}"#;
    put(folder, "vocab.json", vocab);
    put(
        folder,
        "merges.txt",
        "#version: 0.2\na b\nab c</w>\na b</w>\n",
    );
}

#[test]
fn clip_files_give_clip_tokens() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    put(
        folder.path(),
        "tokenizer_config.json",
        r#"{"model_max_length": 8}"#,
    );
    let tokenizer = Tokenizer::read(folder.path()).unwrap();
    let tokens = tokenizer.encode("ABC  ab!").unwrap();
    assert_eq!(tokens.ids, [8, 5, 6, 7, 9, 9, 9, 9]);
    assert_eq!(tokens.dropped, 0);
}

#[test]
fn long_prompts_keep_their_end_token() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let special = r#"{"model_max_length": 4, "pad_token": {"content": "!</w>"}}"#;
    put(folder.path(), "tokenizer_config.json", special);
    let tokenizer = Tokenizer::read(folder.path()).unwrap();
    let long = tokenizer.encode("abc ab abc").unwrap();
    assert_eq!((long.ids.as_slice(), long.dropped), (&[8, 5, 6, 9][..], 1));
    let short = tokenizer.encode("").unwrap();
    assert_eq!(short.ids, [8, 9, 7, 7]);
}

/// As SD2's files have it: the map pads with `!`, which is padding then wherever it stands.
#[test]
fn the_map_of_special_tokens_goes_before_an_older_configuration() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let ids = |configuration: &str| {
        put(folder.path(), "tokenizer_config.json", configuration);
        let tokenizer = Tokenizer::read(folder.path()).unwrap();
        tokenizer.encode("ab!").unwrap().ids
    };
    let older = r#"{"model_max_length": 6, "pad_token": "<|endoftext|>"}"#;
    assert_eq!(ids(older), [8, 6, 7, 9, 9, 9]);
    put(
        folder.path(),
        "special_tokens_map.json",
        r#"{"pad_token": {"content": "!"}}"#,
    );
    assert_eq!(ids(older), [8, 6, 10, 9, 10, 10]);
    let newer =
        r#"{"model_max_length": 6, "pad_token": "<|endoftext|>", "added_tokens_decoder": {}}"#;
    assert_eq!(ids(newer), [8, 6, 7, 9, 9, 9]);
}

#[test]
fn pictures_that_are_not_finite_are_refused() {
    let shape = [1, 3, 1, 1];
    let whole = Tensor::from_f32(&shape, &[0.0, 1.0, -1.0]).unwrap();
    let drawn = picture::from_tensor(&whole, Path::new("vae.onnx")).unwrap();
    assert_eq!(*drawn[0].get_pixel(0, 0), Rgb([128, 255, 0]));
    for bad in [f32::NAN, f32::INFINITY] {
        let broken = Tensor::from_f32(&shape, &[0.0, bad, 0.0]).unwrap();
        let error = picture::from_tensor(&broken, Path::new("vae.onnx")).unwrap_err();
        assert!(error.to_string().contains("vae.onnx"), "{error}");
    }
}

#[test]
fn missing_and_broken_parts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let says = |expected: &str| {
        let error = Folder::read(path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    says("text_encoder/model.onnx");
    put(path, "text_encoder/model.onnx", "");
    says("scheduler/scheduler_config.json");
    put(path, "scheduler/scheduler_config.json", "{}");
    says("vae_decoder/model.onnx");
    put(path, "vae_decoder/model.onnx", "");
    says("text_encoder/model.onnx: the file is empty");
    put(path, "text_encoder/model.onnx", wrap::empty());
    says("vae_decoder/model.onnx: the file is empty");
    put(path, "vae_decoder/model.onnx", wrap::empty());
    says("unet/model.onnx");
    put(path, "unet/model.onnx", "");
    says("unet/model.onnx");
    put(path, "unet/model.onnx", wrap::empty());
    put(path, "vae_decoder/config.json", "{");
    says("vae_decoder/config.json");
    put(
        path,
        "vae_decoder/config.json",
        r#"{"scaling_factor": 0.5}"#,
    );
    put(
        path,
        "model_index.json",
        r#"{"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}"#,
    );
    says("text_encoder_2/model.onnx");
    put(
        path,
        "model_index.json",
        r#"{"text_encoder_2": [null, null]}"#,
    );
    // A plan that lies there, as `hgc plan -o` may leave it, compiles nothing.
    put(path, "plan.toml", "policy = 1");
    put(path, "controlnet/other.onnx", "");
    put(path, "controlnet_1/model.onnx", "");
    for name in ["controlnet_10", "controlnet_2", "controlnet_depth"] {
        put(path, &format!("{name}/model.onnx"), "");
    }
    let found = Folder::read(path).unwrap();
    let names = [
        "/other.onnx",
        "_1/model.onnx",
        "_2/model.onnx",
        "_10/model.onnx",
    ];
    let names = names.into_iter().chain(["_depth/model.onnx"]);
    let expected: Vec<_> = names.map(|n| path.join(format!("controlnet{n}"))).collect();
    assert_eq!(found.controlnets, expected);
    assert_eq!((found.scaling_factor, found.down_sampling), (0.5, 8));
    assert!(found.plan.is_none());
    let error = Tokenizer::read(&found.tokenizers[0]).err().unwrap();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    let nowhere = Folder::read(&path.join("nowhere")).unwrap_err();
    assert!(nowhere.to_string().contains("nowhere"), "{nowhere}");
}

#[test]
fn equal_pictures_are_equal_and_others_are_not() {
    let shaded = |shift: u8| {
        RgbImage::from_fn(32, 24, |x, y| {
            let value = u8::try_from(x * 5 + y).unwrap();
            Rgb([value + shift, value, 200 - value])
        })
    };
    let (a, b) = (shaded(0), shaded(4));
    assert_eq!(
        picture::psnr(&a, &a).to_bits(),
        picture::HIGHEST_PSNR.to_bits()
    );
    assert!((picture::ssim(&a, &a) - 1.0).abs() < 1e-12);
    // A third of the values is off by 4.
    let expected = 10.0 * (255.0f64 * 255.0 / (16.0 / 3.0)).log10();
    assert!((picture::psnr(&a, &b) - expected).abs() < 1e-9);
    let similarity = picture::ssim(&a, &b);
    assert!(similarity < 1.0 && similarity > 0.9, "{similarity}");
    let shown = picture::difference(&a, &b);
    assert_eq!(shown.dimensions(), (32, 24));
    assert_eq!(*shown.get_pixel(0, 0), Rgb([16, 0, 0]));
}

#[test]
fn pictures_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.png");
    let drawn = RgbImage::from_pixel(8, 8, Rgb([1, 2, 3]));
    picture::write(&drawn, &file, false).unwrap();
    assert_eq!(picture::read(&file).unwrap(), drawn);
    let unknown = picture::write(&drawn, &folder.path().join("a.doc"), false).unwrap_err();
    assert!(unknown.to_string().contains("a.doc"), "{unknown}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    put(folder.path(), "b.png", "not a picture");
    let error = picture::read(&folder.path().join("b.png")).unwrap_err();
    assert!(error.to_string().contains("b.png"), "{error}");
}

/// Cameras and phones store a picture as the sensor saw it, and how to turn it.
#[test]
fn pictures_are_turned_as_their_metadata_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("turned.jpg");
    let picture = RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 255 } else { 0 }; 3]));
    let mut jpeg = Cursor::new(Vec::new());
    picture
        .write_to(&mut jpeg, image::ImageFormat::Jpeg)
        .unwrap();
    let plain = jpeg.into_inner();
    fs::write(&file, &plain).unwrap();
    assert_eq!(picture::read(&file).unwrap().dimensions(), (16, 8));
    // An Exif segment after the start of the image: orientation 6, a quarter turn clockwise.
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
    exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let turned = [&plain[..2], &[0xff, 0xe1], &length, &exif, &plain[2..]].concat();
    fs::write(&file, turned).unwrap();
    let found = picture::read(&file).unwrap();
    assert_eq!(found.dimensions(), (8, 16));
    assert!(found.get_pixel(4, 2).0[0] > 200 && found.get_pixel(4, 13).0[0] < 50);
}

/// A picture of 3.6 gigapixels is small as a file.
#[test]
fn pictures_that_would_fill_memory_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("huge.png");
    let mut png = Cursor::new(Vec::new());
    let picture = RgbImage::new(1, 1);
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let mut png = png.into_inner();
    // Width and height in the header, and its checksum.
    for place in [16, 20] {
        png[place..place + 4].copy_from_slice(&60_000u32.to_be_bytes());
    }
    let checksum = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&checksum);
    fs::write(&file, png).unwrap();
    let error = picture::read(&file).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("huge.png"), "{error}");
    assert!(cause.contains("limit"), "{cause}");
}

/// CRC-32 as PNG has it.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc));
    !bytes.iter().fold(u32::MAX, step)
}
