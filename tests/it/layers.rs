//! Arrows between the layers point one way. The compiler guards the first (`protocol` is a crate); this guards the rest.

use std::{fs, path::Path};

/// What each layer may name of the crate besides itself.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("store", &[]),
    ("provider", &[]),
    ("workspace", &[]),
    // Of the provider only how a model is told of a tool.
    ("tool", &["provider", "workspace", "schema", "outbound"]),
    ("outbound", &[]),
    ("dependencies", &[]),
    ("expression", &[]),
    ("duration", &[]),
    ("schema", &[]),
    ("workflow", &["expression", "duration", "schema"]),
    ("runtime", &["store", "provider", "tool", "expression", "workflow", "schema"]),
    ("transport", &["runtime", "api", "dependencies"]),
    // Of the store only the shapes that the runtime hands through: records and why something failed. Of tools what there is.
    ("api", &["runtime", "transport", "store", "provider", "tool", "dependencies"]),
    // Of the store only the records of sessions that the runtime hands through.
    ("compat", &["runtime", "transport", "api", "workflow", "tool", "store"]),
    ("auth", &["runtime", "config"]),
];
/// What has no business in the runtime, whatever crate it comes from.
const NOT_IN_RUNTIME: [&str; 7] = ["axum", "hyper", "http::", "tungstenite", "rusqlite", "StatusCode", "std::env"];

fn sources(folder: &Path, out: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push((path.display().to_string(), fs::read_to_string(&path).expect("a source")));
        }
    }
}

fn layer(name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    if place.is_dir() {
        sources(&place, &mut found);
    } else {
        let file = place.with_extension("rs");
        found.push((file.display().to_string(), fs::read_to_string(&file).expect("a source")));
    }
    assert!(!found.is_empty(), "{name} has sources");
    found
}

/// The modules of this crate that a source names: `crate::x` anywhere, and each of `use crate::{x, y::z}`.
fn named(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in source.split("crate::").skip(1) {
        if let Some(list) = part.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in list.chars() {
                match c {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut item)),
                    c if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            names.push(item);
        } else {
            names.push(part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names.into_iter().map(|name| name.trim().split("::").next().unwrap_or_default().trim().to_owned()).filter(|n| !n.is_empty()).collect()
}

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for (name, allowed) in MAY_USE {
        for (path, source) in layer(name) {
            for used in named(&source) {
                if used != name && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{path} uses crate::{used}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_runtime_knows_no_socket_status_code_or_sql() {
    for (path, source) in layer("runtime") {
        for word in NOT_IN_RUNTIME {
            assert!(!source.contains(word), "{path} names {word}");
        }
    }
}

#[test]
fn the_reader_of_imports_reads_them() {
    assert_eq!(named("use crate::{a::{b, c}, d,\n  e::f};"), ["a", "d", "e"]);
    assert_eq!(named("fn f(x: crate::store::Page)"), ["store"]);
}
