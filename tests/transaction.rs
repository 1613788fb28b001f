//! Files appear together or not at all, inputs stay, and weights follow their model.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use hgc::onnx::proto::tensor_proto::{DataLocation, DataType};
use hgc::onnx::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use hgc::onnx::{
    Model, Transaction, WriteError, attr_graph, attr_tensor, make_node, tensor_bool, tensor_f32,
};
use tempfile::{TempDir, tempdir};

type Outcome = Result<(), Box<dyn Error>>;

/// A model with these weights.
fn model(weights: Vec<TensorProto>) -> ModelProto {
    let value = |name: &str| ValueInfoProto {
        name: Some(name.into()),
        ..ValueInfoProto::default()
    };
    ModelProto {
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        graph: Some(GraphProto {
            input: vec![value("x")],
            output: vec![value("y")],
            node: vec![make_node("Neg", "neg", ["x"], ["y"])],
            initializer: weights,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// A weight of four floats at `offset` of `location`.
fn external(name: &str, location: &str, offset: u64) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    TensorProto {
        name: Some(name.into()),
        data_type: Some(DataType::Float as i32),
        dims: vec![4],
        data_location: Some(DataLocation::External as i32),
        external_data: vec![
            entry("location", location.into()),
            entry("offset", offset.to_string()),
            entry("length", "16".into()),
        ],
        ..TensorProto::default()
    }
}

/// A folder with two data files in it.
fn source() -> std::io::Result<TempDir> {
    let dir = tempdir()?;
    fs::write(dir.path().join("a.bin"), (0..64).collect::<Vec<u8>>())?;
    fs::write(dir.path().join("b.bin"), [9; 32])?;
    Ok(dir)
}

/// Names and contents of everything in a folder.
fn listing(dir: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let contents = if entry.file_type()?.is_dir() {
            Vec::new()
        } else {
            assert!(entry.file_type()?.is_file(), "{name} is a link");
            fs::read(entry.path())?
        };
        files.insert(name, contents);
    }
    Ok(files)
}

fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    Ok(listing(dir)?.into_keys().collect())
}

fn weights(path: &Path) -> Result<Vec<TensorProto>, Box<dyn Error>> {
    Ok(Model::read(path)?
        .proto
        .graph
        .unwrap_or_default()
        .initializer)
}

fn locations(path: &Path) -> Result<Vec<(String, u64)>, Box<dyn Error>> {
    let external = weights(path)?.into_iter().filter_map(|t| t.external());
    Ok(external.map(|e| (e.location, e.offset)).collect())
}

fn quiet(_: u64, _: u64) {}

#[test]
fn data_in_the_same_folder_are_shared() -> Outcome {
    let dir = source()?;
    let dest = dir.path().join("out.onnx");
    let mut files = Transaction::new(false);
    let other_spelling = dir.path().join(".");
    let given = model(vec![external("w", "a.bin", 16)]);
    files.add_model(given, &other_spelling, &dest, &mut quiet)?;
    assert_eq!(files.commit()?, std::slice::from_ref(&dest));
    assert_eq!(names(dir.path())?, ["a.bin", "b.bin", "out.onnx"]);
    assert_eq!(locations(&dest)?, [("a.bin".into(), 16)]);
    Ok(())
}

/// In a download cache the data next to a model are links, which a new model must not rely on.
#[cfg(unix)]
#[test]
fn linked_data_in_the_same_folder_are_copied() -> Outcome {
    let (blobs, dir) = (source()?, tempdir()?);
    let link = dir.path().join("w");
    std::os::unix::fs::symlink(blobs.path().join("a.bin"), &link)?;
    let dest = dir.path().join("m.onnx");
    let mut files = Transaction::new(false);
    files.add_model(
        model(vec![external("w", "w", 16)]),
        dir.path(),
        &dest,
        &mut quiet,
    )?;
    files.commit()?;
    assert_eq!(locations(&dest)?, [("m.onnx_data".into(), 16)]);
    Ok(())
}

#[test]
fn data_follow_into_another_folder() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let dest = to.path().join("new/deep/unet.onnx");
    let mut steps = Vec::new();
    let mut files = Transaction::new(false);
    let given = model(vec![
        external("v", "a.bin", 0),
        external("w", "./a.bin", 48),
    ]);
    files.add_model(given, from.path(), &dest, &mut |done, total| {
        steps.push((done, total))
    })?;
    let written = files.commit()?;
    assert_eq!(
        written,
        [dest.with_file_name("unet.onnx_data"), dest.clone()]
    );
    let data = ("unet.onnx_data".to_owned(), 0);
    assert_eq!(locations(&dest)?, [data.clone(), (data.0, 48)]);
    assert_eq!(fs::read(&written[0])?, fs::read(from.path().join("a.bin"))?);
    assert!(steps.is_sorted());
    assert!(steps.last().is_some_and(|(done, total)| done == total));
    Ok(())
}

