//! Proofs 2 to 4: refresh, reuse, and a whole generation against the oracle.

use std::path::PathBuf;

use super::compare::Comparison;
use super::oracle::Oracle;
use super::verdict::Check;
use super::verify::{Outputs, Proof, borrowed};
use super::{Feeds, MeasureError};
use crate::engine::Tensor;

impl Proof<'_> {
    /// Step 0 and, on other inputs, a forced refresh against the original: on the same inputs a
    /// cache that is read instead would give the same.
    pub(super) fn refresh(&self) -> Result<(Comparison, String), MeasureError> {
        let feeds = self.feeds();
        let inputs = feeds.step(0)?;
        let expected = self.original(&inputs)?;
        let mut cached = self.cached(None)?;
        let first = cached.run(&borrowed(&inputs))?;
        let mut comparison = self.compare_refresh(&inputs, &expected, &first)?;
        if cached.steps() > 1 {
            let inputs = feeds.step(1)?;
            let forced = cached.run_forced_refresh(&borrowed(&inputs))?;
            let expected = self.original(&inputs)?;
            comparison = comparison.and(self.compare_refresh(&inputs, &expected, &forced)?);
        }
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

    /// Compares with the original's outputs; the bits, where it takes them, with those of the
    /// original behind barriers.
    fn compare_refresh(
        &self,
        inputs: &[(String, Tensor)],
        expected: &Outputs,
        found: &Outputs,
    ) -> Result<Comparison, MeasureError> {
        let mut comparison = self.compare(expected, found)?;
        if self.needs_barriers() {
            comparison.same = self.compare(&self.with_barriers(inputs)?, found)?.same;
        }
        Ok(comparison)
    }

    fn feeds(&self) -> Feeds<'_, '_> {
        Feeds::new(self.analysis, self.settings.seed, self.plan.steps)
    }

    /// Refresh, then reuse on the same and on changed inputs.
    pub(super) fn reuse(&self) -> Result<(Check, bool), MeasureError> {
        let feeds = self.feeds();
        let (inputs, other) = (feeds.step(0)?, feeds.step(1)?);
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
        let expected = self.original(&inputs)?;
        let mut cached = self.cached(None)?;
        let mut last = Vec::new();
        for _ in 0..=step {
            last = cached.run(&borrowed(&inputs))?;
        }
        let same = self.compare(&expected, &last)?.same;
        cached.reset()?;
        for _ in 0..step {
            cached.run(&borrowed(&inputs))?;
        }
        let stale = cached.run(&borrowed(&other))?;
        let fresh = self.original(&other)?;
        // What is the same on every step stays right on changed latents, too.
        let constant = self
            .layout
            .reused(step)
            .iter()
            .all(|s| self.is_invariant(*s));
        let differs = !self.compare(&fresh, &stale)?.same;
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
    pub(super) fn generation(&self) -> Result<(Check, Comparison, Option<PathBuf>), MeasureError> {
        let feeds = self.feeds();
        let profiled = self.has_profile();
        let prefix = profiled.then(|| {
            let unique = format!(
                "hgc-profile-{}-{}",
                std::process::id(),
                self.model_plan.name
            );
            std::env::temp_dir().join(unique)
        });
        let mut cached = self.cached(prefix)?;
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
        let path = if profiled {
            Some(cached.end_profiling()?)
        } else {
            None
        };
        Ok((check, whole, path))
    }
}
