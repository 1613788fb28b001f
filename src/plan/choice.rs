//! Which of several schedules a sampler follows.

use super::Schedule;

/// The position of the schedule that serves so many evaluations with that sampler best: made for the sampler,
/// for its kind, for any, for another; of equals as long before others, of these the nearest in length. None where
/// there is no schedule.
#[must_use]
pub fn choose(schedules: &[Schedule], evaluations: usize, sampler: Option<&str>) -> Option<usize> {
    let far = |s: &Schedule| match s {
        _ if sampler.is_some() && s.sampler.as_deref() == sampler => 0,
        _ if s.is_made_for(sampler) => 1,
        _ if s.sampler.is_none() => 2,
        _ => 3,
    };
    let as_long = |s: &Schedule| s.evaluations() == evaluations;
    let all = || schedules.iter().enumerate();
    let exact = all().filter(|(_, s)| as_long(s));
    let exact = exact.min_by_key(|(_, s)| far(s));
    let near = || {
        let made = all().filter(|(_, s)| s.is_made_for(sampler));
        let distance = |(_, s): &(usize, &Schedule)| s.evaluations().abs_diff(evaluations);
        made.min_by_key(distance)
            .or_else(|| all().min_by_key(distance))
    };
    exact.or_else(near).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(sampler: Option<&str>, evaluations: usize) -> Schedule {
        Schedule {
            sampler: sampler.map(str::to_owned),
            kinds: vec!["full".to_owned(); evaluations],
            rows: Vec::new(),
            adaptive: None,
        }
    }

    #[test]
    fn the_nearest_schedule_is_chosen() {
        let all = [
            schedule(None, 20),
            schedule(Some("multistep"), 20),
            schedule(Some("unipc"), 20),
            schedule(Some("ddim"), 30),
        ];
        let chosen = |evaluations, sampler| choose(&all, evaluations, sampler).unwrap();
        assert_eq!(chosen(20, None), 0);
        assert_eq!(chosen(20, Some("ddim")), 0);
        assert_eq!(chosen(20, Some("dpm++2m")), 1);
        assert_eq!(chosen(20, Some("unipc")), 2);
        assert_eq!(chosen(28, Some("PNDMScheduler")), 1);
        assert_eq!(chosen(25, Some("ddim")), 3);
        // As long goes before made for it.
        assert_eq!(chosen(30, Some("unipc")), 3);
        assert_eq!(chosen(28, None), 3);
        assert_eq!(choose(&[], 20, None), None);
    }
}