#[test]
fn several_data_files_keep_apart() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let dest = to.path().join("m.onnx");
    let mut files = Transaction::new(false);
    let given = model(vec![external("v", "b.bin", 16), external("w", "a.bin", 0)]);
    files.add_model(given, from.path(), &dest, &mut quiet)?;
    files.commit()?;
    assert_eq!(
        names(to.path())?,
        ["m.onnx", "m.onnx_data", "m.onnx_data_1"]
    );
    assert_eq!(
        locations(&dest)?,
        [("m.onnx_data".into(), 16), ("m.onnx_data_1".into(), 0)]
    );
    assert_eq!(fs::read(to.path().join("m.onnx_data"))?, [9; 32]);
    Ok(())
}

#[test]
fn models_with_common_data_share_the_copy() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let mut files = Transaction::new(false);
    for name in ["full.onnx", "reuse.onnx"] {
        let given = model(vec![external("w", "a.bin", 0)]);
        files.add_model(given, from.path(), &to.path().join(name), &mut quiet)?;
    }
    files.commit()?;
    assert_eq!(
        names(to.path())?,
        ["full.onnx", "full.onnx_data", "reuse.onnx"]
    );
    let shared = locations(&to.path().join("reuse.onnx"))?;
    assert_eq!(shared, [("full.onnx_data".into(), 0)]);
    Ok(())
}

#[test]
fn existing_files_need_force() -> Outcome {
    let dir = tempdir()?;
    let dest = dir.path().join("plan.toml");
    fs::write(&dest, "old")?;
    let refused = Transaction::new(false).add_bytes(&dest, b"new");
    let text = refused.map_err(|e| e.to_string()).err().unwrap_or_default();
    assert!(
        text.contains("plan.toml") && text.contains("--force"),
        "{text}"
    );
    assert_eq!(fs::read(&dest)?, b"old");

    let mut files = Transaction::new(true);
    files.add_bytes(&dest, b"new")?;
    assert_eq!(fs::read(&dest)?, b"old");
    files.commit()?;
    assert_eq!(fs::read(&dest)?, b"new");
    assert_eq!(names(dir.path())?, ["plan.toml"]);
    Ok(())
}

#[test]
fn a_file_that_appears_meanwhile_is_kept() -> Outcome {
    let dir = tempdir()?;
    let mut files = Transaction::new(false);
    files.add_bytes(&dir.path().join("a"), b"1")?;
    files.add_bytes(&dir.path().join("b"), b"2")?;
    fs::write(dir.path().join("b"), "theirs")?;
    assert!(matches!(files.commit(), Err(WriteError::Exists { .. })));
    assert_eq!(
        listing(dir.path())?,
        BTreeMap::from([("b".into(), b"theirs".to_vec())])
    );
    Ok(())
}

#[test]
fn inputs_are_safe_under_every_name() -> Outcome {
    let dir = source()?;
    let input = dir.path().join("a.bin");
    let hard = dir.path().join("hard");
    fs::hard_link(&input, &hard)?;
    let mut paths = vec![input.clone(), dir.path().join("./a.bin"), hard];
    #[cfg(unix)]
    {
        let soft = dir.path().join("soft");
        std::os::unix::fs::symlink(&input, &soft)?;
        paths.push(soft);
    }
    for path in paths {
        let mut files = Transaction::new(true);
        files.protect(&input);
        let refused = files.add_bytes(&path, b"x");
        assert!(
            matches!(refused, Err(WriteError::Protected { .. })),
            "{path:?}"
        );
    }
    // A transaction protects by itself what it copies from or refers to.
    let mut files = Transaction::new(true);
    let given = model(vec![external("w", "a.bin", 0)]);
    files.add_model(given, dir.path(), &dir.path().join("m.onnx"), &mut quiet)?;
    let refused = files.copy_file(&dir.path().join("b.bin"), &input, &mut quiet);
    assert!(matches!(refused, Err(WriteError::Protected { .. })));
    Ok(())
}

