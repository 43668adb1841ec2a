//! Runs with equal settings are repeats of one cell.

use std::collections::BTreeMap;

use super::document::{Document, flatten};
use crate::report::Run;
use crate::validity::ValidityVerdict;

/// Knobs of a sweep that no run tells by itself.
const ONLY_IN_SWEEPS: [&str; 2] = ["data-dir", "target"];

/// Runs of one file that differ in nothing that was asked for.
pub(super) struct Cell<'a> {
    pub(super) settings: BTreeMap<String, String>,
    /// Those that may be used.
    pub(super) runs: Vec<&'a Run>,
    /// How many may not.
    pub(super) invalid: usize,
}

/// The cells of a file, in the order of their first runs.
pub(super) fn cells(document: &Document) -> Vec<Cell<'_>> {
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for (index, run) in document.set.cells.iter().enumerate() {
        let settings = settings(document, index, run);
        let at = cells.iter().position(|cell| cell.settings == settings);
        let at = at.unwrap_or_else(|| {
            cells.push(Cell { settings, runs: Vec::new(), invalid: 0 });
            cells.len() - 1
        });
        match run.validity.verdict {
            ValidityVerdict::Invalid => cells[at].invalid += 1,
            ValidityVerdict::Valid | ValidityVerdict::Doubtful => cells[at].runs.push(run),
        }
    }
    cells
}

/// Everything that was asked for, by name.
fn settings(document: &Document, index: usize, run: &Run) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    flatten("", &serde_json::to_value(&run.options).unwrap_or_default(), &mut settings);
    settings.insert("acks".to_owned(), run.durability.acks.clone());
    settings.insert("seed".to_owned(), run.seed.to_string());
    settings.insert("target".to_owned(), run.target.kind.clone());
    if let Some(system) = &run.target.data_dir_file_system {
        settings.insert("data_dir_file_system".to_owned(), system.clone());
    }
    let cores = |cores: &[usize]| format!("{cores:?}");
    settings.insert("generator_cores".to_owned(), cores(&run.target.generator_cores));
    if let Some(broker) = &run.target.broker_cores {
        settings.insert("broker_cores".to_owned(), cores(broker));
    }
    if let Some(binary) = &run.target.broker_binary {
        settings.insert("broker-binary".to_owned(), binary.clone());
    }
    for flag in &run.target.broker_flags {
        let (key, value) = flag.split_once('=').unwrap_or((flag, ""));
        settings.insert(format!("broker.{key}"), value.to_owned());
    }
    if let Some(sweep) = &document.set.sweep {
        let attempt = sweep.attempts.iter().find(|attempt| attempt.run == Some(index));
        let varied = attempt.and_then(|attempt| sweep.cells.get(attempt.cell));
        for (key, value) in varied.into_iter().flatten() {
            if ONLY_IN_SWEEPS.contains(&key.as_str()) {
                settings.insert(key.clone(), value.clone());
            }
        }
    }
    settings
}
