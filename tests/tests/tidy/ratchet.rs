//! The committed list of places that exceed a limit today. It may only shrink: a row that is no
//! longer needed, or that allows more than is needed, fails as well.

use std::collections::BTreeMap;

use crate::tree::Finding;

const LIST: &str = include_str!("exceptions.txt");
const LIST_PATH: &str = "tests/tests/tidy/exceptions.txt";

/// One measured thing: its rule, its name in the list, its place and its size.
#[derive(Debug)]
pub struct Measure {
    /// Name of the place in the list: a path, or a path and a function.
    pub place: String,
    /// File that holds it.
    pub path: String,
    /// First line of it.
    pub line: usize,
    /// What was counted.
    pub size: usize,
}

/// Compares every measure with the limit and with the list's rows for this rule.
pub fn findings(rule: &str, limit: usize, measures: &[Measure]) -> Vec<Finding> {
    judge(&rows(LIST, rule), rule, limit, measures)
}

fn judge(
    rows: &BTreeMap<String, usize>,
    rule: &str,
    limit: usize,
    measures: &[Measure],
) -> Vec<Finding> {
    let mut unused: BTreeMap<&String, usize> = rows.iter().map(|(k, v)| (k, *v)).collect();
    let mut findings = Vec::new();
    for measure in measures.iter().filter(|measure| measure.size > limit) {
        let allowed = unused.remove(&measure.place).unwrap_or(limit);
        let place = &measure.place;
        let what = match measure.size.cmp(&allowed) {
            std::cmp::Ordering::Greater => format!("{rule} {} exceeds {allowed}", measure.size),
            std::cmp::Ordering::Less => {
                format!("better than listed: lower `{rule} {place}` to {}", measure.size)
            }
            std::cmp::Ordering::Equal => continue,
        };
        findings.push(Finding { path: measure.path.clone(), line: measure.line, what });
    }
    findings.extend(unused.keys().map(|place| Finding {
        path: LIST_PATH.to_owned(),
        line: 0,
        what: format!("remove `{rule} {place}`: it keeps the limit now"),
    }));
    findings
}

/// Rows are `rule place size`; empty lines and lines that begin with `#` say nothing.
fn rows(list: &str, rule: &str) -> BTreeMap<String, usize> {
    let rows = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let of_rule = rows.filter_map(|line| {
        let [name, place, size] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{LIST_PATH}: a row is `rule place size`, not `{line}`");
        };
        let size = size.parse().expect("the size is a number");
        (name == rule).then(|| (place.to_owned(), size))
    });
    of_rule.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(size: usize) -> Measure {
        Measure { place: "a.rs".into(), path: "a.rs".into(), line: 1, size }
    }

    fn count(list: &str, size: usize) -> usize {
        judge(&rows(list, "r"), "r", 10, &[measure(size)]).len()
    }

    #[test]
    fn the_list_allows_what_it_names_and_only_shrinks() {
        assert_eq!(count("", 10), 0, "at the limit");
        assert_eq!(count("", 11), 1, "beyond the limit");
        assert_eq!(count("# why\nr a.rs 11\n", 11), 0, "listed");
        assert_eq!(count("r a.rs 11", 12), 1, "worse than listed");
        assert_eq!(count("r a.rs 13", 12), 1, "better than listed");
        assert_eq!(count("r a.rs 13", 10), 1, "no longer needed");
        assert_eq!(count("other a.rs 13", 10), 0, "another rule's row");
    }
}
