//! What the hub is built from: licences that may be shipped, and no second copy of what there must be one of.
//! The lists are those of `deny.toml`, which says the same to `cargo deny` where that is installed.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde::Deserialize;

/// No copyleft.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// A second version of one of these is a second protocol stack in the binary, and half of the settings reach only one of them.
const ONCE: [&str; 9] = ["axum", "hyper", "libsqlite3-sys", "reqwest", "rusqlite", "rustls", "tokio", "tokio-tungstenite", "tungstenite"];

/// A second TLS stack, a second SQLite, deprecated.
const NEVER: [&str; 5] = ["openssl-sys", "native-tls", "sqlx", "serde_yaml", "tower_governor"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Copyleft of the file, not of the program: the crate is used as it is published, and whoever ships it says where its source is.
const EXCEPTIONS: [(&str, &str); 1] = [("smartstring", "MPL-2.0+")];

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Everything that can be in a binary for this machine, with every feature on.
fn packages() -> Vec<Package> {
    let about = Command::new("rustc").arg("-vV").output().expect("rustc is there, it built this test");
    let about = String::from_utf8(about.stdout).expect("text");
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc says its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Metadata>(&output.stdout).expect("cargo's own format").packages
}

#[test]
fn every_licence_may_be_shipped() {
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| package.source.is_some())
        .filter(|package| !package.license.as_deref().is_some_and(is_allowed))
        .filter(|package| !EXCEPTIONS.contains(&(package.name.as_str(), package.license.as_deref().unwrap_or_default())))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn one_of_what_there_must_be_one_of_and_none_of_what_there_must_be_none() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let twice: Vec<_> = ONCE.iter().filter_map(|name| Some((name, versions.get(*name)?))).filter(|(_, found)| found.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let banned: Vec<_> = NEVER.iter().filter(|name| versions.contains_key(**name)).collect();
    assert!(banned.is_empty(), "{banned:?}");
}

#[test]
fn licence_expressions() {
    for fine in
        ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception OR GPL-2.0"]
    {
        assert!(is_allowed(fine), "{fine}");
    }
    for wrong in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND AGPL-3.0", "", "MPL-2.0", "MIT OR", "(MIT"] {
        assert!(!is_allowed(wrong), "{wrong}");
    }
}

/// SPDX: `OR` binds weaker than `AND`; `/` is how `OR` was written once.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let fine = any(&mut words);
    fine == Some(true) && words.next().is_none()
}

type Words<'a, 'b> = &'a mut std::iter::Peekable<std::str::SplitWhitespace<'b>>;

fn any(words: Words<'_, '_>) -> Option<bool> {
    let mut fine = all(words)?;
    while words.next_if_eq(&"OR").is_some() {
        fine |= all(words)?;
    }
    Some(fine)
}

fn all(words: Words<'_, '_>) -> Option<bool> {
    let mut fine = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        fine &= one(words)?;
    }
    Some(fine)
}

fn one(words: Words<'_, '_>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let fine = any(words)?;
        return (words.next() == Some(")")).then_some(fine);
    }
    let name = match words.next_if_eq(&"WITH") {
        Some(_) => format!("{word} WITH {}", words.next()?),
        None => word.to_owned(),
    };
    Some(ALLOWED.contains(&name.as_str()))
}
