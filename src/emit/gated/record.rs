//! The record of where everything original went, from which `strip` puts it back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Positions in a list of the original graph, as ranges: `"0-4,9,6"`. They are not written
/// out: a hostile file may say anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Positions(Vec<(usize, usize)>);

impl Positions {
    /// Ranges of the given positions, in their order.
    #[must_use]
    pub fn of(positions: &[usize]) -> Self {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for &position in positions {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == position => *last = position,
                _ => ranges.push((position, position)),
            }
        }
        Self(ranges)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        let lengths = self.0.iter().map(|(first, last)| last - first);
        lengths.fold(0, |sum, n| sum.saturating_add(n).saturating_add(1))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl From<Positions> for String {
    fn from(positions: Positions) -> Self {
        let text = |(first, last): &(usize, usize)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        };
        positions.0.iter().map(text).collect::<Vec<_>>().join(",")
    }
}

impl TryFrom<String> for Positions {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut ranges = Vec::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |s: &str| s.parse::<usize>().map_err(|e| format!("{part:?}: {e}"));
            let (first, last) = (parse(first)?, parse(last)?);
            if last < first {
                return Err(format!("{part:?} is not a range"));
            }
            ranges.push((first, last));
        }
        Ok(Self(ranges))
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
    /// The original's version of the format, where that is too old for branches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ir_version: Option<i64>,
    /// Nodes whose domain the original spells `ai.onnx`.
    #[serde(default, skip_serializing_if = "Positions::is_empty")]
    pub spelled: Positions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let positions = Positions::of(&[0, 1, 2, 9, 6, 7]);
        let text = String::from(positions.clone());
        assert_eq!(text, "0-2,9,6-7");
        assert_eq!(Positions::try_from(text), Ok(positions));
        assert_eq!(Positions::try_from(String::new()), Ok(Positions::default()));
        assert!(Positions::try_from("5-2".to_owned()).is_err());
        // Costs nothing, whatever it says.
        let most = format!("0-{0},0-{0}", usize::MAX);
        assert_eq!(Positions::try_from(most).map(|p| p.count()), Ok(usize::MAX));
    }
}
