//! A result file: a run or a set.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Side;
use super::cell::Cell;
use crate::report::{RUN_SCHEMA, Run, SET_SCHEMA, Set};
use crate::validity::ValidityVerdict;

/// Why a file cannot be compared.
#[derive(Debug)]
pub struct DocumentError {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for DocumentError {}

/// A file that was read.
pub(super) struct Document {
    path: PathBuf,
    pub(super) set: Set,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, DocumentError> {
        let error = |reason: String| DocumentError { path: path.to_path_buf(), reason };
        let text = std::fs::read_to_string(path)
            .map_err(|source| error(format!("cannot be read: {source}")))?;
        let set = parse(&text).map_err(error)?;
        if set.cells.is_empty() {
            return Err(error("holds no run".to_owned()));
        }
        Ok(Self { path: path.to_path_buf(), set })
    }

    /// What is known of the file besides its figures.
    pub(super) fn side(&self, cells: &[Cell<'_>]) -> Side {
        let runs = &self.set.cells;
        let attempts = self.set.sweep.iter().flat_map(|sweep| &sweep.attempts);
        let failed = attempts.filter_map(|attempt| {
            let error = attempt.error.as_ref()?.lines().next()?;
            Some(format!("cell {}, round {}: {error}", attempt.cell, attempt.round + 1))
        });
        let with = |verdict: ValidityVerdict| {
            let some = runs.iter().enumerate().filter(|(_, run)| run.validity.verdict == verdict);
            some.map(|(index, run)| format!("run {index}: {}", run.validity.reasons.join("; ")))
                .collect()
        };
        Side {
            file: self.path.display().to_string(),
            runs: runs.len(),
            cells: cells.len(),
            started_utc: runs.iter().filter_map(|run| run.started_utc.clone()).min(),
            failed: failed.collect(),
            invalid: with(ValidityVerdict::Invalid),
            doubtful: with(ValidityVerdict::Doubtful),
        }
    }

    /// The machine and the program, as the first run tells them.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let run = &self.set.cells[0];
        let mut facts = BTreeMap::new();
        flatten("", &serde_json::to_value(&run.env).unwrap_or_default(), &mut facts);
        facts.insert("tool_version".to_owned(), run.tool.version.clone());
        facts
    }
}

fn parse(text: &str) -> Result<Set, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    let schema = json.get("schema").and_then(Value::as_str).unwrap_or("none");
    let bad = |error: serde_json::Error| format!("is no whole {schema}: {error}");
    match schema {
        RUN_SCHEMA => {
            let run: Run = serde_json::from_value(json.clone()).map_err(bad)?;
            Ok(Set::new(vec![run]))
        }
        SET_SCHEMA => serde_json::from_value(json.clone()).map_err(bad),
        _ => {
            Err(format!("its schema is {schema}; this program reads {RUN_SCHEMA} and {SET_SCHEMA}"))
        }
    }
}

/// Leaves of a JSON value by name; what is null is left out.
pub(crate) fn flatten(name: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            flatten(&name, value, into);
        }),
        Value::String(text) => drop(into.insert(name.to_owned(), text.clone())),
        other => drop(into.insert(name.to_owned(), other.to_string())),
    }
}
