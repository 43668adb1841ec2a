//! Names of files and folders: the noun, never a drawer.

use crate::tree::{self, Finding};

const NAMES_FORBIDDEN: [&str; 10] =
    ["util", "utils", "helper", "helpers", "common", "impl", "impls", "manager", "misc", "stuff"];

/// Names whose digit is part of the noun.
const NUMBERED_NOUNS: [&str; 1] = ["murmur2"];

#[test]
fn files_are_named_by_a_noun() {
    let sources = tree::sources();
    let findings: Vec<Finding> = sources
        .iter()
        .filter_map(|source| complaint(&source.path).map(|what| source.finding(0, what)))
        .collect();
    tree::assert_none(&findings);
}

fn complaint(path: &str) -> Option<String> {
    let mut words = path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    let bad = words.find(|stem| {
        NAMES_FORBIDDEN.contains(stem)
            || (stem.ends_with('2') && !NUMBERED_NOUNS.contains(stem))
            || stem.ends_with("_manager")
    })?;
    Some(format!("`{bad}` names no thing: call it by what it holds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawers_are_seen_and_nouns_are_not() {
        assert!(complaint("engine/src/utils.rs").is_some());
        assert!(complaint("engine/src/common/crc.rs").is_some());
        assert!(complaint("engine/src/journal2.rs").is_some());
        assert!(complaint("client/src/murmur2.rs").is_none());
        assert!(complaint("engine/src/journal.rs").is_none());
    }
}
