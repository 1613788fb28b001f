//! What is drawn beside the original.

use super::Skip;
use crate::plan::Plan;
use crate::plan::policy::Point;
use crate::sampler::Method;

/// Something that draws the same scenes for less.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What tells it from others.
    pub label: String,
    /// The family that it is plotted with: the name of a policy, `plan`, [`FEWER`].
    pub policy: String,
    /// What is done.
    pub way: Way,
}

/// A way to draw for less.
#[derive(Clone, Debug)]
pub enum Way {
    /// A policy with parameters.
    Policy(Point),
    /// A plan that was made before.
    Plan(Box<Plan>),
    /// The original, with evaluations skipped while it runs.
    Skip(Skip),
    /// The original, in fewer steps.
    Fewer {
        /// Steps.
        steps: usize,
        /// Another sampler than that of the original's pictures.
        sampler: Option<Method>,
    },
}

/// The family of [`Way::Fewer`].
pub const FEWER: &str = "fewer steps";
/// The family of [`Way::Plan`].
pub const PLAN: &str = "plan";

impl Subject {
    /// A policy with parameters.
    #[must_use]
    pub fn of_policy(point: Point) -> Self {
        Self {
            label: point.label.clone(),
            policy: point.policy.to_string(),
            way: Way::Policy(point),
        }
    }

    /// A plan, called `label`.
    #[must_use]
    pub fn of_plan(label: &str, plan: Plan) -> Self {
        Self {
            label: label.to_owned(),
            policy: PLAN.to_owned(),
            way: Way::Plan(Box::new(plan)),
        }
    }

    /// A rule that skips evaluations, called `label`.
    #[must_use]
    pub fn of_rule(label: String, rule: Skip) -> Self {
        Self {
            label,
            policy: rule.name().to_owned(),
            way: Way::Skip(rule),
        }
    }

    /// The original in so many steps, with another sampler or its own.
    #[must_use]
    pub fn of_steps(steps: usize, sampler: Option<Method>) -> Self {
        let with = sampler.map(|s| format!(",sampler={s}")).unwrap_or_default();
        Self {
            label: format!("steps={steps}{with}"),
            policy: FEWER.to_owned(),
            way: Way::Fewer { steps, sampler },
        }
    }
}
