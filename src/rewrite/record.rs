//! The record of where everything original went, from which `strip` puts it back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Positions in a list of the original graph, as ranges: `"0-4,9,6"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Positions(pub Vec<usize>);

impl From<Positions> for String {
    fn from(positions: Positions) -> Self {
        let mut text = String::new();
        let mut rest = positions.0.as_slice();
        while let Some(&first) = rest.first() {
            let run = rest
                .iter()
                .enumerate()
                .take_while(|(i, p)| **p == first + i)
                .count();
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&first.to_string());
            if run > 1 {
                text.push_str(&format!("-{}", first + run - 1));
            }
            rest = &rest[run..];
        }
        text
    }
}

impl TryFrom<String> for Positions {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const MOST: usize = 1 << 28;
        let mut positions = Vec::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |s: &str| s.parse::<usize>().map_err(|e| format!("{part:?}: {e}"));
            let (first, last) = (parse(first)?, parse(last)?);
            if last < first || last - first > MOST || positions.len() > MOST {
                return Err(format!("{part:?} is not a range"));
            }
            positions.extend(first..=last);
        }
        Ok(Self(positions))
    }
}

/// What of the original graph one scope holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeRecord {
    /// Nodes, in the order in which they stand there.
    pub nodes: Positions,
    /// Initializers.
    pub initializers: Positions,
    /// Value declarations.
    pub value_info: Positions,
}

/// The whole record, kept in the model's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The main graph.
    pub main: ScopeRecord,
    /// Then-branches by name of their `If`.
    pub scopes: BTreeMap<String, ScopeRecord>,
    /// Original names by the names given to them.
    pub renamed: BTreeMap<String, String>,
    /// Number of metadata entries that the original model had.
    pub metadata: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let positions = Positions(vec![0, 1, 2, 9, 6, 7]);
        let text = String::from(positions.clone());
        assert_eq!(text, "0-2,9,6-7");
        assert_eq!(Positions::try_from(text), Ok(positions));
        assert_eq!(Positions::try_from(String::new()), Ok(Positions::default()));
        assert!(Positions::try_from("5-2".to_owned()).is_err());
        assert!(Positions::try_from("0-99999999999".to_owned()).is_err());
    }
}