#[test]
fn folders_and_devices_are_not_replaced() -> Outcome {
    let dir = tempdir()?;
    let mut paths = vec![
        dir.path().to_owned(),
        PathBuf::from("/"),
        dir.path().join(".."),
    ];
    if cfg!(unix) {
        paths.extend(["/dev/null", "/dev/zero"].map(PathBuf::from));
    }
    for path in paths {
        let refused = Transaction::new(true).add_bytes(&path, b"x");
        assert!(
            matches!(refused, Err(WriteError::NotAFile { .. })),
            "{path:?}"
        );
    }
    Ok(())
}

#[test]
fn one_name_for_two_outputs_is_refused() -> Outcome {
    let dir = tempdir()?;
    let mut files = Transaction::new(true);
    files.add_bytes(&dir.path().join("a"), b"1")?;
    let refused = files.add_bytes(&dir.path().join("./a"), b"2");
    assert!(matches!(refused, Err(WriteError::Twice { .. })));
    Ok(())
}

#[test]
fn a_dropped_transaction_leaves_nothing() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let mut files = Transaction::new(false);
    let given = model(vec![external("w", "a.bin", 0)]);
    files.add_model(
        given,
        from.path(),
        &to.path().join("x/y/m.onnx"),
        &mut quiet,
    )?;
    let hidden = names(&to.path().join("x/y"))?;
    assert!(
        hidden
            .iter()
            .all(|n| n.starts_with(".m.onnx") && n.contains(".tmp-")),
        "{hidden:?}"
    );
    drop(files);
    assert!(names(to.path())?.is_empty());
    Ok(())
}

#[test]
fn missing_data_fail_the_model_and_leave_nothing() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let mut files = Transaction::new(false);
    let given = model(vec![
        external("v", "a.bin", 0),
        external("w", "gone.bin", 0),
    ]);
    let failed = files.add_model(given, from.path(), &to.path().join("x/m.onnx"), &mut quiet);
    assert!(failed.is_err_and(|e| e.to_string().contains("gone.bin")));
    drop(files);
    assert!(names(to.path())?.is_empty());
    Ok(())
}

#[test]
fn a_failed_commit_puts_everything_back() -> Outcome {
    let dir = tempdir()?;
    let (a, b, c) = (
        dir.path().join("a"),
        dir.path().join("b"),
        dir.path().join("c"),
    );
    fs::write(&a, "old")?;
    let mut files = Transaction::new(true);
    files.add_bytes(&a, b"new")?;
    files.add_bytes(&b, b"new")?;
    files.add_bytes(&c, b"new")?;
    fs::create_dir(&c)?;
    assert!(matches!(files.commit(), Err(WriteError::NotAFile { .. })));
    let left = BTreeMap::from([("a".into(), b"old".to_vec()), ("c".into(), Vec::new())]);
    assert_eq!(listing(dir.path())?, left);
    Ok(())
}

#[test]
fn copies_are_files_of_their_own() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let (src, dest) = (from.path().join("a.bin"), to.path().join("b"));
    let mut files = Transaction::new(false);
    files.copy_file(&src, &dest, &mut quiet)?;
    files.commit()?;
    fs::write(&src, "changed")?;
    assert_eq!(fs::read(&dest)?.len(), 64);
    Ok(())
}

#[cfg(unix)]
#[test]
fn new_files_have_usual_permissions() -> Outcome {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempdir()?;
    let mut files = Transaction::new(false);
    files.add_bytes(&dir.path().join("a"), b"1")?;
    files.commit()?;
    fs::write(dir.path().join("b"), "2")?;
    let mode = |name: &str| {
        dir.path()
            .join(name)
            .metadata()
            .map(|m| m.permissions().mode())
    };
    assert_eq!(mode("a")?, mode("b")?);
    Ok(())
}

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
