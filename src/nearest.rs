//! What a mistyped name may have meant.

/// `; did you mean NAME?` for the one of `known` that is most like `name`, if one is.
pub fn suggestion<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    // Names of a megabyte are compared by nobody.
    if name.len() > 64 {
        return String::new();
    }
    let distances = known
        .into_iter()
        .map(|k| (strsim::osa_distance(name, k), k));
    let best = distances.min_by_key(|(distance, _)| *distance);
    match best {
        // A letter in three may be wrong, missing or swapped with the next.
        Some((distance, known)) if distance <= (known.len() / 3).max(1) => {
            format!("; did you mean {known}?")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_alike_are_suggested() {
        let known = ["hgc", "hgc-paper", "deepcache", "lambda-inter"];
        assert_eq!(suggestion("hcg", known), "; did you mean hgc?");
        assert_eq!(suggestion("deep-cache", known), "; did you mean deepcache?");
        assert_eq!(
            suggestion("lamda-inter", known),
            "; did you mean lambda-inter?"
        );
        assert_eq!(suggestion("tomato", known), "");
        assert_eq!(suggestion(&"x".repeat(1 << 20), known), "");
    }
}
