//! The pure crates never touch the world, and memory-unsafe code lives in named places only.

use crate::tree::{self, Finding, Source};

/// Crates whose code is a value: time, seed and bytes are arguments.
const PURE_FOLDERS: [&str; 2] = ["engine/src", "wire/src"];

/// What a pure crate never mentions: clocks, files, sockets, threads, randomness (a hasher with a
/// random seed is one: the same seed must give the same trace).
const IMPURE: [&str; 19] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "rand",
    "getrandom",
    "RandomState",
    "HashMap",
    "HashSet",
    "thread_local",
    "rustix",
    "io_uring",
    "println",
    "eprintln",
];

/// Files and folders that may hold memory-unsafe code, each for one reason.
const UNSAFE_ALLOWED: [&str; 5] = [
    "engine/src/pool.rs",  // the arena: buffers are handed out as tokens
    "loom/engine/src",     // memory that the model checker watches
    "broker/src/io/uring", // what the kernel reads and writes
    "loadgen/src/floor",   // limit probes use the ring directly
    "wire/tests/counting", // the counting allocator of test programs
];

#[test]
fn engine_and_wire_are_pure() {
    let sources = tree::sources();
    let pure = sources.iter().filter(|source| PURE_FOLDERS.iter().any(|at| source.is_under(at)));
    let findings: Vec<Finding> = pure.flat_map(impurities).collect();
    tree::assert_none(&findings);
}

#[test]
fn memory_unsafe_code_lives_in_named_places() {
    let word = concat!("un", "safe");
    let mut findings = Vec::new();
    for source in tree::sources().iter().filter(|source| source.is_rust()) {
        let allowed = UNSAFE_ALLOWED.iter().any(|at| source.path == *at || source.is_under(at));
        let lines = source.code_lines().filter(|(_, line)| !allowed && mentions(line, word));
        findings.extend(lines.map(|(number, _)| {
            source.finding(number, format!("`{word}` is not allowed in this file"))
        }));
    }
    tree::assert_none(&findings);
}

fn impurities(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.code_lines() {
        for name in IMPURE.iter().filter(|name| mentions(line, name)) {
            let what = format!("`{name}` in a pure crate: the world comes in as an argument");
            findings.push(source.finding(number, what));
        }
    }
    findings
}

/// Whether the name stands in the line as a whole word, outside of string literals.
fn mentions(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = &line[..at];
        let is_quoted = before.matches('"').count() % 2 == 1;
        let after = line[at + name.len()..].chars().next();
        !is_quoted && !before.ends_with(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impurities_are_found_in_code_but_not_in_prose() {
        let text = "\
//! Never reads std::fs.
use std::fs::File;
let operand = 1; // no HashMap here
let m: HashMap<u8, u8>;
panic!(\"an Instant\");
";
        let source = Source { path: "engine/src/a.rs".into(), text: text.into() };
        let lines: Vec<usize> = impurities(&source).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 4]);
    }
}
