//! A process that is told to end leaves nothing half done. Alone in its file: no transaction
//! of this process goes on afterwards.

use std::fs;

use hgc::unstable::onnx::{Transaction, abandon_transactions};

#[test]
fn what_was_staged_is_removed() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let kept = folder.path().join("kept.onnx");
    fs::write(&kept, "old")?;
    let mut done = Transaction::new(false);
    done.add_bytes(&folder.path().join("done.bin"), b"whole")?;
    done.commit()?;

    let mut open = Transaction::new(true);
    open.add_bytes(&kept, b"new")?;
    open.add_bytes(&folder.path().join("new/deep/unet.onnx"), b"weights")?;
    abandon_transactions();

    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["done.bin", "kept.onnx"]);
    assert_eq!(fs::read(&kept)?, b"old");
    Ok(())
}
