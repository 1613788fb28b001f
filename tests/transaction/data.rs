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
