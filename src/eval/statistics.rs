//! Means over scenes and how sure they are.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;
/// The same resamples every time.
const SEED: u64 = 0x6867_6300;

/// The mean; 0 of nothing.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The 95 % interval of the mean of paired differences, by bootstrap over pairs
/// (percentile method, 10000 resamples, fixed seed).
#[must_use]
pub fn interval(differences: &[f64]) -> [f64; 2] {
    if differences.is_empty() {
        return [0.0; 2];
    }
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let count = differences.len();
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<f64> = (0..count)
                .map(|_| differences[rng.random_range(0..count)])
                .collect();
            mean(&drawn)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    [means[RESAMPLES / 40], means[RESAMPLES - 1 - RESAMPLES / 40]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_mean() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let [low, high] = interval(&values);
        assert!(low < 4.5 && 4.5 < high, "{low} {high}");
        // The standard error is 0.287.
        assert!(high - low > 0.9 && high - low < 1.4, "{low} {high}");
        assert_eq!(interval(&[2.0; 8]), [2.0; 2]);
        assert_eq!(interval(&[]), [0.0; 2]);
    }
}
