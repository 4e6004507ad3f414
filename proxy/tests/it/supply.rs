//! Checks the dependencies against `deny.toml` without a network: licences, duplicates, sources. Advisories need cargo-deny and its database (`make supply`).

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

const DENY: &str = include_str!("../../../deny.toml");

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    name_at_version: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

fn deny() -> Deny {
    toml::from_str(DENY).expect("deny.toml")
}

/// All packages that are built on Linux, including tools and tests.
fn packages() -> Vec<Package> {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo's metadata");
    assert!(metadata.packages.len() > 60, "{} packages only", metadata.packages.len());
    metadata.packages
}

/// Whether the allowed licences meet an SPDX expression; `/` is an old way to write OR.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = either(&words, allowed);
    met && rest.is_empty()
}

fn either<'w>(words: &'w [&'w str], allowed: &BTreeSet<String>) -> (bool, &'w [&'w str]) {
    let (mut met, mut rest) = both(words, allowed);
    while let ["OR", more @ ..] = rest {
        let (also, after) = both(more, allowed);
        (met, rest) = (met | also, after);
    }
    (met, rest)
}

fn both<'w>(words: &'w [&'w str], allowed: &BTreeSet<String>) -> (bool, &'w [&'w str]) {
    let (mut met, mut rest) = one(words, allowed);
    while let ["AND", more @ ..] = rest {
        let (also, after) = one(more, allowed);
        (met, rest) = (met & also, after);
    }
    (met, rest)
}

fn one<'w>(words: &'w [&'w str], allowed: &BTreeSet<String>) -> (bool, &'w [&'w str]) {
    match words {
        ["(", inner @ ..] => {
            let (met, rest) = either(inner, allowed);
            match rest {
                [")", after @ ..] => (met, after),
                _ => (false, rest),
            }
        }
        [license, "WITH", exception, rest @ ..] => (allowed.contains(&format!("{license} WITH {exception}")), rest),
        [license, rest @ ..] => (allowed.contains(*license), rest),
        [] => (false, words),
    }
}

#[test]
fn an_expression_of_licences_is_read_as_spdx_means_it() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, wanted) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND (GPL-3.0 OR Apache-2.0)", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("GPL-3.0 WITH LLVM-exception", false),
        ("MIT OR", true),
        ("MIT MIT", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), wanted, "{expression:?}");
    }
}

#[test]
fn every_licence_is_an_allowed_one() {
    let allowed = deny().licenses.allow;
    let unmet = packages().into_iter().filter(|package| {
        package.source.is_some() && !package.license.as_ref().is_some_and(|license| is_met(license, &allowed))
    });
    let unmet: Vec<_> = unmet.map(|package| format!("{} {:?}", package.name, package.license)).collect();
    assert!(unmet.is_empty(), "{unmet:#?}");
}

#[test]
fn a_crate_is_there_in_one_version_but_for_those_excused() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let skips = deny().bans.skip;
    let excused = |name: &str, version: &str| {
        skips.iter().any(|skip| {
            skip.name_at_version
                .split_once('@')
                .is_some_and(|(skipped, prefix)| skipped == name && version.starts_with(&format!("{prefix}.")))
        })
    };
    for (name, versions) in &versions {
        let left: Vec<_> = versions.iter().filter(|version| !excused(name, version)).collect();
        assert!(left.len() <= 1, "{name} is there as {versions:?}");
    }
    for Skip { name_at_version } in &skips {
        let (name, _) = name_at_version.split_once('@').expect("crate@version");
        let is_needed = versions.get(name).is_some_and(|versions| versions.len() > 1);
        assert!(is_needed, "{name_at_version} is excused for nothing");
    }
}

#[test]
fn everything_comes_from_one_registry() {
    let sources: BTreeSet<_> = packages().into_iter().filter_map(|package| package.source).collect();
    assert!(sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");
}
