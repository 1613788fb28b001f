//! What `hgc tune` is asked for: steps, savings, a PSNR to keep.

use anyhow::bail;
use hgc::unstable::tune::{TuneError, Tuned, Unit};

/// Shares of the MACs that a frontier saves.
pub const FRONTIER: [f64; 7] = [0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75];

/// What budgets are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CostUnit {
    /// MACs of weight operators
    #[default]
    Macs,
    /// Seconds
    Time,
}

impl From<CostUnit> for Unit {
    fn from(unit: CostUnit) -> Self {
        match unit {
            CostUnit::Macs => Self::Macs,
            CostUnit::Time => Self::Time,
        }
    }
}

/// What a schedule decides for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Granularity {
    /// All blocks below the cut together
    #[default]
    Cut,
    /// Up to four parts of them, each within the one before
    Block,
}

impl Granularity {
    /// Cuts beside the first.
    pub fn inner_cuts(self) -> usize {
        match self {
            Self::Cut => 0,
            Self::Block => 3,
        }
    }
}

/// A number of steps, or a range to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// This many.
    One(usize),
    /// From the first to the second.
    Range(usize, usize),
}

impl Steps {
    /// Reads `20` or `8..30`.
    pub fn read(text: &str) -> Result<Self, String> {
        let one =
            |text: &str| -> Option<usize> { text.parse().ok().filter(|n| (1..=1000).contains(n)) };
        let found = match text.split_once("..") {
            Some((from, to)) => one(from)
                .zip(one(to.trim_start_matches('=')))
                .filter(|(from, to)| from <= to)
                .map(|(from, to)| Self::Range(from, to)),
            None => one(text).map(Self::One),
        };
        found
            .ok_or_else(|| format!("{text:?} is no number from 1 to 1000, and no range like 8..30"))
    }
}

/// A number from 1.
pub fn times(text: &str) -> Result<f64, String> {
    let found: Option<f64> = text.parse().ok();
    let found = found.filter(|t| (1.0..=1000.0).contains(t));
    found.ok_or_else(|| format!("{text:?} is no number from 1 to 1000"))
}

/// The largest saving at which the pictures of every case keep a PSNR: by halves, for what saves more
/// keeps less.
pub fn largest(
    psnr: f64,
    search: &mut dyn FnMut(f64) -> anyhow::Result<Tuned>,
) -> anyhow::Result<Tuned> {
    let (mut low, mut high) = (0, FRONTIER.len());
    let (mut best, mut nearest) = (None, f64::MIN);
    while low < high {
        let middle = usize::midpoint(low, high);
        let found = match search(FRONTIER[middle]) {
            // So few evaluations cannot save so much.
            Err(e) if matches!(e.downcast_ref(), Some(TuneError::Budget { .. })) => None,
            other => Some(other?),
        };
        let worst = found.as_ref().map_or(f64::MIN, |found| {
            found.fits.iter().map(|f| f.psnr).fold(f64::MAX, f64::min)
        });
        nearest = nearest.max(worst);
        if worst >= psnr {
            (best, low) = (found, middle + 1);
        } else {
            high = middle;
        }
    }
    match best {
        Some(found) => Ok(found),
        None => bail!(
            "no saving from {:.0} % on keeps {psnr} dB; {nearest:.1} dB is the most that was found: ask for \
             less, or give --save",
            100.0 * FRONTIER[0]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_a_number_or_a_range() {
        assert_eq!(Steps::read("20"), Ok(Steps::One(20)));
        assert_eq!(Steps::read("8..30"), Ok(Steps::Range(8, 30)));
        for wrong in ["0", "x", "30..8", "8..", "1001", "1..2..3"] {
            assert!(Steps::read(wrong).is_err(), "{wrong}");
        }
    }
}
