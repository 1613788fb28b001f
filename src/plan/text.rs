//! A plan as text for `diff`: everything that decides a rewrite, nothing else.

use std::fmt::{self, Write as _};

use super::data::{CacheType, ModelPlan, Plan, Prompted, Reuse, Rows, Site};

impl fmt::Display for Plan {
    /// Gates with their schedules, sites with their tensors, refusals with their reasons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "hgc plan {}", self.format)?;
        writeln!(f, "policy {}, {} steps", self.policy, self.steps)?;
        for (key, value) in &self.parameters {
            writeln!(f, "parameter {key} = {value}")?;
        }
        let guidance = &self.guidance;
        let prompted = match guidance.prompted {
            Prompted::Last => "last",
            Prompted::First => "first",
        };
        let schedule = String::from(guidance.schedule.clone());
        let reuse = guidance.reuse;
        writeln!(f, "guidance {schedule} {reuse}, prompted {prompted}")?;
        self.models.iter().try_for_each(|m| write_model(f, m))
    }
}

fn write_model(f: &mut fmt::Formatter<'_>, model: &ModelPlan) -> fmt::Result {
    let halves = if model.halves { ", halves" } else { "" };
    let (name, role, hash) = (&model.name, model.role.name(), &model.hash);
    writeln!(f, "model {name}, {role}{halves}, graph {hash}")?;
    for gate in &model.gates {
        writeln!(f, "  gate {} {}", gate.name, gate.schedule)?;
    }
    for site in &model.sites {
        write_site(f, site)?;
    }
    for refusal in &model.refusals {
        writeln!(f, "  refused {}: {}", refusal.candidate, refusal.reason)?;
    }
    Ok(())
}

fn write_site(f: &mut fmt::Formatter<'_>, site: &Site) -> fmt::Result {
    let mut line = format!("  site {} by {}", site.name, site.gate);
    if site.reuse != Reuse::Hold {
        let _ = write!(line, ", {}", site.reuse);
    }
    match site.rows {
        Rows::All => {}
        Rows::Prompted => line.push_str(", prompted rows"),
        Rows::Mean => line.push_str(", mean of both halves"),
    }
    match site.cache {
        CacheType::Same => {}
        CacheType::F16 => line.push_str(", kept in half precision"),
        CacheType::Int8 => line.push_str(", kept in 8 bits"),
    }
    writeln!(f, "{line}: {}", site.why)?;
    for tensor in &site.tensors {
        writeln!(f, "    {tensor}")?;
    }
    Ok(())
}
