//! From shares to refresh steps.
//!
//! With `N` steps, `lambda_inter` gives `n = max(1, round(lambda_inter * N))` refresh
//! steps of the deeper blocks, dense at the start and at the end, sparse between:
//!
//! `r_0 = 0`, `r_k = round((N - 2) * (v + 3v^2 - 2v^3) / 2)` with `v = (k / (n - 1))^1.35`, and at
//! least `r_{k-1} + 1`, at most `N - n + k`. For multistep samplers `N - 1` stands in the place of
//! `N - 2`: the last evaluation refreshes. And the end is denser: `0.2 v + 0.8 (3v^2 - 2v^3)`, with a power of
//! 1.26, which falls to 1.12 where half of the steps refresh.
//!
//! A model whose noise schedule leaves noise alone for long (`noise` of the training steps) changes little there: its
//! refreshes come more and more often instead, `round(N * (1 - (1 - k / n)^1.3))`, and between 0.05 and 0.25 of such
//! steps on the way from one to the other.
//!
//! `lambda_intra` picks `m = max(1, round(lambda_intra * L))` of the `L` steps on which
//! the enclosing block refreshes, evenly: positions `floor(j * L / m)`.
//!
//! `lambda_guidance` picks `g = max(1, round(lambda_guidance * R))` of the `R` refreshes
//! before the gate step to run both halves of a guided batch; the others, those nearest
//! the middle of the generation, where the guidance difference changes least, run the
//! prompted half alone.
//!
//! Worked example, `N = 20`, `lambda_inter = 0.35`: `n = 7`, so `18 * (v + 3v^2 - 2v^3) / 2` is
//! 0, 1.00, 3.22, 6.60, 10.75, 14.94, 18 and the blocks refresh on steps 0, 1, 3, 7, 11, 15, 18. With
//! `lambda_guidance = 0.9` and gate step 18, six of these lie before the gate, and `g = 5`: step 11 runs
//! the prompted half. With `lambda_intra = 0.5`, of the other 6 (with step 18) `m = 3` at positions 0,
//! 2, 4: the modules inside refresh on steps 0, 3, 15.

use crate::plan::parameter::Solver;

/// Share of the weight-operator MACs of UNet and ControlNets together that runs on a reuse
/// step where no cut is given: the outermost level of SD1.5 with one ControlNet.
pub const SHALLOW: f64 = 0.05;

/// The power of `v`, above 1 where refreshes lie denser at the start than at the end, and the weight of the cubic, by
/// which they lie denser at both.
const FIRST_ORDER: (f64, f64) = (1.35, 0.5);
/// The same of multistep samplers, which need the end more; and with more refreshes, between these shares, this power.
const MULTISTEP: (f64, f64) = (1.26, 0.8);
const MANY: (f64, f64) = (0.35, 0.5);
const MANY_POWER: f64 = 1.12;
/// Above 1, refreshes that come more and more often lie denser at the end.
const LATER: f64 = 1.3;
/// Shares of noise from which on, and to which, refreshes move towards the end.
pub const NOISY: (f64, f64) = (0.05, 0.25);

/// So many of `count`, at least one.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
#[must_use]
pub fn share_of(share: f64, count: usize) -> usize {
    ((share * count as f64).round() as usize).clamp(1, count.max(1))
}

/// Refresh steps of the deeper blocks.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
pub fn inter(steps: usize, lambda: f64, solver: Solver, noise: f64) -> Vec<usize> {
    let count = share_of(lambda, steps);
    let before_last = usize::from(solver == Solver::FirstOrder);
    let last = steps.saturating_sub(1 + before_last);
    let (power, ease) = match solver {
        Solver::FirstOrder => FIRST_ORDER,
        Solver::Multistep => {
            let share = count as f64 / steps.max(1) as f64;
            let many = ((share - MANY.0) / (MANY.1 - MANY.0)).clamp(0.0, 1.0);
            (MULTISTEP.0 + (MANY_POWER - MULTISTEP.0) * many, MULTISTEP.1)
        }
    };
    let noisy = ((noise - NOISY.0) / (NOISY.1 - NOISY.0)).clamp(0.0, 1.0);
    let mut refresh = vec![0];
    for k in 1..count.min(steps) {
        let v = (k as f64 / (count - 1) as f64).powf(power);
        let eased = (1.0 - ease) * v + ease * v * v * (3.0 - 2.0 * v);
        let eased = (1.0 - noisy) * last as f64 * eased + noisy * later(steps, count, k);
        let eased = eased.round() as usize;
        let after = refresh.last().map_or(0, |r| r + 1);
        refresh.push(eased.max(after).min(steps - count + k));
    }
    refresh
}

