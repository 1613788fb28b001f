//! Files that are no sound models. One table for the library and the command line.

// Each test that includes this file uses a part of it, and none can go on without its files.
#![allow(dead_code, clippy::expect_used)]

use std::path::{Path, PathBuf};

use hgc::unstable::onnx::ReadError;

macro_rules! case {
    ($name:literal, $write:expr, $expected:pat, $text:literal) => {
        Case {
            name: $name,
            write: Box::new($write),
            expected: |e| matches!(e, $expected),
            text: $text,
        }
    };
}

macro_rules! graph {
    ($variant:ident) => {
        R::Invalid(V::Graph(G::$variant { .. }))
    };
}

macro_rules! tensor {
    ($variant:ident) => {
        R::Invalid(V::Tensor(T::$variant { .. }))
    };
}

macro_rules! external {
    ($variant:ident) => {
        R::Invalid(V::External(E::$variant { .. }))
    };
}

mod bytes;
mod external;
pub mod models;
mod names;
pub mod write;

/// One bad file.
pub struct Case {
    /// What is bad about it.
    pub name: &'static str,
    /// Writes it into an empty folder and returns the path to open.
    pub write: Box<dyn Fn(&Path) -> PathBuf>,
    /// Whether this is the error the library must give.
    pub expected: fn(&ReadError) -> bool,
    /// What the message must say besides the path.
    pub text: &'static str,
}

/// All bad files. Run `hgc inspect` on each of them too: the command must fail with `text`.
pub fn cases() -> Vec<Case> {
    let mut cases = bytes::files();
    cases.extend(bytes::payloads());
    cases.extend(external::references());
    cases.extend(names::names());
    cases.extend(names::orders());
    cases
}
