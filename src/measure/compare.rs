//! Comparing outputs.

/// How two sets of outputs compare.
#[derive(Clone, Copy)]
pub struct Comparison {
    /// Bit by bit.
    pub same: bool,
    /// Within the tolerance.
    pub within: bool,
    /// Largest absolute difference.
    pub difference: f64,
    /// Tolerance.
    pub allowed: f64,
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            same: true,
            within: true,
            difference: 0.0,
            allowed: 0.0,
        }
    }
}

impl Comparison {
    /// Both together: the worse difference, with its tolerance.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let worse = other.difference > self.difference || other.difference.is_nan();
        let (difference, allowed) = if worse || self.allowed == 0.0 {
            (other.difference, other.allowed)
        } else {
            (self.difference, self.allowed)
        };
        Self {
            same: self.same && other.same,
            within: self.within && other.within,
            difference,
            allowed,
        }
    }
}
