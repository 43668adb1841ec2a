//! Documents: every one is reachable, and every link leads somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use crate::tree::{self, Finding, Source};

const MAPS: [&str; 2] = ["README.md", "docs/ARCHITECTURE.md"];

#[test]
fn every_document_is_on_a_map() {
    let sources = tree::sources();
    let linked: BTreeSet<String> =
        MAPS.iter().flat_map(|map| links(named(&sources, map))).map(|link| link.target).collect();
    let findings: Vec<Finding> = sources
        .iter()
        .filter(|source| source.is_markdown() && source.is_under("docs"))
        .filter(|source| !MAPS.contains(&source.path.as_str()))
        // A link to a folder is a link to all in it.
        .filter(|source| !linked.iter().any(|at| *at == source.path || source.is_under(at)))
        .map(|source| source.finding(0, format!("link it from {}", MAPS.join(" or "))))
        .collect();
    tree::assert_none(&findings);
}

#[test]
fn every_link_leads_somewhere() {
    let root = tree::root();
    let mut findings = Vec::new();
    for source in tree::sources().iter().filter(|source| source.is_markdown()) {
        for link in links(source).iter().filter(|link| !root.join(&link.target).exists()) {
            findings.push(source.finding(link.line, format!("`{}` is not there", link.target)));
        }
    }
    tree::assert_none(&findings);
}

/// A relative link, its target given from the root.
struct Link {
    line: usize,
    target: String,
}

fn named<'a>(sources: &'a [Source], path: &str) -> &'a Source {
    let found = sources.iter().find(|source| source.path == path);
    found.unwrap_or_else(|| panic!("{path} is missing"))
}

/// Inline links to files of this project: `](target)`.
fn links(source: &Source) -> Vec<Link> {
    let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
    let mut links = Vec::new();
    for (line, text) in source.lines() {
        for piece in text.split("](").skip(1) {
            let target = piece.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                links.push(Link { line, target: from_root(folder, target) });
            }
        }
    }
    links
}

/// Resolves `..` by hand: the file need not exist.
fn from_root(folder: &Path, target: &str) -> String {
    let mut parts: Vec<&str> = folder.to_str().unwrap_or_default().split('/').collect();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_their_document() {
        let text = "See [a](STYLE.md#shape), [b](../README.md), [c](https://example.net).";
        let source = Source { path: "docs/A.md".into(), text: text.into() };
        let targets: Vec<String> = links(&source).into_iter().map(|link| link.target).collect();
        assert_eq!(targets, ["docs/STYLE.md", "README.md"]);
    }
}