/// Where the `k`-th of `count` refreshes lies that come more and more often.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn later(steps: usize, count: usize, k: usize) -> f64 {
    steps as f64 * (1.0 - (1.0 - k as f64 / count.max(1) as f64).powf(LATER))
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

/// Those of `refreshes` that run both halves of a guided batch, of `steps` steps in all.
#[must_use]
pub fn guided(refreshes: &[usize], steps: usize, lambda: f64) -> Vec<usize> {
    let count = share_of(lambda, refreshes.len());
    let mut kept = refreshes.to_vec();
    // Twice the distance to the middle; step 0 stays, it has nothing to hold.
    kept.sort_by_key(|s| std::cmp::Reverse((*s == 0, (2 * s + 1).abs_diff(steps))));
    kept.truncate(count);
    kept.sort_unstable();
    kept
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
    fn what_begins_in_noise_refreshes_later() {
        let at = |noise| inter(20, 0.35, Solver::FirstOrder, noise);
        assert_eq!(at(0.05), [0, 1, 3, 7, 11, 15, 18]);
        assert_eq!(at(0.27), [0, 4, 7, 10, 13, 16, 18]);
        // No cliff: one step at a time.
        let all: Vec<_> = (5..=27).map(|d| at(f64::from(d) / 100.0)).collect();
        for pair in all.windows(2) {
            let moved = pair[0]
                .iter()
                .zip(&pair[1])
                .all(|(a, b)| a.abs_diff(*b) <= 1);
            assert!(moved, "{pair:?}");
        }
    }

    #[test]
    fn worked_example() {
        let at = inter(20, 0.35, Solver::FirstOrder, 0.0);
        assert_eq!(at, [0, 1, 3, 7, 11, 15, 18]);
        assert_eq!(guided(&at[..6], 20, 0.9), [0, 1, 3, 7, 15]);
        let multistep = inter(20, 0.35, Solver::Multistep, 0.0);
        assert_eq!(multistep, [0, 1, 3, 7, 12, 17, 19]);
        let half = inter(20, 0.5, Solver::Multistep, 0.0);
        assert_eq!(half, [0, 1, 2, 4, 7, 10, 13, 16, 18, 19]);
        assert_eq!(intra(&[0, 1, 3, 7, 15, 18], 0.5), [0, 3, 15]);
    }

    #[test]
    fn refreshes_rise_and_stay_inside() {
        for steps in 1..60 {
            for tenths in 0..=10 {
                let at = inter(steps, f64::from(tenths) / 10.0, Solver::FirstOrder, 0.0);
                assert!(at.is_sorted_by(|a, b| a < b), "{steps} {tenths}: {at:?}");
                assert!(
                    at[0] == 0 && at[at.len() - 1] < steps,
                    "{steps} {tenths}: {at:?}"
                );
            }
        }
    }

    #[test]
    fn shares_at_their_ends() {
        assert_eq!(inter(20, 0.0, Solver::Multistep, 0.0), [0]);
        assert_eq!(inter(5, 1.0, Solver::FirstOrder, 0.0), [0, 1, 2, 3, 4]);
        assert_eq!(intra(&[0, 4, 9], 1.0), [0, 4, 9]);
        assert_eq!(every(&[0, 1, 3, 7], 2), [0, 3]);
        assert_eq!(guided(&[0, 4, 9], 20, 0.0), [0]);
        assert_eq!(guided(&[], 20, 0.9), [0; 0]);
    }
}
