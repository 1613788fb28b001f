//! Parts of the docs that are made from the code.

use std::fs;
use std::path::Path;

use hgc::unstable::plan::policy;

use crate::is_blessing;

/// The text between the marks of a part, in a file of the repository.
fn check(file: &str, part: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let whole = fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- made from the code: {part} -->\n"),
        "<!-- end -->\n",
    );
    let (before, rest) = whole.split_once(&begin).expect("the part begins");
    let (found, after) = rest.split_once(end).expect("the part ends");
    if is_blessing() {
        fs::write(path, format!("{before}{begin}{text}{end}{after}")).unwrap();
        return;
    }
    assert!(
        found == text,
        "{file}: {part} differs; BLESS=1 writes it anew:\n{text}"
    );
}

#[test]
fn tables_of_parameters() {
    check("docs/POLICIES.md", "parameters", &policy::markdown());
    check("docs/POLICIES.md", "policies", &policy::policies_markdown());
}
