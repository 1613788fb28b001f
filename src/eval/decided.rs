//! What was computed where it was decided while drawing.

use image::RgbImage;

use super::EvalError;
use crate::analysis::macs::Macs;
use crate::compile::{CompileError, Planned, Project};
use crate::plan::cost::Cost;

/// A set as one plan draws it.
pub struct Drawn {
    /// The pictures.
    pub pictures: Vec<RgbImage>,
    /// Seconds of original and cached, of batches that are timed.
    pub seconds: Vec<[f64; 2]>,
    /// Pictures of each batch, and the kinds that ran.
    pub ran: Vec<(usize, Vec<String>)>,
}

/// MACs of the kinds that `ran`, mean over pictures; none of plans that leave nothing to decide.
///
/// # Errors
/// [`EvalError`] if what ran does not fit the models.
#[allow(clippy::cast_precision_loss)]
pub fn after(
    project: &Project<'_>,
    planned: &Planned,
    ran: &[(usize, Vec<String>)],
) -> Result<Option<Macs>, EvalError> {
    let first = planned.plan.schedules.first();
    if first.is_none_or(|s| s.adaptive.is_none()) {
        return Ok(None);
    }
    let pictures: usize = ran.iter().map(|(rows, _)| rows).sum();
    let mut sum = Macs::default();
    for (rows, kinds) in ran {
        let mut plan = planned.plan.clone();
        plan.schedules.truncate(1);
        if let Some(schedule) = plan.schedules.first_mut() {
            (schedule.kinds, schedule.adaptive) = (kinds.clone(), None);
        }
        plan.expand().map_err(CompileError::from)?;
        let adopted = project.adopt(plan)?;
        let after: Macs = adopted.costs.iter().map(Cost::after).sum();
        sum = sum + after.part(*rows as f64 / pictures.max(1) as f64);
    }
    Ok(Some(sum))
}
