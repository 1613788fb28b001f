//! Damaged and malicious files are refused by name and reason, and sound ones are not.

#![allow(clippy::panic)]

#[path = "common/hostile_cases/mod.rs"]
mod hostile_cases;

use std::error::Error;
use std::path::Path;

use hgc::unstable::onnx::proto::ModelProto;
use hgc::unstable::onnx::{Model, ReadError, make_node, tensor_f32};
use hostile_cases::cases;
use hostile_cases::models::{base, branch, neg, refer, sparse, value};
use hostile_cases::write::put;

#[test]
fn every_hostile_file_is_refused_by_name_and_reason() -> Result<(), Box<dyn Error>> {
    let mut failures = Vec::new();
    for case in cases() {
        let dir = tempfile::tempdir()?;
        let path = (case.write)(dir.path());
        let verdict = match Model::read(&path) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => {
                let text = error.to_string();
                let named = text.contains(case.text) && text.starts_with(&*path.to_string_lossy());
                if (case.expected)(&error) && named {
                    continue;
                }
                format!("{text}\n    {error:?}")
            }
        };
        failures.push(format!("{}: {verdict}", case.name));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn names_of_cases_are_unique() {
    let mut names: Vec<_> = cases().iter().map(|c| c.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

fn accepted(model: &ModelProto) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = put(dir.path(), model);
    let read = Model::read(&path)?;
    assert_eq!(read.proto, *model);
    Ok(())
}

#[test]
fn sound_models_are_accepted() -> Result<(), Box<dyn Error>> {
    accepted(&base())?;

    let mut default_of_an_input = base();
    let graph = default_of_an_input.graph.get_or_insert_default();
    graph.input.push(value("w"));
    accepted(&default_of_an_input)?;

    let mut absent_values = base();
    let graph = absent_values.graph.get_or_insert_default();
    graph
        .node
        .push(make_node("Clip", "clip", ["y", "", ""], ["z"]));
    graph
        .node
        .push(make_node("Dropout", "drop", ["y"], ["d", ""]));
    graph
        .node
        .push(make_node("TopK", "top", ["y"], ["", "", "i"]));
    accepted(&absent_values)?;

    // Captures from outside, and one name in both branches.
    accepted(&branch(&["e"], vec![neg("w", "mid"), neg("mid", "e")]))?;

    let mut later_outer_name = branch(&["t"], vec![neg("x", "t")]);
    let graph = later_outer_name.graph.get_or_insert_default();
    graph.node.push(neg("y", "t"));
    accepted(&later_outer_name)?;

    let mut with_sparse = base();
    let graph = with_sparse.graph.get_or_insert_default();
    graph.sparse_initializer.push(sparse("s"));
    graph.node.push(neg("s", "n"));
    accepted(&with_sparse)?;

    let mut custom_operators = base();
    let graph = custom_operators.graph.get_or_insert_default();
    graph.node[0].domain = Some("com.example".into());
    accepted(&custom_operators)?;

    let mut scalar_and_empty = base();
    let graph = scalar_and_empty.graph.get_or_insert_default();
    graph.initializer.push(tensor_f32("scalar", &[], &[1.0]));
    graph.initializer.push(tensor_f32("empty", &[0, 3], &[]));
    accepted(&scalar_and_empty)
}

#[test]
fn sound_references_are_accepted() -> Result<(), Box<dyn Error>> {
    let references: [&[(&str, &str)]; 4] = [
        &[("location", "w.bin")],
        &[("location", "./w.bin"), ("offset", "48"), ("length", "16")],
        &[("location", "w.bin"), ("checksum", "0123")],
        &[("location", "w.bin"), ("note", "a"), ("note", "b")],
    ];
    for entries in references {
        let mut model = base();
        refer(
            &mut model.graph.get_or_insert_default().initializer[0],
            entries,
        );
        accepted(&model)?;
    }
    Ok(())
}

/// Download caches keep files under their hash and link to them from a folder per revision.
#[cfg(unix)]
#[test]
fn a_linked_model_may_have_linked_data_next_to_its_target() -> Result<(), Box<dyn Error>> {
    use std::os::unix::fs::symlink;

    let dir = tempfile::tempdir()?;
    let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshot"));
    std::fs::create_dir(&blobs)?;
    std::fs::create_dir(&snapshot)?;
    let mut model = base();
    let weight = &mut model.graph.get_or_insert_default().initializer[0];
    refer(weight, &[("location", "weights")]);
    let blob = put(&blobs, &model);
    symlink(&blob, snapshot.join("m.onnx"))?;
    symlink(blobs.join("w.bin"), snapshot.join("weights"))?;
    Model::read(&snapshot.join("m.onnx"))?;
    Ok(())
}

/// Opening looks at weights neither inline nor outside.
#[cfg(unix)]
#[test]
fn weights_are_not_read() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let data = std::fs::File::create(dir.path().join("big.bin"))?;
    // A hole: reading it would take a while, looking it up does not.
    data.set_len(4 << 40)?;
    let mut model = base();
    let weight = &mut model.graph.get_or_insert_default().initializer[0];
    weight.dims = vec![1 << 40];
    refer(weight, &[("location", "big.bin")]);
    let start = std::time::Instant::now();
    Model::read(&put(dir.path(), &model))?;
    assert!(start.elapsed().as_secs() < 5);
    Ok(())
}

#[test]
fn inline_weights_are_slices_of_the_file() -> Result<(), Box<dyn Error>> {
    use prost::Message;

    let bytes = bytes::Bytes::from(base().encode_to_vec());
    let model = Model::from_bytes(bytes.clone(), Path::new("m.onnx"))?;
    let graph = model.proto.graph.unwrap_or_default();
    let raw = graph.initializer[0].raw_data.clone().unwrap_or_default();
    assert!(bytes.as_ptr_range().contains(&raw.as_ptr()));
    Ok(())
}

#[test]
fn every_prefix_of_a_model_is_refused_or_sound() {
    use prost::Message;

    let bytes = bytes::Bytes::from(branch(&["e"], vec![neg("x", "e")]).encode_to_vec());
    for len in 0..bytes.len() {
        match Model::from_bytes(bytes.slice(..len), Path::new("m.onnx")) {
            Ok(_) => panic!("a prefix of {len} bytes lacks the operator set"),
            Err(ReadError::Invalid(_) | ReadError::Truncated { .. } | ReadError::Empty { .. }) => {}
            Err(other) => panic!("{len}: {other:?}"),
        }
    }
}

/// A few thousand damaged variants of the sound models; the fuzz target goes on from here.
#[test]
fn mutants_never_panic_and_survive_if_accepted() -> Result<(), Box<dyn Error>> {
    use prost::Message;

    let sound = [
        base(),
        branch(&["e"], vec![neg("w", "mid"), neg("mid", "e")]),
    ];
    let sound = sound.map(|model| model.encode_to_vec());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let rounds = std::env::var("HGC_MUTANTS").map_or(Ok(5000), |n| n.parse::<usize>())?;
    let mut accepted = 0;
    for round in 0..rounds {
        let mut bytes = sound[round % sound.len()].clone();
        for _ in 0..=random(3) {
            let (at, with) = (random(bytes.len()), random(256) as u8);
            match random(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, with),
                2 => bytes[at] ^= 1 << (with % 8),
                _ => bytes[at] = with,
            }
        }
        let Ok(model) = Model::from_bytes(bytes.into(), Path::new("m.onnx")) else {
            continue;
        };
        accepted += 1;
        hgc::unstable::onnx::graph_hash(&model.proto);
        let mut encoded = Vec::new();
        hgc::unstable::onnx::encode_model(&model.proto, &mut encoded)?;
        // Bytes, not models: a mutant may hold a number that is unequal to itself.
        assert_eq!(ModelProto::decode(&*encoded)?.encode_to_vec(), encoded);
    }
    assert!(
        accepted > 0,
        "every mutant was refused, so nothing was tested"
    );
    Ok(())
}
