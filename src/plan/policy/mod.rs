//! Policies: named ways to make a plan for a UNet and its ControlNets together.
//!
//! A policy is a file of this folder: its parameters with their defaults, its grid for
//! `hgc eval`, and what it decides. To add one, write the file and name it in [`ALL`].

mod builder;
mod candidates;
mod control;
mod decision;
mod deepcache;
mod faster_diffusion;
mod help;
mod hgc;
mod hgc_paper;
mod lossless;
mod make;
mod none;
mod point;
mod propose;
pub mod shares;
mod tgate;
mod uses;

use std::fmt;
use std::str::FromStr;

pub use control::Control;
pub use decision::{Coarse, Decision, Fine, Given, cut_by_macs};
pub use deepcache::DeepCache;
pub use faster_diffusion::FasterDiffusion;
pub use help::{help, markdown, policies_markdown};
pub use hgc::Hgc;
pub use hgc_paper::HgcPaper;
pub use lossless::Lossless;
pub use make::{Analysed, inner_cuts, make, unhalved};
pub use none::Nothing;
pub use point::{Point, PointError, by, gates, scaled};
pub(crate) use propose::DEEP;
pub use tgate::TGate;
pub use uses::{Otherwise, Use};

use super::parameter::Parameters;
use crate::nearest::suggestion;

/// A named way to make a plan.
pub trait Policy: Send + Sync {
    /// Its name, as users write it.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// The parameters that it takes, with what each is where it is not told.
    fn uses(&self) -> &'static [Use];

    /// What it decides before the graphs are looked at.
    fn decide(&self, given: &Given<'_>) -> Decision;

    /// The points of its published grid, as [`Point::parse`] reads them, for a UNet with
    /// `skips` skip connections.
    fn grid(&self, parameters: &Parameters, skips: usize) -> Vec<String> {
        let _ = (parameters, skips);
        vec![self.name().to_owned()]
    }

    /// Whether it runs half of a guided batch on some steps.
    fn wants_halves(&self) -> bool {
        false
    }

    /// Whether it cuts the UNet at a skip connection.
    fn cuts(&self) -> bool {
        false
    }

    /// What a user should know before these parameters are used.
    fn caution(&self, parameters: &Parameters) -> Option<String> {
        let _ = parameters;
        None
    }
}

/// All policies that are known by name.
pub static ALL: &[&dyn Policy] = &[
    &Nothing,
    &Lossless,
    &DeepCache,
    &Control,
    &FasterDiffusion,
    &TGate,
    &HgcPaper,
    &Hgc,
];

/// The policy that is used where none is named.
pub static DEFAULT: &dyn Policy = &Hgc;

/// Names of all policies, for messages.
#[must_use]
pub fn names() -> String {
    let names: Vec<_> = ALL.iter().map(|p| p.name()).collect();
    names.join(", ")
}

/// That no policy has a name.
#[derive(Debug, thiserror::Error)]
#[error("no policy {name:?}{}; there are {}", suggestion(name, ALL.iter().map(|p| p.name())), names())]
pub struct UnknownPolicy {
    name: String,
}

impl FromStr for &'static dyn Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = ALL.iter().copied().find(|p| p.name() == name);
        found.ok_or_else(|| UnknownPolicy {
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for dyn Policy + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for dyn Policy + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Policy + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Policy + '_ {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parameter;

    #[test]
    fn every_use_is_of_the_table_and_reads_back() {
        for policy in ALL {
            for used in policy.uses() {
                let listed = parameter::named(used.parameter.name).unwrap();
                assert!(std::ptr::eq(listed, used.parameter), "{policy}");
                if let Otherwise::Value(text) | Otherwise::Neutral(text) = used.otherwise {
                    assert!(used.parameter.read(text).is_ok(), "{policy} {text}");
                }
            }
        }
    }

    #[test]
    fn names_are_found_and_unknown_ones_told() {
        for policy in ALL {
            assert_eq!(policy.name().parse::<&dyn Policy>().unwrap(), *policy);
        }
        let error = "hcg".parse::<&dyn Policy>().unwrap_err().to_string();
        assert!(
            error.contains("did you mean hgc?; there are none, lossless"),
            "{error}"
        );
    }

    #[test]
    fn every_grid_is_valid() {
        for steps in [1, 4, 20, 50] {
            let parameters = Parameters::new(steps);
            for policy in ALL {
                let points = Point::grid(*policy, &parameters, 12);
                assert!(!points.is_empty() || steps < 4, "{policy} {steps}");
                assert!(points.iter().all(|p| p.parameters.check().is_ok()));
            }
        }
    }
}
