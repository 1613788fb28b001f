//! Plans and graphs of every fixture under every policy.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use hgc::unstable::analysis::shapes::Sizes;
use hgc::unstable::compile::{Inputs, Planned, Project};
use hgc::unstable::emit::print::{Annotations, print};
use hgc::unstable::plan::parameter::Parameters;
use hgc::unstable::plan::policy;
use sha2::{Digest, Sha256};

use crate::{differs, fixtures, settle};

/// Latents of the reduced-width fixtures.
const SIZES: Sizes = Sizes {
    batch: 2,
    height: 16,
    width: 16,
    tokens: 77,
};

/// Fixtures whose compiled graphs are kept whole, by the default policy.
const WHOLE: [&str; 4] = [
    "sd15-dynamo23",
    "sd15-ort-mha",
    "sd15-merged",
    "distilled-ts17",
];

/// What a plan saves, in a line a model.
fn costs(planned: &Planned) -> String {
    let models = planned.plan.models.iter().zip(&planned.costs);
    models.fold(String::new(), |mut text, (model, cost)| {
        let (before, after) = (cost.before(), cost.after());
        let _ = writeln!(
            text,
            "cost {}: {} -> {} MACs of weights, {} -> {} in all, {} bytes of caches",
            model.name, before.weights, after.weights, before.all, after.all, cost.cache_bytes
        );
        text
    })
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Plans and digests of one fixture; whole texts where they are kept.
fn check(name: &str) -> Vec<Option<String>> {
    let inputs = Inputs::read(&fixtures::fixture(name), &[]).unwrap();
    let project = Project::new(&inputs, SIZES).unwrap();
    let annotations: Vec<_> = project
        .analyses()
        .iter()
        .map(|a| Annotations::of(&a.graph, &a.shapes))
        .collect();
    let (mut plans, mut digests, mut found) = (String::new(), String::new(), Vec::new());
    for &policy in policy::ALL {
        let planned = project.plan(policy, &Parameters::new(20)).unwrap();
        let _ = writeln!(plans, "{}{}", planned.plan, costs(&planned));
        let compiled = project.compile(&planned).unwrap();
        for (index, model) in compiled.models.iter().enumerate() {
            let text = print(model.graph(), &annotations[index]);
            let _ = writeln!(digests, "{policy} {} {}", model.name, digest(&text));
            if policy == policy::DEFAULT && WHOLE.contains(&name) {
                found.push(differs(&format!("graphs/{name}.{}.txt", model.name), &text));
            }
        }
    }
    found.push(differs(&format!("plans/{name}.txt"), &plans));
    found.push(differs(&format!("digests/{name}.txt"), &digests));
    found
}

#[test]
fn every_fixture_under_every_policy() {
    let names: BTreeSet<String> = fixtures::names()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    settle(names.iter().flat_map(|name| check(name)));
}
