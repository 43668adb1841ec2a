//! Words that may stand nowhere, or nowhere in tests. The patterns are put together from pieces, so
//! that this file does not contain them.

use crate::tree::{self, Finding, Source};

/// A forbidden text and what to do instead.
struct Word {
    text: String,
    instead: &'static str,
}

fn word(pieces: &[&str], instead: &'static str) -> Word {
    Word { text: pieces.concat(), instead }
}

fn everywhere() -> Vec<Word> {
    vec![
        word(&["TO", "DO"], "do it, or file it"),
        word(&["FIX", "ME"], "fix it, or file it"),
        word(&["XX", "X"], "say it in a sentence"),
        word(&["#[ig", "nore"], "a test runs or it goes"),
        word(&["crates", ".io"], "the project names no package registry"),
        word(&["py", "pi.org"], "the project names no package registry"),
        word(&["npm", "js.org"], "the project names no package registry"),
        word(&["proxy.go", "lang.org"], "the project names no package registry"),
        word(&["issue", " #"], "say what it is about: the project speaks of itself alone"),
        word(&["/wo", "rk/"], "paths are relative to the root"),
        word(&["/ro", "ot/"], "paths are relative to the root"),
        word(&["/ho", "me/"], "paths are relative to the root"),
    ]
}

fn in_tests() -> Vec<Word> {
    let instead = "wait for the condition, or drive the clock";
    vec![word(&["thread::", "sleep"], instead), word(&["nano", "sleep"], instead)]
}

#[test]
fn no_forbidden_word_stands_in_the_tree() {
    let words = everywhere();
    let findings: Vec<Finding> =
        tree::sources().iter().flat_map(|source| matches(source, 1, &words)).collect();
    tree::assert_none(&findings);
}

#[test]
fn tests_never_sleep() {
    let words = in_tests();
    let mut findings = Vec::new();
    for source in tree::sources().iter().filter(|source| source.is_rust()) {
        let is_test = source.is_under("tests") || source.path.contains("/tests/");
        let from = if is_test { Some(1) } else { source.unit_tests_from() };
        findings.extend(from.into_iter().flat_map(|from| matches(source, from, &words)));
    }
    tree::assert_none(&findings);
}

fn matches(source: &Source, from_line: usize, words: &[Word]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.lines().filter(|(number, _)| *number >= from_line) {
        for word in words.iter().filter(|word| line.contains(&word.text)) {
            let what = format!("`{}` is forbidden here: {}", word.text, word.instead);
            findings.push(source.finding(number, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_word_is_found_with_its_line() {
        let text = format!("fine\n// {}{}: later\n", "TO", "DO");
        let source = Source { path: "a.rs".into(), text };
        let findings = matches(&source, 1, &everywhere());
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
        assert!(matches(&source, 3, &everywhere()).is_empty(), "it lies before the first line");
    }
}
