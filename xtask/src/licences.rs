//! Licences of everything that is linked in or run at build time, by an allow-list.
//!
//! Advisories are another matter: they need a database, and none is kept here.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Metadata;
use spdx::{Expression, ParseMode};

use crate::sh;

/// Licences that let Bascule be used under `Apache-2.0 OR MIT`.
const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Checks every package in the lock file.
pub fn check() -> Result<()> {
    let json =
        sh::output(sh::command("cargo").args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Metadata = cargo_metadata::MetadataCommand::parse(&json)
        .context("cargo's description of the workspace is not understood")?;
    let mut refused = BTreeMap::<String, Vec<String>>::new();
    for package in &metadata.packages {
        let licence = package.license.clone().unwrap_or_default();
        if !allowed(&licence) {
            let named = format!("{} {}", package.name, package.version);
            refused.entry(licence).or_default().push(named);
        }
    }
    if !refused.is_empty() {
        let list: Vec<_> = refused
            .iter()
            .map(|(licence, who)| format!("`{licence}`: {}", who.join(", ")))
            .collect();
        bail!(
            "not on the allow-list of xtask/src/licences.rs:\n        {}",
            list.join("\n        ")
        );
    }
    Ok(())
}

/// Whether an expression can be met by allowed licences alone.
fn allowed(expression: &str) -> bool {
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|parsed| {
        parsed.evaluate(|requirement| {
            requirement.license.id().is_some_and(|id| ALLOWED.contains(&id.name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_met_by_one_and_a_sum_by_all() {
        assert!(allowed("MIT OR GPL-3.0-only"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(!allowed("MIT AND GPL-3.0-only"));
        assert!(!allowed("AGPL-3.0-only"));
        assert!(!allowed(""));
    }
}
