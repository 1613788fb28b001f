//! External data follow their model.

use super::*;

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

/// Exporters may write a file for each tensor; the copy is one file.
#[test]
fn several_data_files_become_one() -> Outcome {
    let (from, to) = (source()?, tempdir()?);
    let dest = to.path().join("m.onnx");
    let mut files = Transaction::new(false);
    let mut open_ended = external("u", "a.bin", 16);
    open_ended.external_data.retain(|e| e.key() != "length");
    let given = model(vec![
        external("v", "b.bin", 16),
        external("w", "a.bin", 0),
        open_ended,
    ]);
    files.add_model(given, from.path(), &dest, &mut quiet)?;
    files.commit()?;
    assert_eq!(names(to.path())?, ["m.onnx", "m.onnx_data"]);
    let data = |offset| ("m.onnx_data".to_owned(), offset);
    assert_eq!(locations(&dest)?, [data(16), data(4096), data(4096 + 16)]);
    let joined = fs::read(to.path().join("m.onnx_data"))?;
    assert_eq!(joined[..32], [9; 32]);
    assert_eq!(joined[4096..], fs::read(from.path().join("a.bin"))?);
    // Each reference says where it ends, for it is not at the end of the file any more.
    let read = Model::read(&dest)?;
    let tensors = &read.proto.graph.as_ref().ok_or("no graph")?.initializer;
    for tensor in tensors {
        let reference = tensor.external().ok_or("no reference")?;
        assert_eq!(reference.length, tensor.byte_len());
    }
    Ok(())
}

/// As many as a large model has tensors; each once took a look at all the others.
#[test]
fn a_thousand_data_files_are_copied() -> Outcome {
    let (from, to) = (tempdir()?, tempdir()?);
    let mut tensors = Vec::new();
    for i in 0..1000u32 {
        let name = format!("w{i}.bin");
        fs::write(from.path().join(&name), i.to_le_bytes().repeat(12))?;
        tensors.push(external(&format!("w{i}"), &name, 0));
    }
    let dest = to.path().join("m.onnx");
    let mut files = Transaction::new(false);
    files.add_model(model(tensors), from.path(), &dest, &mut quiet)?;
    files.commit()?;
    assert_eq!(names(to.path())?, ["m.onnx", "m.onnx_data"]);
    let joined = fs::read(to.path().join("m.onnx_data"))?;
    for (i, (_, offset)) in locations(&dest)?.into_iter().enumerate() {
        let at = usize::try_from(offset)?;
        assert_eq!(joined[at..at + 4], u32::try_from(i)?.to_le_bytes());
    }
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
