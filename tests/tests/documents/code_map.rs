//! The map of the code names every module, and nothing that is not there.

use std::collections::BTreeSet;
use std::path::Path;

use pelton_tests::program::workspace;

const ARCHITECTURE: &str = include_str!("../../../docs/ARCHITECTURE.md");
const CRATES: [&str; 8] =
    ["wire", "engine", "broker", "client", "loadgen", "cli", "bench", "tests"];

/// Paths in the first column of the map's tables.
fn mapped() -> BTreeSet<String> {
    let (_, map) = ARCHITECTURE.split_once("### Modules").expect("there is a map");
    let (map, _) = map.split_once("\n## ").expect("something follows it");
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

/// Modules right below a crate's `src`: files, and folders with a slash behind them.
fn modules(of_crate: &str) -> Vec<String> {
    let folder = workspace().join(of_crate).join("src");
    let entries = std::fs::read_dir(folder).expect("every crate has sources");
    let names = entries.flatten().map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() { name + "/" } else { name }
    });
    let is_root = |name: &String| ["lib.rs", "main.rs"].contains(&name.as_str());
    names.filter(|name| !is_root(name)).map(|name| format!("{of_crate}/src/{name}")).collect()
}

#[test]
fn every_module_is_on_the_map() {
    let mapped = mapped();
    let all = CRATES.iter().flat_map(|name| modules(name));
    let missing: Vec<String> = all.filter(|module| !mapped.contains(module)).collect();
    let what = "add a line to the modules in docs/ARCHITECTURE.md for";
    assert!(missing.is_empty(), "{what} {}", missing.join(", "));
}

#[test]
fn everything_on_the_map_is_there() {
    let mapped = mapped();
    assert!(mapped.len() > 60, "the map was found: {}", mapped.len());
    let gone: Vec<&String> = mapped.iter().filter(|path| !is_there(path)).collect();
    assert!(gone.is_empty(), "drop from docs/ARCHITECTURE.md, or correct: {gone:?}");
}

/// A folder is named with a slash at its end, a file without.
fn is_there(path: &str) -> bool {
    let place: &Path = &workspace().join(path);
    if path.ends_with('/') { place.is_dir() } else { place.is_file() }
}
