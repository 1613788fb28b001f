//! Proofs 2 to 4: refresh, reuse, and a whole generation against the oracle.

use super::compare::Comparison;
use super::loadable::loadable;
use super::oracle::Oracle;
use super::verdict::Check;
use super::verify::{Inputs, Outputs, Proof, borrowed};
use super::{Feeds, MeasureError};
use crate::emit::{Form, Gated, Placement};
use crate::engine::CachedSession;
use crate::plan::layout::Layout;

impl Proof<'_, '_> {
    /// Step 0 and, on other inputs, a forced refresh against the original: on the same inputs a
    /// cache that is read instead would give the same.
    pub(super) fn refresh(
        &self,
        cached: &mut CachedSession,
        expected: &[Outputs; 2],
    ) -> Result<(Comparison, String), MeasureError> {
        cached.reset()?;
        let inputs = self.first_inputs()?;
        let mut found = vec![cached.run(&borrowed(&inputs[0]))?];
        if cached.steps() > 1 {
            found.push(cached.run_forced_refresh(&borrowed(&inputs[1]))?);
        }
        let mut comparison: Option<Comparison> = None;
        let mut add = |other: Comparison| {
            comparison = Some(match comparison.take() {
                Some(before) => before.and(other),
                None => other,
            });
        };
        let exact = match self.needs_barriers() {
            // The bits, where the original does not take them, of the original behind barriers.
            true => Some(self.with_barriers(&inputs)?),
            false => None,
        };
        for (index, found) in found.iter().enumerate() {
            let mut compared = self.compare(&expected[index], found)?;
            if let Some(exact) = &exact {
                compared.same = self.compare(&exact[index], found)?.same;
            }
            add(compared);
        }
        let comparison = comparison.unwrap_or_default();
        let detail = format!(
            "all gates on refresh (step 0 and step -1): {}{}, largest difference {:.3e}",
            if comparison.same {
                "bit-identical"
            } else {
                "not bit-identical"
            },
            if self.needs_barriers() {
                " behind always-true branches"
            } else {
                ""
            },
            comparison.difference
        );
        Ok((comparison, detail))
    }

    /// The inputs of the first two steps.
    pub(super) fn first_inputs(&self) -> Result<[Inputs; 2], MeasureError> {
        let feeds = self.feeds();
        Ok([feeds.step(0)?, feeds.step(1)?])
    }

    fn feeds(&self) -> Feeds<'_, '_> {
        Feeds::new(self.analysis, self.settings.seed, self.plan.steps)
    }

    /// Refresh, then reuse on the same and on changed inputs.
    pub(super) fn reuse(
        &self,
        cached: &mut CachedSession,
        [expected, fresh]: &[Outputs; 2],
    ) -> Result<(Check, bool), MeasureError> {
        let [inputs, other] = self.first_inputs()?;
        let reusing = (1..self.plan.steps).find(|s| !self.layout.reused(*s).is_empty());
        let Some(step) = reusing else {
            let detail = "no step reuses anything".to_owned();
            return Ok((
                Check {
                    name: "reuse",
                    pass: true,
                    detail,
                },
                true,
            ));
        };
        cached.reset()?;
        if self.asked[0].adaptive.is_some() {
            // Inputs that stay the same would be decided otherwise.
            cached.follow(&self.plan.schedules[0])?;
        }
        let mut last = Vec::new();
        for _ in 0..=step {
            last = cached.run(&borrowed(&inputs))?;
        }
        let same = self.compare(expected, &last)?.same;
        cached.reset()?;
        for _ in 0..step {
            cached.run(&borrowed(&inputs))?;
        }
        let stale = cached.run(&borrowed(&other))?;
        // What is the same on every step stays right on changed latents, too.
        let constant = self
            .layout
            .reused(step)
            .iter()
            .all(|s| self.is_invariant(*s));
        let differs = !self.compare(fresh, &stale)?.same;
        let detail = format!(
            "reuse on step {step}: same inputs {}; changed inputs {} a refresh{}",
            if same { "bit-identical" } else { "differ" },
            if differs { "differ from" } else { "equal" },
            if constant {
                " (only invariant values are reused)"
            } else {
                ""
            }
        );
        let pass = same && (differs != constant);
        Ok((
            Check {
                name: "reuse",
                pass,
                detail,
            },
            same,
        ))
    }

    fn is_invariant(&self, site: usize) -> bool {
        let tensors = &self.layout.sites[site].tensors;
        tensors
            .iter()
            .all(|t| self.analysis.depends[t.value.index()].is_invariant())
    }

