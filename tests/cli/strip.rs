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

/// Converters that do not look into branches leave graphs that are wrong, or are no longer ours.
#[test]
fn what_another_tool_changed_is_told_so() {
    let pipeline = Pipeline::new();
    let out = pipeline.beside("out");
    compile(&pipeline, &out);
    let compiled = out.join("unet.onnx");
    let model = Model::read(&compiled).unwrap().proto;
    let write = |change: &dyn Fn(&mut hgc::unstable::onnx::proto::GraphProto)| {
        let mut model = model.clone();
        change(model.graph.as_mut().unwrap());
        let mut bytes = Vec::new();
        hgc::unstable::onnx::encode_model(&model, &mut bytes).unwrap();
        fs::write(&compiled, bytes).unwrap();
        strip(&compiled, &out.join("back.onnx"), "")
    };
    // A value that only a branch reads is gone.
    let order = "convert, optimise and quantise the original, then compile it";
    write(&|graph| drop(graph.node.remove(0))).fails(BAD, &["unet.onnx", order]);
    // A node was put in.
    let more = |graph: &mut hgc::unstable::onnx::proto::GraphProto| {
        let node = hgc::unstable::onnx::make_node("Identity", "more", ["sample"], ["more"]);
        graph.node.push(node);
    };
    write(&more).fails(BAD, &["changed after it was compiled", "then compile it"]);
}
