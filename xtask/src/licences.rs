//! Licences of everything we link, against the list in `deny.toml`.
//!
//! The same list serves `cargo deny check`; this reads it so that every run of the tests enforces
//! it without a tool to install.

use crate::workspace::{WASM_TARGET, cargo_output, root};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::{collections::BTreeMap, fs};

/// Where what we build runs.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", WASM_TARGET];

/// Fails, naming each package whose licence `deny.toml` does not allow.
pub(crate) fn check() -> Result<()> {
    let allowed = allowed(&fs::read_to_string(root().join("deny.toml"))?)?;
    let mut refused = BTreeMap::new();
    let mut seen = 0;
    for target in TARGETS {
        let args = ["metadata", "--locked", "--format-version", "1", "--filter-platform", target];
        let metadata: Value = serde_json::from_slice(&cargo_output(&args)?)?;
        for (package, licence) in linked(&metadata)? {
            seen += 1;
            if let Err(why) = permitted(&licence, &allowed) {
                refused.insert(package, why);
            }
        }
    }
    if refused.is_empty() {
        eprintln!("{seen} licences of {} targets are among those deny.toml allows", TARGETS.len());
        return Ok(());
    }
    let list: Vec<String> = refused.iter().map(|(p, why)| format!("  {p}: {why}")).collect();
    bail!("licences that deny.toml does not allow:\n{}", list.join("\n"))
}

/// `licenses.allow` of a `deny.toml`.
fn allowed(deny: &str) -> Result<Vec<spdx::Licensee>> {
    let deny: toml::Value = toml::from_str(deny).context("deny.toml")?;
    let list = deny.get("licenses").and_then(|l| l.get("allow")).and_then(|a| a.as_array());
    let list = list.context("deny.toml has no licenses.allow")?;
    list.iter()
        .map(|name| {
            let name = name.as_str().context("licenses.allow holds something not a string")?;
            spdx::Licensee::parse(name).with_context(|| format!("licenses.allow: {name:?}"))
        })
        .collect()
}

/// `name version` and licence of each package in the resolved graph.
fn linked(metadata: &Value) -> Result<Vec<(String, String)>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata: no graph")?;
    let ids: Vec<&str> = nodes.iter().filter_map(|n| n["id"].as_str()).collect();
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let linked = packages.iter().filter(|p| p["id"].as_str().is_some_and(|id| ids.contains(&id)));
    Ok(linked
        .map(|p| (format!("{} {}", text(&p["name"]), text(&p["version"])), text(&p["license"])))
        .collect())
}

/// Whether an SPDX expression (or Cargo's older `A/B`) can be met from `allowed`.
fn permitted(licence: &str, allowed: &[spdx::Licensee]) -> Result<(), String> {
    if licence.is_empty() {
        return Err("names no licence".into());
    }
    let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX)
        .map_err(|e| format!("{licence:?} is not an SPDX expression ({})", e.reason))?;
    if expression.evaluate(|requirement| allowed.iter().any(|a| a.satisfies(requirement))) {
        Ok(())
    } else {
        Err(format!("{licence:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_or_refused() {
        let allowed = allowed("[licenses]\nallow = [\"MIT\", \"Apache-2.0\"]").expect("list");
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "MIT AND Apache-2.0"] {
            assert_eq!(permitted(good, &allowed), Ok(()), "{good}");
        }
        for bad in ["", "GPL-3.0-only", "MIT AND AGPL-3.0-only", "see the LICENSE file"] {
            assert!(permitted(bad, &allowed).is_err(), "{bad}");
        }
    }
}
