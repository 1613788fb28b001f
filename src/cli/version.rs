//! `hgc --version`: what exactly this program is.

use std::sync::LazyLock;

/// Version, commit, features and engines.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("HGC_COMMIT").unwrap_or("unknown (built outside of a checkout)");
    let embedded = cfg!(feature = "embedded");
    let features = if embedded { "cli, embedded" } else { "cli" };
    let engines = if embedded {
        "ONNX Runtime 1.24 or newer, loaded at run time; tract, embedded"
    } else {
        "ONNX Runtime 1.24 or newer, loaded at run time"
    };
    format!(
        "{}\ncommit:   {commit}\nfeatures: {features}\nengines:  {engines} \
         (`hgc doctor` shows which one runs)",
        env!("CARGO_PKG_VERSION")
    )
});
