//! Generates the ONNX types from `proto/onnx.proto`, without a `protoc` on the machine, and a
//! table of their fields, by which `src/onnx/wire.rs` finds what decoding would drop.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use protox::prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/onnx.proto");
    tell_commit();
    let descriptors = protox::compile(["proto/onnx.proto"], ["proto"])?;
    let pool = DescriptorPool::from_file_descriptor_set(descriptors.clone())?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("onnx_fields.rs"), field_table(&pool)?)?;
    prost_build::Config::new()
        // Weights stay slices of the mapped file.
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}

/// The commit that is built, for `hgc --version`; nothing in a published crate.
fn tell_commit() {
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    let hash = Command::new("git")
        .args(["rev-parse", "--short=10", "HEAD"])
        .output();
    let hash = hash.ok().filter(|o| o.status.success());
    let hash = hash.and_then(|o| String::from_utf8(o.stdout).ok());
    // A checkout of something else around an unpacked crate has no `.git` here.
    if let Some(hash) = hash.filter(|_| Path::new(".git").exists()) {
        println!("cargo::rustc-env=HGC_COMMIT={}", hash.trim());
    }
}

/// An array literal: per message its name and, per field, the number and the index of the
/// message it holds.
fn field_table(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let messages: Vec<MessageDescriptor> = pool.all_messages().collect();
    let mut table = String::from("&[\n");
    for message in &messages {
        write!(table, "    ({:?}, &[", message.full_name())?;
        for field in message.fields() {
            let child = match field.kind() {
                Kind::Message(child) => messages.iter().position(|m| *m == child),
                _ => None,
            };
            write!(table, "({}, {child:?}), ", field.number())?;
        }
        table.push_str("]),\n");
    }
    table.push_str("]\n");
    Ok(table)
}
