//! What a search does for what it may cost.

/// What a search does for its effort.
pub(super) struct Effort {
    /// Whether schedules are looked for with weights.
    pub damps: bool,
    /// Generations for annealing.
    pub annealed: f64,
    /// Schedules that are drawn again on other pictures.
    pub finalists: usize,
    /// How often weights of the best are fitted.
    pub rounds: usize,
}

impl Effort {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    /// How `all` generations are spent, of which `one` costs so much of an original with caches; the last
    /// draws `fresh` times as many pictures, and `more` times as many once. So many formulas are drawn, and
    /// weights are fitted to some of them.
    pub fn of(
        all: f64,
        one: f64,
        [fresh, more]: [f64; 2],
        (formulas, fits): (usize, usize),
    ) -> Self {
        let damps = all >= 15.0;
        let finalists = ((all / 20.0) as usize).clamp(1, 4);
        let rounds = ((all / 20.0) as usize).clamp(1, 4);
        // Beside what is recorded runs the original; each fit is tried in several ways.
        let fit = |judged: f64| 1.0 + one + 4.0 * one * judged;
        let last = (finalists + 1) as f64 * (one * fresh + fit(fresh))
            + (rounds - 1) as f64 * fit(fresh)
            + (finalists + 1) as f64 * one * more
            + fresh
            + more;
        let fits = if damps { fits as f64 } else { 0.0 };
        let first = formulas as f64 * one + fits * (one + fit(1.0));
        Self {
            damps,
            annealed: (all - first - last).max(0.0),
            finalists,
            rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Effort;

    #[test]
    fn all_is_spent_and_little_is_not_overspent() {
        let usual = Effort::of(60.0, 0.35, [1.0, 2.0], (12, 2));
        assert!(usual.damps && usual.finalists == 3);
        assert!(usual.annealed > 20.0 && usual.annealed < 60.0);
        let little = Effort::of(3.0, 0.35, [1.0, 2.0], (12, 2));
        assert!(!little.damps && little.finalists == 1 && little.rounds == 1);
        assert!(little.annealed < 1e-9);
    }
}