    /// Every output of a generation against the oracle.
    pub(super) fn generation(
        &self,
        cached: &mut CachedSession,
    ) -> Result<(Check, Comparison), MeasureError> {
        let (whole, worst) = self.against_oracle(cached)?;
        let detail = format!(
            "{} steps against the original with replaced values: largest difference {:.3e} \
             (step {worst}), allowed {:.3e}",
            self.plan.steps, whole.difference, whole.allowed
        );
        let check = Check {
            name: "generation",
            pass: whole.within,
            detail,
        };
        Ok((check, whole))
    }

    /// Every output of a generation by another schedule of the plan against the oracle.
    pub(super) fn follows(
        &self,
        cached: &mut CachedSession,
        schedule: usize,
    ) -> Result<Check, MeasureError> {
        let plan = self.plan.under(schedule)?;
        let models = || plan.models.iter();
        let model_plan = models().find(|m| m.name == self.model_plan.name);
        let model_plan = model_plan.unwrap_or(self.model_plan);
        let layout = Layout::new(self.analysis, &plan, model_plan).map_err(|source| {
            MeasureError::Layout {
                file: self.rewritten.display().to_string(),
                source,
            }
        })?;
        cached.reset()?;
        cached.follow(&self.asked[schedule])?;
        let other = Proof {
            plan: &plan,
            model_plan,
            layout: &layout,
            ..*self
        };
        let (whole, worst) = other.against_oracle(cached)?;
        let sampler = plan.schedules[0].sampler.as_deref();
        Ok(Check {
            name: "schedule",
            pass: whole.within,
            detail: format!(
                "{} steps{} against the original with replaced values: largest difference {:.3e} \
                 (step {worst}), allowed {:.3e}",
                plan.steps,
                sampler.map(|s| format!(" of {s}")).unwrap_or_default(),
                whole.difference,
                whole.allowed
            ),
        })
    }

    /// A generation of variants against one of the gated form, bit by bit.
    pub(super) fn equals_gated(&self, variants: &mut CachedSession) -> Result<Check, MeasureError> {
        let placement = Placement {
            model: &self.source.proto,
            analysis: self.analysis,
            plan: self.plan,
            model_plan: self.model_plan,
            layout: self.layout,
        };
        let file = || self.source.path.display().to_string();
        let gated = Gated
            .emit(&placement)
            .map_err(|source| MeasureError::Barriers {
                file: file(),
                source,
            })?;
        let mut scratch = None;
        let mut gated = CachedSession::open(
            self.engine,
            loadable(self.engine, gated, &self.source.path, &mut scratch)?,
            &self.options(),
        )?;
        variants.reset()?;
        let feeds = self.feeds();
        let mut whole = Comparison::default();
        for step in 0..self.plan.steps {
            let inputs = feeds.step(step)?;
            let expected = gated.run(&borrowed(&inputs))?;
            let found = variants.run(&borrowed(&inputs))?;
            whole = match step {
                0 => self.compare(&expected, &found)?,
                _ => whole.and(self.compare(&expected, &found)?),
            };
        }
        // Where the same nodes need not give the same bits, within tolerance is all there is.
        let same = whole.same || (!self.is_exact() && whole.within);
        Ok(Check {
            name: "form",
            pass: same,
            detail: format!(
                "{} steps against the gated form: {}, largest difference {:.3e}",
                self.plan.steps,
                if whole.same {
                    "bit-identical"
                } else {
                    "not bit-identical"
                },
                whole.difference
            ),
        })
    }

    /// A generation against the oracle, and the step on which they differ most.
    fn against_oracle(
        &self,
        cached: &mut CachedSession,
    ) -> Result<(Comparison, usize), MeasureError> {
        let feeds = self.feeds();
        let mut oracle = Oracle::new(
            self.engine,
            &self.source.proto,
            &self.source.path,
            self.analysis,
            self.plan,
            self.model_plan,
            self.layout,
            self.options(),
        );
        let mut whole = Comparison::default();
        let mut worst = 0;
        for step in 0..self.plan.steps {
            let inputs = feeds.step(step)?;
            let found = cached.run(&borrowed(&inputs))?;
            let expected = oracle.step(step, &inputs)?;
            let comparison = self.compare(&expected, &found)?;
            if comparison.difference > whole.difference {
                worst = step;
            }
            whole = whole.and(comparison);
            self.told.tick("generation");
        }
        Ok((whole, worst))
    }
}
