//! Reads the tables and examples of a document.

/// A document whose tables are compared with the code.
pub struct Document(&'static str);

/// What goes over the wire.
pub const PROTOCOL: Document = Document(include_str!("../../../docs/PROTOCOL.md"));
/// What lies on the disk.
pub const FORMAT: Document = Document(include_str!("../../../docs/FORMAT.md"));

impl Document {
    /// The first cells of each row of the first table below the heading, joined for comparing.
    pub fn columns(&self, heading: &str, count: usize) -> Vec<String> {
        let rows = table(self.section(heading));
        assert!(!rows.is_empty(), "no table below `{heading}`");
        rows.iter().map(|row| row[..count].join(" | ")).collect()
    }

    /// Headings that begin with the prefix, without their marks.
    pub fn headings(&self, prefix: &str) -> Vec<&'static str> {
        let marked = self.0.lines().filter_map(|line| line.strip_prefix('#'));
        let plain = marked.map(|line| line.trim_start_matches(['#', ' ']));
        plain.filter(|heading| heading.starts_with(prefix)).collect()
    }

    /// The bytes of a ```` ```hex name ```` block: pairs of digits up to the first double space.
    pub fn example(&self, name: &str) -> Vec<u8> {
        let fence = format!("```hex {name}\n");
        let (_, block) = self.0.split_once(&fence).unwrap_or_else(|| panic!("no example `{name}`"));
        let (block, _) = block.split_once("```").expect("the block ends");
        let digits = block.lines().map(|line| line.split("  ").next().unwrap_or_default());
        let pairs = digits.flat_map(str::split_whitespace);
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two hex digits")).collect()
    }

    /// Names of all examples.
    pub fn example_names(&self) -> Vec<&'static str> {
        self.0.lines().filter_map(|line| line.strip_prefix("```hex ")).collect()
    }

    fn section(&self, heading: &str) -> &'static str {
        let text = self.0;
        let is_heading = |(at, found): &(usize, &str)| {
            let next = text[at + found.len()..].chars().next();
            next.is_none_or(|c| !c.is_alphanumeric()) && text[..*at].ends_with("# ")
        };
        let found = text.match_indices(heading).find(is_heading);
        let (at, _) = found.unwrap_or_else(|| panic!("no heading `{heading}`"));
        &text[at..]
    }
}

/// The rows of the first table in a text, each as its trimmed cells.
fn table(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
    rows.map(cells).collect()
}

/// Compares line by line, so that a failure shows the one that differs.
#[track_caller]
pub fn assert_lines(what: &str, document: &[String], code: &[String]) {
    for (index, (said, is)) in document.iter().zip(code).enumerate() {
        assert_eq!(said, is, "{what}, row {}: document (left) and code (right) differ", index + 1);
    }
    assert_eq!(document.len(), code.len(), "{what}: rows of document (left) and code (right)");
}
