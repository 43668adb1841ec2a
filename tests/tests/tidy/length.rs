//! Lengths of files, functions and lines.

use crate::ratchet::{self, Measure};
use crate::tree::{self, Source};

const FILE_LINES_MAX: usize = 600;
/// Nine files in ten are shorter; the mean would hide a few large ones.
const FILE_LINES_P90_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// One function's place, from its `fn` line to its closing brace.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<Measure> = rust_sources()
        .map(|source| Measure {
            place: source.path.clone(),
            line: 1,
            size: source.lines().count(),
            path: source.path,
        })
        .collect();
    tree::assert_none(&ratchet::findings("file-lines", FILE_LINES_MAX, &lengths));
    lengths.sort_by_key(|measure| measure.size);
    let p90 = &lengths[lengths.len() * 9 / 10];
    assert!(
        p90.size <= FILE_LINES_P90_MAX,
        "{}: with {} lines it is the 90th percentile, which may be {FILE_LINES_P90_MAX}",
        p90.path,
        p90.size,
    );
}

#[test]
fn functions_are_short() {
    let mut measures = Vec::new();
    for source in rust_sources() {
        measures.extend(functions(&source.text).into_iter().map(|function| Measure {
            place: format!("{}:{}", source.path, function.name),
            path: source.path.clone(),
            line: function.line,
            size: function.lines,
        }));
    }
    assert!(!measures.is_empty(), "no function was found: the scanner is blind");
    tree::assert_none(&ratchet::findings("function-lines", FUNCTION_LINES_MAX, &measures));
}

#[test]
fn lines_are_short() {
    let mut findings = Vec::new();
    // Tables in prose and arrays in manifests cannot be wrapped: code and scripts can.
    for source in tree::sources().iter().filter(|source| source.is_code()) {
        for (number, line) in source.lines() {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                let what = format!("{chars} characters exceed {LINE_CHARS_MAX}");
                findings.push(source.finding(number, what));
            }
        }
    }
    tree::assert_none(&findings);
}

fn rust_sources() -> impl Iterator<Item = Source> {
    tree::sources().into_iter().filter(Source::is_rust)
}

/// Finds functions by the layout that rustfmt gives them: the brace that closes one stands alone,
/// as deep as the line that opened it.
fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some(length) = body_end(&lines[index..], indent) {
            functions.push(Function { name: name.to_owned(), line: index + 1, lines: length });
        }
    }
    functions
}

/// The name that follows `fn`, where the line declares a function.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let is_qualifier = |word: &str| {
        ["pub", "const", "async", "unsafe", "extern", "\"C\""].contains(&word)
            || word.starts_with("pub(")
    };
    let is_declaration = before.split_whitespace().all(is_qualifier);
    let name_end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (is_declaration && name_end > 0).then(|| &after[..name_end])
}

/// How many lines the function takes, or None for a declaration without a body.
fn body_end(lines: &[&str], indent: &str) -> Option<usize> {
    let closing = format!("{indent}}}");
    let mut is_open = false;
    for (index, line) in lines.iter().enumerate() {
        if !is_open && line.ends_with(';') {
            return None;
        }
        if *line == closing || (index == 0 && line.ends_with('}')) {
            return Some(index + 1);
        }
        is_open |= line.ends_with('{');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scanner_sees_functions_as_rustfmt_lays_them_out() {
        let text = "\
pub const fn one() -> u8 { 1 }
trait T {
    fn declared(&self);
    fn wrapped(
        &self,
    ) -> u8;
    pub(crate) fn body(
        x: u8,
    ) -> u8 {
        if x > 1 {
            return 2;
        }
        x
    }
}
// fn comment() {
let call = fn_like(3);
";
        let function = |name: &str, line, lines| Function { name: name.into(), line, lines };
        assert_eq!(functions(text), [function("one", 1, 1), function("body", 7, 8)]);
    }
}
