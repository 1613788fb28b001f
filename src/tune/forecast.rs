//! Weights of slopes, fitted on the way that the cached pipeline takes, and kept where they help.

use super::case::{Drawn, mean};
use super::damping::usual;
use super::recorder::{Probe, Recorder, Site, Sum};
use super::{TuneError, Tuner};
use crate::compile::Planned;
use crate::convention::GUIDANCE;
use crate::pipeline::Loop;
use crate::plan::{Plan, Schedule};

/// Decibels that make weights worth a slope beside every value.
const WORTH: f64 = 0.1;
/// A weight is at most so many times what a forecast along the slope would take.
const MOST: f64 = 1.5;

/// What is tried of weights that were fitted: how much of them, and whether the difference of guidance
/// has some.
const TRIED: [(f64, bool); 4] = [(1.0, true), (0.5, true), (1.0, false), (0.5, false)];

/// What weights do for one schedule.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Ratio with held values, in dB.
    pub held: f64,
    /// Share of the squared error of each site that its weights take away, on evaluations that read it.
    pub gains: Vec<(String, f64)>,
}

/// Weights by site, one an evaluation.
pub(super) type Table = Vec<(String, Vec<f64>)>;

/// A schedule on the way to its weights.
pub(super) struct Way {
    /// Its case, by position.
    pub case: usize,
    /// Its place among the schedules of the plan.
    pub place: usize,
    pub sites: Vec<Site>,
    /// The best weights so far.
    pub table: Table,
    /// The schedule with their rows in the networks that are loaded.
    schedule: Schedule,
    /// Ratio with the best weights, in dB.
    pub score: f64,
    /// The same of each picture.
    scores: Vec<f64>,
    /// The same with held values.
    pub held: f64,
}

/// How ways are found.
pub(super) struct Course<'c> {
    /// The case of each schedule of the plan.
    pub cases: &'c [usize],
    /// After the first round the best way of each case goes on alone.
    pub rounds: usize,
    /// More pictures that choose it, by case; none where there is nothing to choose.
    pub last: &'c [Drawn<'c>],
}

/// What became of the schedules of a plan.
pub(super) struct Ways {
    /// The best of each case, in the order of cases.
    pub best: Vec<Way>,
    /// The ratio of each schedule of the plan after the first round.
    pub first: Vec<f64>,
}

