//! From shares to refresh steps.
//!
//! With `N` steps, `lambda_inter` gives `n = max(1, round(lambda_inter * N))` refresh
//! steps of the deeper blocks, dense at the start and sparse at the end:
//!
//! `r_0 = 0`, `r_k = max(r_{k-1} + 1, floor(N * (k / n)^1.5))`.
//!
//! `lambda_intra` picks `m = max(1, round(lambda_intra * L))` of the `L` steps on which
//! the enclosing block refreshes, evenly: positions `floor(j * L / m)`.
//!
//! Worked example, `N = 20`, `lambda_inter = 0.3`, `lambda_intra = 0.5`: `n = 6`, so
//! `N * (k/6)^1.5` is 0, 1.36, 3.85, 7.07, 10.89, 15.21 and the blocks refresh on
//! steps 0, 1, 3, 7, 10, 15. Of these 6, `m = 3` at positions 0, 2, 4: the modules
//! inside refresh on steps 0, 3, 10.

/// Exponent of the refresh spacing: 1 is even, larger is denser at the start.
pub const SPACING: f64 = 1.5;

/// Share of the weight-operator MACs of UNet and ControlNets together that runs on a reuse
/// step where no cut is given: the outermost level of SD1.5 with one ControlNet.
pub const SHALLOW: f64 = 0.14;

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn share_of(share: f64, count: usize) -> usize {
    ((share * count as f64).round() as usize).clamp(1, count.max(1))
}

/// Refresh steps of the deeper blocks.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
pub fn inter(steps: usize, lambda: f64) -> Vec<usize> {
    let count = share_of(lambda, steps);
    let mut refresh = vec![0];
    for k in 1..count {
        let spread = (steps as f64 * (k as f64 / count as f64).powf(SPACING)).floor() as usize;
        let after = refresh.last().map_or(0, |r| r + 1);
        if after < steps {
            refresh.push(spread.max(after));
        }
    }
    refresh
}

/// The refresh steps of modules inside a block that refreshes on `enclosing`.
#[must_use]
pub fn intra(enclosing: &[usize], lambda: f64) -> Vec<usize> {
    let count = share_of(lambda, enclosing.len());
    (0..count)
        .filter_map(|j| enclosing.get(j * enclosing.len() / count))
        .copied()
        .collect()
}

/// Every `interval`-th of the given steps.
#[must_use]
pub fn every(steps: &[usize], interval: usize) -> Vec<usize> {
    steps.iter().copied().step_by(interval.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_example() {
        assert_eq!(inter(20, 0.3), [0, 1, 3, 7, 10, 15]);
        assert_eq!(intra(&inter(20, 0.3), 0.5), [0, 3, 10]);
    }

    #[test]
    fn shares_at_their_ends() {
        assert_eq!(inter(20, 0.0), [0]);
        assert_eq!(inter(5, 1.0), [0, 1, 2, 3, 4]);
        assert_eq!(intra(&[0, 4, 9], 1.0), [0, 4, 9]);
        assert_eq!(every(&[0, 1, 3, 7], 2), [0, 3]);
    }
}
