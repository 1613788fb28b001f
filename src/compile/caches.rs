//! How much memory caches may take, and in what they are kept.

use super::{CompileError, Planned, Project};
use crate::plan::cost::Regions;
use crate::plan::kinds::gates;
use crate::plan::schedule::Gating;
use crate::plan::{CacheType, Plan, Refusal};

/// What is asked of caches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caches {
    /// In what values are kept.
    pub cache: CacheType,
    /// The most bytes that all caches of all models take, at the sizes that are assumed; any number where
    /// none.
    pub budget: Option<u64>,
}

/// A site by the positions of its model and of itself.
type Place = (usize, usize);

impl Project<'_> {
    /// The same plan with caches as asked: over the budget, those that are largest are kept in half
    /// precision first, then in 8 bits; then those are left out that save least for their bytes.
    ///
    /// # Errors
    /// [`CompileError::Caches`] where even nothing but the difference of guidance takes more; and as for
    /// [`Project::adopt`].
    pub fn keep(&self, planned: Planned, caches: Caches) -> Result<Planned, CompileError> {
        let mut planned = planned;
        if caches.cache != CacheType::Same {
            let mut plan = planned.plan;
            let sites = plan.models.iter_mut().flat_map(|m| &mut m.sites);
            sites.for_each(|site| site.cache = caches.cache);
            planned = self.adopt(plan)?;
        }
        let Some(budget) = caches.budget else {
            return Ok(planned);
        };
        loop {
            let bytes = total(&planned);
            if bytes <= budget {
                return Ok(planned);
            }
            planned = match self.narrowed(&planned)? {
                Some(smaller) => smaller,
                None => self.without_least(planned, (bytes, budget))?,
            };
        }
    }

    /// With the largest cache that half precision makes smaller in it, or else 8 bits; none where all are
    /// small.
    fn narrowed(&self, planned: &Planned) -> Result<Option<Planned>, CompileError> {
        let mut places = self.places(planned)?;
        places.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        for smaller in [CacheType::F16, CacheType::Int8] {
            for ((model, site), _) in &places {
                let mut plan = planned.plan.clone();
                let cache = &mut plan.models[*model].sites[*site].cache;
                if *cache >= smaller {
                    continue;
                }
                *cache = smaller;
                let smaller = self.adopt(plan)?;
                if total(&smaller) < total(planned) {
                    return Ok(Some(smaller));
                }
            }
        }
        Ok(None)
    }

    /// Every site of the plan with the bytes of its caches.
    fn places(&self, planned: &Planned) -> Result<Vec<(Place, u64)>, CompileError> {
        let mut places = Vec::new();
        for (index, layout) in planned.layouts.iter().enumerate() {
            let model = self.model_plan(&planned.plan, index)?;
            let position = planned
                .plan
                .models
                .iter()
                .position(|m| m.name == model.name);
            for (placed, bytes) in layout.sites.iter().zip(&planned.costs[index].site_bytes) {
                let site = model.sites.iter().position(|s| s.name == placed.site.name);
                if let (Some(model), Some(site)) = (position, site) {
                    places.push(((model, site), *bytes));
                }
            }
        }
        Ok(places)
    }

    /// Without the site that saves least for its bytes.
    #[allow(clippy::cast_precision_loss)]
    fn without_least(
        &self,
        planned: Planned,
        (bytes, budget): (u64, u64),
    ) -> Result<Planned, CompileError> {
        let worth = self.worth(&planned)?;
        let places = self.places(&planned)?;
        let paid = places.into_iter().zip(worth).filter(|((_, b), _)| *b > 0);
        let least = paid.min_by(|((_, a), x), ((_, b), y)| {
            let (a, b) = (*x as f64 / *a as f64, *y as f64 / *b as f64);
            a.total_cmp(&b)
        });
        let Some((((model, site), own), _)) = least else {
            let what = "nothing is cached but the difference of guidance";
            return Err(CompileError::caches(bytes, budget, what));
        };
        let mut plan = planned.plan;
        let removed = plan.models[model].sites.remove(site);
        plan.models[model].refusals.push(Refusal {
            candidate: removed.name,
            reason: format!(
                "its caches of {:.1} MB save least for their size (--cache-budget)",
                own as f64 / 1e6
            ),
        });
        self.adopt(regated(plan))
    }

    /// MACs that each site saves over the first schedule, in the order of [`places`](Self::places).
    fn worth(&self, planned: &Planned) -> Result<Vec<u64>, CompileError> {
        let mut worth = Vec::new();
        for (index, analysis) in self.analyses().iter().enumerate() {
            let model = self.model_plan(&planned.plan, index)?;
            let layout = &planned.layouts[index];
            let own = Regions::new(analysis, layout).whole_of_sites();
            let kinds = planned.plan.evaluations()?;
            for (placed, macs) in layout.sites.iter().zip(own) {
                let reads = kinds.iter().filter(|k| {
                    let kind = &planned.plan.kinds[**k];
                    kind.gating(&model.name, &placed.site.gate) == Gating::Reuse
                });
                worth.push(macs.saturating_mul(reads.count() as u64));
            }
        }
        Ok(worth)
    }
}

fn total(planned: &Planned) -> u64 {
    planned.costs.iter().map(|c| c.cache_bytes).sum()
}

/// Without the gates and weights that no site has any more. Of one schedule kinds follow from the columns again:
/// some may have become one.
fn regated(mut plan: Plan) -> Plan {
    for model in &mut plan.models {
        let sites = &model.sites;
        model
            .gates
            .retain(|g| sites.iter().any(|s| s.gate == g.name));
    }
    let weighed: Vec<String> = plan.weighed().collect();
    plan.weights.0.retain(|name, _| weighed.contains(name));
    if plan.schedules.len() == 1 {
        plan.kinds.clear();
        return plan;
    }
    let gates = gates(&plan);
    for kind in &mut plan.kinds {
        kind.refresh.retain(|gate| gates.contains_key(gate));
        kind.restart.retain(|gate| gates.contains_key(gate));
    }
    plan
}
