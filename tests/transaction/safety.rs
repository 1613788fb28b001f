//! Nothing is lost, overwritten or left half written.

use super::*;

#[test]
fn existing_files_need_force() -> Outcome {
    let dir = tempdir()?;
    let dest = dir.path().join("plan.toml");
    fs::write(&dest, "old")?;
    let refused = Transaction::new(false).add_bytes(&dest, b"new");
    let text = refused.map_err(|e| e.to_string()).err().unwrap_or_default();
    assert!(
        text.contains("plan.toml") && text.contains("exists already"),
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
