//! One compiled pipeline that runs every kind of evaluation, and so any schedule.

use std::collections::BTreeMap;

use super::damping::{Damping, Rows};
use super::{Columns, Setting};
use crate::compile::{CompileError, Planned, Project};
use crate::plan::flow::Flows;
use crate::plan::parameter::{CONTROL_END, CONTROL_START, Parameters};
use crate::plan::{Kind, Reuse, Schedule};

/// A plan with all kinds, and what they cost.
pub struct Lab {
    /// The plan, to be compiled.
    pub planned: Planned,
    flows: Flows,
    /// The kind of each setting; several do the same where a model lacks a part.
    kinds: BTreeMap<Setting, Kind>,
    /// The first setting of each kind.
    settings: BTreeMap<String, Setting>,
    /// What each kind costs, all models: MACs of weight operators, or nanoseconds.
    work: BTreeMap<String, u64>,
    /// The same of the original.
    original: u64,
    /// Further cuts.
    pub inner: Vec<usize>,
}

impl Lab {
    /// Plans every setting that the models have; `base` are the parameters of the plans to find, and
    /// `inner` further cuts below their one.
    ///
    /// # Errors
    /// [`CompileError`] where the models cannot be planned.
    pub fn new(
        project: &Project<'_>,
        base: &Parameters,
        inner: &[usize],
    ) -> Result<Self, CompileError> {
        let halves = base.prompted().is_some() && !base.whole_batch();
        // Before each setting everything is refreshed, so that it finds what it reads.
        let settings = Setting::all(halves, inner.len());
        let columns = settings.iter().flat_map(|s| [Setting::FULL, *s]);
        let columns = Columns {
            settings: columns.collect(),
            inner: inner.to_vec(),
            reuse: Reuse::Fitted,
        };
        let mut parameters = columns.parameters(base);
        // Where control switches is a matter of schedules.
        parameters.unset(&CONTROL_START);
        parameters.unset(&CONTROL_END);
        let planned = project.plan(&columns, &parameters)?;
        let names = planned.plan.schedules.first().map_or(&[][..], |s| &s.kinds);
        let named = |name: &String| planned.plan.kinds.iter().find(|k| k.name == *name);
        let (mut kinds, mut first) = (BTreeMap::new(), BTreeMap::new());
        for (setting, name) in settings.iter().zip(names.iter().skip(1).step_by(2)) {
            if let Some(kind) = named(name) {
                kinds.insert(*setting, kind.clone());
                first.entry(name.clone()).or_insert(*setting);
            }
        }
        let by_kind = project.work(&planned, |macs| macs.weights)?;
        let work = by_name(&planned, &by_kind);
        Ok(Self {
            original: planned.costs.iter().map(|c| c.original.weights).sum(),
            flows: project.flows(&planned, by_kind)?,
            work,
            kinds,
            inner: inner.to_vec(),
            settings: first,
            planned,
        })
    }

    /// The plan with the weights of each case, and how schedules name them.
    ///
    /// # Errors
    /// [`CompileError`] where the weights do not fit.
    pub fn weighed(
        &self,
        project: &Project<'_>,
        cases: &[Option<Damping>],
    ) -> Result<(Planned, Rows), CompileError> {
        let mut plan = self.planned.plan.clone();
        let rows = Rows::lay(&mut plan, cases);
        Ok((project.adopt(plan)?, rows))
    }

    /// The schedule that does what is asked for or more, where a kind would read what is not there.
    #[must_use]
    pub fn schedule(&self, settings: &[Setting]) -> Schedule {
        let start = &self.planned.plan.kinds[0];
        let kind = |s: &Setting| self.kinds.get(s).unwrap_or(start);
        let wanted: Vec<&Kind> = settings.iter().map(kind).collect();
        self.flows.fit(&wanted)
    }

    /// What a schedule does.
    #[must_use]
    pub fn settings(&self, schedule: &Schedule) -> Vec<Setting> {
        let setting = |name: &String| self.settings.get(name).copied();
        let all = schedule.kinds.iter().map(setting);
        all.map(|s| s.unwrap_or(Setting::FULL)).collect()
    }

    /// The settings that do different things, the one that does everything first.
    #[must_use]
    pub fn choices(&self) -> Vec<Setting> {
        let mut all: Vec<Setting> = self.settings.values().copied().collect();
        all.sort_by_key(|s| (*s != Setting::FULL, std::cmp::Reverse(*s)));
        all
    }

    /// Parts that the blocks below the cut are divided into.
    #[must_use]
    pub fn parts(&self) -> u8 {
        u8::try_from(self.inner.len() + 1).unwrap_or(u8::MAX)
    }

    /// The cost of the cheapest schedule in which the evaluations `full` compute everything.
    #[must_use]
    pub fn least(&self, steps: usize, full: &[usize]) -> f64 {
        let choices = self.choices();
        let cheapest = choices.iter().min_by_key(|s| {
            let kind = self.kinds.get(s).map(|k| &k.name);
            kind.and_then(|name| self.work.get(name))
        });
        let cheapest = cheapest.copied().unwrap_or(Setting::FULL);
        let at = |step: usize| match step == 0 || full.contains(&step) {
            true => Setting::FULL,
            false => cheapest,
        };
        let settings: Vec<Setting> = (0..steps).map(at).collect();
        self.cost(&self.schedule(&settings))
    }

    /// From now on counts what was measured.
    pub fn price(&mut self, kinds: BTreeMap<String, u64>, original: u64) {
        (self.work, self.original) = (kinds, original);
    }

    /// What a schedule costs as a share of what the original does.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn cost(&self, schedule: &Schedule) -> f64 {
        let whole = self.original;
        let macs = schedule.kinds.iter().filter_map(|k| self.work.get(k));
        let macs: u64 = macs.fold(0, |sum, n| sum.saturating_add(*n));
        macs as f64 / (whole as f64 * schedule.kinds.len().max(1) as f64).max(1.0)
    }
}

/// What each kind computes, by its name.
pub(super) fn by_name(planned: &Planned, work: &[u64]) -> BTreeMap<String, u64> {
    let names = planned.plan.kinds.iter().map(|k| k.name.clone());
    names.zip(work.iter().copied()).collect()
}
