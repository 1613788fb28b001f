//! `hgc inspect`.

use serde_json::Value;

use crate::{SMALL, hgc, stored, words};

fn sum(list: &Value, field: &str) -> u64 {
    let items = list.as_array().unwrap().iter();
    items.map(|v| v[field].as_u64().unwrap()).sum()
}

#[test]
fn json_says_what_a_unet_is_made_of() {
    let options = format!("{SMALL} --format json");
    let report = hgc("inspect", &[stored("unet")], &options).json();
    assert_eq!(report["role"], "unet");
    let blocks = report["blocks"].as_array().unwrap();
    assert!(blocks.len() > 20, "{}", blocks.len());
    let mut ids = Vec::new();
    for block in blocks {
        ids.push(block["id"].as_str().unwrap());
        assert!(
            block["stage"].is_string() && block["kind"].is_string(),
            "{block}"
        );
        assert!(
            block["label"].is_string() && block["nodes"].as_u64() > Some(0),
            "{block}"
        );
        assert!(
            block["macs"].as_u64() >= block["macs_weights"].as_u64(),
            "{block}"
        );
        assert!(!words(&block["outputs"]).is_empty(), "{block}");
    }
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "identifiers are unique");

    // 16 transformers, each with one attention of a kind.
    let attention = report["attention"].as_array().unwrap();
    for kind in ["self", "cross"] {
        let of_kind = attention.iter().filter(|a| a["kind"] == kind);
        assert_eq!(of_kind.count(), 16, "{kind}");
    }
    for a in attention {
        assert!(a["id"].is_string() && a["output"].is_string(), "{a}");
        assert!(ids.contains(&a["block"].as_str().unwrap()), "{a}");
        assert!(a["macs"].as_u64() > Some(0), "{a}");
    }
    assert_eq!(report["skips"].as_array().unwrap().len(), 12);
    for skip in report["skips"].as_array().unwrap() {
        assert!(
            skip["concat"].is_string() && skip["source"].is_string(),
            "{skip}"
        );
        assert_eq!(words(&skip["residuals"]).len(), 1, "{skip}");
    }
    let totals = &report["totals"];
    assert_eq!(totals["macs"], sum(&report["blocks"], "macs"));
    assert_eq!(
        totals["macs_weights"],
        sum(&report["blocks"], "macs_weights")
    );
    assert_eq!(report["unknown_shapes"].as_array().unwrap().len(), 0);
}

#[test]
fn several_files_make_an_array() {
    let options = format!("{SMALL} --format json");
    let files = [stored("unet"), stored("controlnet")];
    let reports = hgc("inspect", &files, &options).jsons();
    let roles: Vec<&Value> = reports.iter().map(|r| &r["role"]).collect();
    assert_eq!(roles, ["unet", "controlnet"]);
    for (report, file) in reports.iter().zip(&files) {
        assert_eq!(report["file"], file.to_str().unwrap());
    }
    let folder = files[0].parent().unwrap().parent().unwrap();
    assert_eq!(hgc("inspect", &[folder], &options).jsons(), reports);
}

#[test]
fn sizes_scale_macs() {
    let macs = |sizes: &str| {
        let options = format!("{sizes} --format json");
        hgc("inspect", &[stored("controlnet")], &options).json()["totals"]["macs"].as_u64()
    };
    let (one, two) = (macs("--batch 1 --height 8"), macs("--batch 2 --height 8"));
    assert_eq!(one.map(|n| 2 * n), two);
}

#[test]
fn dot_has_blocks_and_skips() {
    let text = hgc(
        "inspect",
        &[stored("unet")],
        &format!("{SMALL} --format dot"),
    )
    .ok();
    assert!(text.starts_with("digraph ") && text.trim_end().ends_with('}'));
    assert_eq!(text.matches('{').count(), text.matches('}').count());
    assert_eq!(text.matches("style=dashed").count(), 12);
    assert!(text.contains("->") && text.contains("MACs"));
}

#[test]
fn the_table_is_for_people() {
    let text = hgc("inspect", &[stored("unet")], SMALL).ok();
    assert!(
        text.contains("12 skip connections; 16 self- and 16 cross-attentions"),
        "{text}"
    );
    assert!(text.contains("encoder_hidden_states"), "{text}");
}
