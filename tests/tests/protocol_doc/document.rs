//! Reads the tables and examples of the document.

const TEXT: &str = include_str!("../../../docs/PROTOCOL.md");

/// The rows of the first table below the heading, each as its trimmed cells.
pub fn table(heading: &str) -> Vec<Vec<String>> {
    let below = section(heading);
    let rows = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table below `{heading}`");
    rows
}

/// The first cells of each row of that table, joined for comparing.
pub fn columns(heading: &str, count: usize) -> Vec<String> {
    table(heading).iter().map(|row| row[..count].join(" | ")).collect()
}

/// Headings that begin with the prefix, without their marks.
pub fn headings(prefix: &str) -> Vec<&'static str> {
    let marked = TEXT.lines().filter_map(|line| line.strip_prefix('#'));
    marked
        .map(|line| line.trim_start_matches(['#', ' ']))
        .filter(|h| h.starts_with(prefix))
        .collect()
}

/// The bytes of a ```` ```hex name ```` block: pairs of digits up to the first double space.
pub fn example(name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let (_, block) = TEXT.split_once(&fence).unwrap_or_else(|| panic!("no example `{name}`"));
    let (block, _) = block.split_once("```").expect("the block ends");
    let digits = block.lines().map(|line| line.split("  ").next().unwrap_or_default());
    let pairs = digits.flat_map(str::split_whitespace);
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two hex digits")).collect()
}

/// Names of all examples.
pub fn example_names() -> Vec<&'static str> {
    TEXT.lines().filter_map(|line| line.strip_prefix("```hex ")).collect()
}

/// Compares line by line, so that a failure shows the one that differs.
#[track_caller]
pub fn assert_lines(what: &str, document: &[String], code: &[String]) {
    for (index, (said, is)) in document.iter().zip(code).enumerate() {
        assert_eq!(said, is, "{what}, row {}: document (left) and code (right) differ", index + 1);
    }
    assert_eq!(document.len(), code.len(), "{what}: rows of document (left) and code (right)");
}

fn section(heading: &str) -> &'static str {
    let at_line_end = |(at, found): &(usize, &str)| {
        let ends = TEXT[at + found.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric());
        ends && TEXT[..*at].ends_with("# ")
    };
    let found = TEXT.match_indices(heading).find(at_line_end);
    let (at, _) = found.unwrap_or_else(|| panic!("no heading `{heading}`"));
    &TEXT[at..]
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}
