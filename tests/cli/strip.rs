//! `hgc strip`.

use std::fs;
use std::path::Path;

use hgc::unstable::onnx::{Model, graph_hash};

use crate::{BAD, Pipeline, Run, hgc, small, to};

fn compile(pipeline: &Pipeline, out: &Path) {
    let unet = pipeline.unet();
    let mut words = vec![unet.as_os_str()];
    words.extend(to(out));
    hgc("compile", &words, &small("")).ok();
}

fn strip(model: &Path, out: &Path, options: &str) -> Run {
    let mut words = vec![model.as_os_str()];
    words.extend(to(out));
    hgc("strip", &words, options)
}

#[test]
fn the_original_comes_back() {
    let pipeline = Pipeline::new();
    let original = Model::read(&pipeline.unet()).unwrap();
    let folder = pipeline.path().join("unet");
    compile(&pipeline, &folder);
    let back = folder.join("back.onnx");
    strip(&folder.join("unet.onnx"), &back, "").ok();
    // Nothing moved: every field is that of the original.
    assert_eq!(Model::read(&back).unwrap().proto, original.proto);
    assert!(!folder.join("back.onnx_data").exists());

    // Elsewhere only the place of the weights differs.
    let out = pipeline.beside("out");
    compile(&pipeline, &out);
    let back = pipeline.beside("elsewhere/back.onnx");
    strip(&out.join("unet.onnx"), &back, "").ok();
    let stripped = Model::read(&back).unwrap().proto;
    assert_eq!(graph_hash(&stripped), graph_hash(&original.proto));
    assert_eq!(stripped.metadata_props, original.proto.metadata_props);
}

#[test]
fn nothing_is_overwritten() {
    let pipeline = Pipeline::new();
    let out = pipeline.beside("out");
    compile(&pipeline, &out);
    let compiled = out.join("unet.onnx");
    let before = fs::read(&compiled).unwrap();
    strip(&compiled, &compiled, "--force").fails(BAD, &["is an input"]);
    strip(&compiled, &out.join("unet.onnx_data"), "--force").fails(BAD, &["is an input"]);
    assert_eq!(fs::read(&compiled).unwrap(), before);
    let back = out.join("back.onnx");
    strip(&compiled, &back, "").ok();
    strip(&compiled, &back, "").fails(BAD, &["exists already"]);
    strip(&compiled, &back, "--force").ok();
}

#[test]
fn an_original_cannot_be_stripped() {
    let pipeline = Pipeline::new();
    let back = pipeline.beside("back.onnx");
    strip(&pipeline.unet(), &back, "").fails(BAD, &["cannot strip", "not compiled by hgc"]);
    assert!(!back.exists());
}