impl<'t> Tuner<'t> {
    /// Weights for each schedule of a plan that reads by weights, and has none yet. They are fitted on the
    /// batches of the search and kept where those of `judge` come nearer to the originals'.
    pub(super) fn ways(
        &self,
        planned: &Planned,
        course: &Course<'_>,
        judge: &[Drawn<'t>],
        told: &mut dyn FnMut(&str, f64),
    ) -> Result<Ways, TuneError> {
        let compiled = self.project.compile(planned)?;
        let mut networks = self.open(&compiled)?;
        let parts = (planned, &compiled);
        let mut probe = Probe::open(self.engine, self.project, parts, self.session)?;
        drop(compiled);
        let mut ways = Vec::new();
        for (place, &case) in course.cases.iter().enumerate() {
            let drawn = &judge[case];
            let plan = planned.plan.under(place)?;
            let sites = probe.sites(&plan, planned);
            let none = |s: &Site| (s.name.clone(), vec![0.0; drawn.case.steps]);
            let schedule = planned.plan.schedules[place].clone();
            networks.set_schedule(Some(schedule.clone()));
            let scores = drawn.ratios(&mut networks, &self.run)?;
            let score = mean(&scores);
            ways.push(Way {
                case,
                place,
                table: sites.iter().map(none).collect(),
                sites,
                schedule,
                score,
                scores,
                held: score,
            });
        }
        let mut first = Vec::new();
        for round in 0..course.rounds {
            let mut tables = Vec::new();
            for way in &mut ways {
                let fitted = self.fit(way, (&mut networks, &mut probe))?;
                let mut tried = vec![way.table.clone()];
                tried.extend(TRIED.map(|(share, guided)| part_of(&fitted, share, guided)));
                if round == 0 {
                    tried.push(way.sites.iter().map(unfitted).collect());
                }
                tables.push(tried);
            }
            let (plan, schedules) = laid_out(&planned.plan, &ways, &tables);
            // Two pipelines may not fit in memory.
            drop(networks);
            networks = self.load(&self.project.adopt(plan)?)?;
            let mut better = false;
            for (nth, way) in ways.iter_mut().enumerate() {
                let before = way.score;
                let tried = tables[nth].iter().zip(&schedules[nth]);
                for (number, (table, schedule)) in tried.enumerate() {
                    if number == 0 {
                        (way.table, way.schedule) = (table.clone(), schedule.clone());
                        continue;
                    }
                    networks.set_schedule(Some(schedule.clone()));
                    let drawn = &judge[way.case];
                    let scores = drawn.ratios(&mut networks, &self.run)?;
                    let score = mean(&scores);
                    told(&drawn.case.name(), way.score.max(score));
                    if score > way.score {
                        (way.table, way.schedule) = (table.clone(), schedule.clone());
                        (way.score, way.scores) = (score, scores);
                    }
                }
                better |= way.score > before + WORTH / 2.0;
            }
            if round == 0 {
                for way in &mut ways {
                    if let Some(drawn) = course.last.get(way.case) {
                        networks.set_schedule(Some(way.schedule.clone()));
                        way.scores.extend(drawn.ratios(&mut networks, &self.run)?);
                        told(&drawn.case.name(), way.score);
                    }
                }
                first = ways.iter().map(|w| mean(&w.scores)).collect();
                ways = best_of_each(ways);
            }
            if !better {
                break;
            }
        }
        Ok(Ways { best: ways, first })
    }

    /// The plan with the weights of its schedules; none where no schedule is worth them.
    pub(super) fn weighed(
        &self,
        planned: &Planned,
        ways: &[Way],
    ) -> Result<Option<(Planned, Vec<Forecast>)>, TuneError> {
        if !ways.iter().any(Way::pays) {
            return Ok(None);
        }
        let tables: Vec<Vec<Table>> = ways.iter().map(|w| vec![w.table.clone()]).collect();
        let (plan, _) = laid_out(&planned.plan, ways, &tables);
        let forecasts = ways.iter().map(Way::forecast).collect();
        Ok(Some((self.project.adopt(plan)?, forecasts)))
    }

    /// Weights for the way that the networks take now.
    fn fit(
        &self,
        way: &mut Way,
        (networks, probe): (&mut Loop, &mut Probe),
    ) -> Result<Table, TuneError> {
        let drawn = &self.cases[way.case];
        for site in &mut way.sites {
            site.sums.fill(Sum::default());
        }
        networks.set_schedule(Some(way.schedule.clone()));
        for batch in drawn.batches() {
            let mut recorder = Recorder::new(probe, &mut way.sites);
            drawn.run_by(&mut recorder, networks, &self.run, batch)?;
        }
        let weight = |site: &Site, evaluation: usize| {
            let last = site.schedule.last_refresh(evaluation);
            #[allow(clippy::cast_precision_loss)]
            let most = MOST * (evaluation - last.unwrap_or(evaluation)) as f64;
            site.sums[evaluation].weight().clamp(-most, most)
        };
        let weights = |site: &Site| (0..site.sums.len()).map(|e| weight(site, e)).collect();
        let sites = way.sites.iter();
        Ok(sites.map(|s| (s.name.clone(), weights(s))).collect())
    }
}

/// The best way of each case, in the order of cases. The first of a case, a formula, stands unless another is nearer by
/// more than chance: what a search found on few pictures may suit these alone.
fn best_of_each(ways: Vec<Way>) -> Vec<Way> {
    // The first of each case, the best one, and by how much it is.
    let mut cases: Vec<(Vec<f64>, Way, f64)> = Vec::new();
    for way in ways {
        match cases.iter_mut().find(|(_, best, _)| best.case == way.case) {
            Some((first, best, gain)) => {
                let found = firm_gain(first, &way.scores);
                if found > *gain {
                    (*best, *gain) = (way, found);
                }
            }
            None => cases.push((way.scores.clone(), way, 0.0)),
        }
    }
    let mut best: Vec<Way> = cases.into_iter().map(|(_, best, _)| best).collect();
    best.sort_by_key(|way| way.case);
    best
}

/// What is gained over other scores of the same pictures, less one standard error of the mean.
#[allow(clippy::cast_precision_loss)]
fn firm_gain(before: &[f64], after: &[f64]) -> f64 {
    let gains: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    let gain = mean(&gains);
    let count = gains.len() as f64;
    let spread: f64 = gains.iter().map(|g| (g - gain).powi(2)).sum();
    // One picture says nothing of spread.
    gain - (spread / (count - 1.0).max(1.0) / count.max(1.0)).sqrt()
}

impl Way {
    /// Whether its weights are worth a slope beside every value.
    pub fn pays(&self) -> bool {
        self.score >= self.held + WORTH
    }

