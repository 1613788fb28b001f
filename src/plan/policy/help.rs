//! What a parameter is for, for the command line and the docs.

use super::{ALL, Policy};
use crate::plan::parameter::Parameter;

/// Policies that take a parameter, by the default that they have.
#[must_use]
pub fn defaults(parameter: &Parameter) -> Vec<(Option<&'static str>, Vec<&'static str>)> {
    let mut found: Vec<(Option<&str>, Vec<&str>)> = Vec::new();
    for policy in ALL {
        let mut uses = policy.uses().iter();
        let Some(used) = uses.find(|u| u.parameter.name == parameter.name) else {
            continue;
        };
        let text = used.default_text();
        match found.iter_mut().find(|(default, _)| *default == text) {
            Some((_, policies)) => policies.push(policy.name()),
            None => found.push((text, vec![policy.name()])),
        }
    }
    found
}

/// A sentence, the policies that take it, and their defaults.
#[must_use]
pub fn help(parameter: &Parameter) -> String {
    let found = defaults(parameter);
    let policies: Vec<&str> = ALL
        .iter()
        .map(|p| p.name())
        .filter(|n| found.iter().any(|(_, names)| names.contains(n)))
        .collect();
    let told: Vec<String> = match found.as_slice() {
        [(Some(text), _)] => vec![(*text).to_owned()],
        several => several
            .iter()
            .filter_map(|(text, names)| Some(format!("{} with {}", (*text)?, names.join(", "))))
            .collect(),
    };
    let defaults = match told.is_empty() {
        true => String::new(),
        false => format!(" [default: {}]", told.join("; ")),
    };
    format!("{} ({}){defaults}", parameter.doc, policies.join(", "))
}

/// The table of parameters in docs/POLICIES.md.
#[must_use]
pub fn markdown() -> String {
    let mut text =
        "| parameter | values | what it decides | default |\n|---|---|---|---|\n".to_owned();
    for parameter in crate::plan::parameter::ALL {
        let cells: Vec<String> = defaults(parameter)
            .iter()
            .map(|(default, names)| format!("{}: {}", names.join(", "), default.unwrap_or("none")))
            .collect();
        let (name, kind) = (parameter.name, parameter.kind.takes());
        text.push_str(&format!(
            "| `{name}` | {kind} | {} | {} |\n",
            parameter.doc,
            cells.join("; ")
        ));
    }
    text
}

/// Name and purpose of every policy, for docs/POLICIES.md.
#[must_use]
pub fn policies_markdown() -> String {
    let row = |p: &&dyn Policy| format!("| `{}` | {} |\n", p.name(), p.about());
    let rows: String = ALL.iter().map(row).collect();
    format!("| policy | what it does |\n|---|---|\n{rows}")
}
