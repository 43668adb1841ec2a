//! A result file: a run or a set.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Side;
use super::cell::Cell;
use crate::page::{self, DocumentError};
use crate::report::Set;
use crate::validity::ValidityVerdict;

/// A file that was read.
pub(super) struct Document {
    path: PathBuf,
    pub(super) set: Set,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, DocumentError> {
        let error = |reason: &str| Err(DocumentError::new(path, reason.to_owned()));
        let set = match page::Document::read(path)? {
            page::Document::Run(run) => Set::new(vec![*run]),
            page::Document::Set(set) if set.cells.is_empty() => return error("holds no run"),
            page::Document::Set(set) => *set,
            _ => return error("only runs and sets of runs are compared"),
        };
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