    fn forecast(&self) -> Forecast {
        let gain = |(site, (_, weights)): (&Site, &(String, Vec<f64>))| {
            let held: f64 = site.sums.iter().map(|s| s.change).sum();
            let moved = site.sums.iter().zip(weights);
            let moved: f64 = moved.map(|(sum, weight)| sum.error(*weight)).sum();
            let gain = if held > 0.0 { 1.0 - moved / held } else { 0.0 };
            (site.name.clone(), gain)
        };
        Forecast {
            held: self.held,
            gains: self.sites.iter().zip(&self.table).map(gain).collect(),
        }
    }
}

/// The weights of a site where nothing was fitted.
#[allow(clippy::cast_precision_loss)]
fn unfitted(site: &Site) -> (String, Vec<f64>) {
    let age = |evaluation: usize| {
        let last = site.schedule.last_refresh(evaluation);
        (evaluation - last.unwrap_or(evaluation)) as f64
    };
    let weights = (0..site.sums.len()).map(|e| usual(&site.name) * age(e));
    (site.name.clone(), weights.collect())
}

fn part_of(table: &Table, share: f64, guided: bool) -> Table {
    let part = |(name, weights): &(String, Vec<f64>)| {
        let share = if name == GUIDANCE && !guided {
            0.0
        } else {
            share
        };
        let weights = weights.iter().map(|w| share * w);
        (name.clone(), weights.collect())
    };
    table.iter().map(part).collect()
}

/// The plan with the tables of `ways`, a row an evaluation that weighs, and the schedules that name
/// them; those of the plan are the first of each way.
fn laid_out(plan: &Plan, ways: &[Way], tables: &[Vec<Table>]) -> (Plan, Vec<Vec<Schedule>>) {
    let mut plan = plan.clone();
    plan.weights.0 = plan.weighed().map(|name| (name, Vec::new())).collect();
    let mut rows = 0;
    let mut all = Vec::new();
    for (way, tried) in ways.iter().zip(tables) {
        let mut schedules = Vec::new();
        for table in tried {
            let mut schedule = plan.schedules[way.place].clone();
            schedule.rows = Vec::new();
            for evaluation in 0..schedule.kinds.len() {
                if table.iter().all(|(_, weights)| weights[evaluation] == 0.0) {
                    schedule.rows.push(0);
                    continue;
                }
                rows += 1;
                schedule.rows.push(rows);
                for (name, column) in &mut plan.weights.0 {
                    let own = table.iter().find(|(n, _)| n == name);
                    // Four places are more than enough, and read well.
                    #[allow(clippy::cast_possible_truncation)]
                    let weight = own.map_or(0.0, |(_, weights)| {
                        (weights[evaluation] * 1e4).round() as f32 / 1e4
                    });
                    column.push(weight);
                }
            }
            schedules.push(schedule);
        }
        all.push(schedules);
    }
    for (way, own) in ways.iter().zip(&all) {
        plan.schedules[way.place].clone_from(&own[0]);
    }
    (plan, all)
}

#[cfg(test)]
mod tests {
    use super::firm_gain;

    #[test]
    fn a_gain_that_may_be_chance_is_none() {
        let before = [39.0, 47.9, 44.3, 51.9, 48.6, 44.2, 48.7, 47.2];
        // Seen: nearer by 1.9 dB in the mean, and 3.4 dB further on other scenes.
        let found = [52.2, 46.7, 53.6, 53.7, 42.1, 48.0, 40.8, 49.8];
        assert!(firm_gain(&before, &found) < 0.0);
        let firm = before.map(|score| score + 1.9);
        assert!((firm_gain(&before, &firm) - 1.9).abs() < 1e-9);
    }
}
