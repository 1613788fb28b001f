//! Weights beyond the size of one file move outside.

use super::*;

/// A model with weights that are inline in every way, and nested.
fn heavy() -> ModelProto {
    let floats: Vec<f32> = (0..2000).map(|i| i as f32).collect();
    let mut typed = tensor_f32("typed", &[2000], &floats);
    typed.raw_data = None;
    typed.float_data = floats.clone();
    let branch = |name: &str| GraphProto {
        initializer: vec![tensor_f32(name, &[2000], &floats)],
        node: vec![make_node("Identity", "", [name], [format!("{name}_out")])],
        output: vec![ValueInfoProto {
            name: Some(format!("{name}_out")),
            ..ValueInfoProto::default()
        }],
        ..GraphProto::default()
    };
    let mut model = model(vec![
        tensor_bool("cond", &[], &[true]),
        tensor_f32("raw", &[2000], &floats),
        typed,
        tensor_f32("small", &[4], &[1.0; 4]),
    ]);
    let gate = make_node("If", "if", ["cond"], ["z"])
        .with_attr(attr_graph("then_branch", branch("then_w")))
        .with_attr(attr_graph("else_branch", branch("else_w")));
    model.graph.get_or_insert_default().node.push(gate);
    model
}

/// All weights of a heavy model, nested ones too.
fn all_weights(model: &ModelProto) -> Vec<TensorProto> {
    let graph = model.graph.clone().unwrap_or_default();
    let nested = graph.node.iter().flat_map(|n| n.subgraphs());
    let nested = nested.flat_map(|g| g.initializer.clone());
    graph.initializer.iter().cloned().chain(nested).collect()
}

#[test]
fn weights_beyond_one_file_move_outside() -> Outcome {
    let dir = source()?;
    let dest = dir.path().join("m.onnx");
    let mut files = Transaction::new(false).with_max_inline(10_000);
    let mut given = heavy();
    given
        .graph
        .get_or_insert_default()
        .initializer
        .push(external("e", "a.bin", 0));
    files.add_model(given.clone(), dir.path(), &dest, &mut quiet)?;
    files.commit()?;
    assert!(dest.metadata()?.len() < 10_000);

    let data = fs::read(dir.path().join("m.onnx_data"))?;
    let read = Model::read(&dest)?.proto;
    let mut moved = 0;
    for (was, is) in all_weights(&given).iter().zip(all_weights(&read)) {
        match is.external() {
            Some(at) if at.location == "m.onnx_data" => {
                assert_eq!(at.offset % 4096, 0);
                assert_eq!(at.length, Some(8000));
                let raw = &data[at.offset as usize..][..8000];
                let floats = was.to_f32s().ok_or("no floats")?;
                assert!(raw.chunks(4).eq(floats.iter().map(|f| f.to_le_bytes())));
                assert!(is.raw_data.is_none() && is.float_data.is_empty());
                moved += 1;
            }
            _ => assert_eq!(*was, is),
        }
    }
    assert_eq!(moved, 4);
    Ok(())
}

#[test]
fn moved_weights_and_copied_data_keep_apart() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let mut files = Transaction::new(false).with_max_inline(10_000);
    let mut given = heavy();
    given
        .graph
        .get_or_insert_default()
        .initializer
        .push(external("e", "a.bin", 0));
    files.add_model(given, from.path(), &to.path().join("m.onnx"), &mut quiet)?;
    files.commit()?;
    assert_eq!(
        names(to.path())?,
        ["m.onnx", "m.onnx_data", "m.onnx_data_1"]
    );
    Model::read(&to.path().join("m.onnx"))?;
    Ok(())
}

#[test]
fn weights_that_fit_stay_inside() -> Outcome {
    let dir = tempdir()?;
    let dest = dir.path().join("m.onnx");
    let mut files = Transaction::new(false);
    files.add_model(heavy(), dir.path(), &dest, &mut quiet)?;
    files.commit()?;
    assert_eq!(names(dir.path())?, ["m.onnx"]);
    assert_eq!(Model::read(&dest)?.proto, heavy());
    Ok(())
}

#[test]
fn constants_cannot_move() -> Outcome {
    let dir = tempdir()?;
    let mut given = model(Vec::new());
    let tensor = tensor_f32("", &[4000], &[0.0; 4000]);
    let node = make_node("Constant", "c", [""; 0], ["k"]).with_attr(attr_tensor("value", tensor));
    given.graph.get_or_insert_default().node.push(node);
    let mut files = Transaction::new(false).with_max_inline(10_000);
    let refused = files.add_model(given, dir.path(), &dir.path().join("m.onnx"), &mut quiet);
    assert!(matches!(
        refused,
        Err(WriteError::TooLarge { limit: 10_000, .. })
    ));
    drop(files);
    assert!(names(dir.path())?.is_empty());
    Ok(())
}
