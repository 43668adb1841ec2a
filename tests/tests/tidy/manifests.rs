//! Manifests: crates depend downwards only, and every crate from outside has its reason and its
//! users written down.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{self, Finding};

const DEPENDENCIES: &str = "docs/DEPENDENCIES.md";

/// Each crate's folder and the crates of this project that it may use.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("wire", &[]),
    ("engine", &["wire"]),
    ("broker", &["engine", "wire"]),
    ("client", &["wire"]),
    ("loadgen", &["client", "wire"]),
    ("cli", &["broker", "client", "engine", "loadgen", "wire"]),
    ("bench", &["broker", "client", "engine", "loadgen", "wire"]),
    ("tests", &["broker", "client", "engine", "loadgen", "wire"]),
];

/// Which folders use a crate.
type Users = BTreeMap<String, BTreeSet<String>>;

#[test]
fn crates_depend_downwards_only() {
    let mut findings = Vec::new();
    for (folder, allowed) in MAY_USE {
        let used = sections(folder, &["dependencies"]);
        for name in used.iter().filter(|name| is_ours(name) && !allowed.contains(&name.as_str())) {
            let what = format!("`{folder}` may not depend on `{name}`");
            findings.push(Finding { path: format!("{folder}/Cargo.toml"), line: 0, what });
        }
    }
    tree::assert_none(&findings);
    let workspace = workspace();
    let members = workspace["members"].as_array().expect("members are a list").len();
    assert_eq!(members, MAY_USE.len(), "every member has its row");
}

#[test]
fn every_dependency_has_a_reason_and_its_users() {
    let text = std::fs::read_to_string(tree::root().join(DEPENDENCIES)).expect("it is there");
    let complaints = compare(&listed(&text), &used());
    let findings: Vec<Finding> = complaints
        .into_iter()
        .map(|what| Finding { path: DEPENDENCIES.to_owned(), line: 0, what })
        .collect();
    tree::assert_none(&findings);
}

fn compare(listed: &Users, used: &Users) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, users) in used {
        if users.is_empty() {
            complaints.push(format!("no crate uses `{name}`: drop it from the workspace"));
            continue;
        }
        let users = users.iter().cloned().collect::<Vec<_>>().join(", ");
        match listed.get(name) {
            None => complaints.push(format!("no row for `{name}`, used by {users}")),
            Some(row) if row != &used[name] => {
                complaints.push(format!("`{name}` is used by: {users}"));
            }
            Some(_) => {}
        }
    }
    let stale = listed.keys().filter(|name| !used.contains_key(*name));
    complaints.extend(stale.map(|name| format!("`{name}` is no longer used")));
    complaints
}

/// Every crate from outside that the workspace names, with its users by the manifests.
fn used() -> Users {
    let workspace = workspace();
    let table = workspace["dependencies"].as_table().expect("it is a table");
    let external = table.iter().filter(|(_, value)| value.get("path").is_none());
    let mut users: Users = external.map(|(name, _)| (name.clone(), BTreeSet::new())).collect();
    for (folder, _) in MAY_USE {
        for name in sections(folder, &["dependencies", "dev-dependencies"]) {
            if !is_ours(&name) {
                users.entry(name).or_default().insert(folder.to_owned());
            }
        }
    }
    users
}

/// The rows of the document: the crate without its backticks, and its users without remarks in
/// parentheses.
fn listed(text: &str) -> Users {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let of_row = rows.map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap_or_default().trim_matches('`').to_owned();
        let users = cells.next().unwrap_or_default().split(',');
        let users = users.filter_map(|user| user.split_whitespace().next());
        (name, users.map(str::to_owned).collect())
    });
    of_row.collect()
}

fn is_ours(name: &str) -> bool {
    MAY_USE.iter().any(|(folder, _)| *folder == name)
}

fn workspace() -> toml::Table {
    let manifest = manifest("Cargo.toml");
    manifest["workspace"].as_table().expect("it is a table").clone()
}

fn sections(folder: &str, names: &[&str]) -> BTreeSet<String> {
    let manifest = manifest(&format!("{folder}/Cargo.toml"));
    let tables = names.iter().filter_map(|name| manifest.get(*name)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

fn manifest(path: &str) -> toml::Table {
    let text = std::fs::read_to_string(tree::root().join(path)).expect("the manifest is there");
    text.parse().expect("the manifest is TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_stale_and_wrong_rows_are_seen() {
        let row = |name: &str, user: &str| (name.to_owned(), BTreeSet::from([user.to_owned()]));
        let text = "| crate | used by | why |\n| --- | --- | --- |\n| `a` | wire (tests) | so |\n";
        let documented = listed(text);
        assert_eq!(documented, Users::from([row("a", "wire")]));
        assert!(compare(&documented, &Users::from([row("a", "wire")])).is_empty());
        assert_eq!(compare(&documented, &Users::from([row("a", "cli")])).len(), 1, "wrong user");
        assert_eq!(compare(&documented, &Users::from([row("b", "wire")])).len(), 2, "b new, a old");
    }
}
