//! Values kept between steps, and how they are forecast.

use super::rows::Rows;
use crate::engine::Tensor;
use crate::plan::schedule::GateSchedule;
use crate::plan::{Prompted, Reuse};

/// A kept value and how it moves.
pub struct Kept {
    pub value: Rows,
    pub slope: Option<Rows>,
    /// Whether it holds the prompted half (or the mean) alone.
    pub half: bool,
    pub like: Tensor,
}

/// `value + slope * way`, or the value; the way follows from the steps since the last refresh, or is a weight.
pub fn forecast(
    kept: &Kept,
    schedule: &GateSchedule,
    step: usize,
    (reuse, weight): (Reuse, Option<f32>),
) -> Rows {
    let since = schedule.last_refresh(step).map_or(0, |last| step - last);
    let since = f32::from(u16::try_from(since).unwrap_or(u16::MAX));
    let way = weight.or(reuse.way(since)).unwrap_or_default();
    match &kept.slope {
        Some(slope) => kept.value.zip(slope, |v, s| v + s * way),
        None => kept.value.clone(),
    }
}

/// Change per step since the last refresh; zero on the first.
pub fn slope(value: &Rows, before: Option<&Kept>, gap: Option<usize>, prompted: Prompted) -> Rows {
    let (Some(before), Some(gap)) = (before, gap) else {
        return value.zip(value, |_, _| 0.0);
    };
    let gap = f32::from(u16::try_from(gap).unwrap_or(u16::MAX));
    let old = if before.value.shape == value.shape {
        before.value.clone()
    } else {
        before.value.halves(prompted).0
    };
    value.zip(&old, |new, old| (new - old) / gap)
}
