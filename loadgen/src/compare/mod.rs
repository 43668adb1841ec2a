//! `pelton bench compare`: what differs between two results, and how far that can be said.
//!
//! Only files are read. Runs with equal settings are repeats of one cell; cells of the two files
//! are paired by the settings that vary within either file.

mod arms;
mod cell;
mod document;
mod pair;
mod render;

use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use arms::{Weighed, weigh};
use cell::Cell;
use document::Document;
pub(crate) use document::flatten;
use pair::Pair;
pub use render::render;

use crate::page::DocumentError;

/// Name and version of the schema of a comparison.
pub const COMPARE_SCHEMA: &str = "pelton.bench.compare/1";

/// Says what differs between two results, in settings and figures
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// A result of `bench run`, `bench sweep` or bare `bench`
    #[arg(value_name = "A.json")]
    pub(crate) a: PathBuf,
    /// Another one
    #[arg(value_name = "B.json")]
    pub(crate) b: PathBuf,
    /// Write the comparison as JSON to this file (`-` for stdout, instead of the table)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// A setting, or a fact about the machine, that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is.
    pub name: String,
    /// In the first file; null where it is not there.
    pub a: Option<String>,
    /// In the second file.
    pub b: Option<String>,
}

/// One of the two files.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Where it was read from.
    pub file: String,
    /// Runs in it.
    pub runs: usize,
    /// Cells: runs with equal settings are one.
    pub cells: usize,
    /// When the first run began.
    pub started_utc: Option<String>,
    /// Runs of a sweep that failed, and why.
    pub failed: Vec<String>,
    /// Runs that must not be used, and are left out: what says so.
    pub invalid: Vec<String>,
    /// Runs that count, but whose reasons to doubt should be read.
    pub doubtful: Vec<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// [`COMPARE_SCHEMA`].
    pub schema: String,
    /// The first file.
    pub a: Side,
    /// The second file.
    pub b: Side,
    /// What is the same throughout each file, but not in both.
    pub settings: Vec<Difference>,
    /// The machine, the program and its version.
    pub environment: Vec<Difference>,
    /// Cells of both files.
    pub pairs: Vec<Pair>,
    /// Cells of the first file without a counterpart: their settings.
    pub only_a: Vec<BTreeMap<String, String>>,
    /// Cells of the second file without a counterpart.
    pub only_b: Vec<BTreeMap<String, String>>,
}

/// Reads and compares two files.
///
/// # Errors
/// One of them cannot be read, or is no result.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, DocumentError> {
    let (a, b) = (Document::read(a)?, Document::read(b)?);
    let (cells_a, cells_b) = (cell::cells(&a), cell::cells(&b));
    let varying = varying(&cells_a, &cells_b);
    let key = |cell: &Cell<'_>| -> BTreeMap<String, String> {
        let kept = cell.settings.iter().filter(|(name, _)| varying.contains(name));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let mut pairs = Vec::new();
    let mut only_a = Vec::new();
    for cell_a in &cells_a {
        match cells_b.iter().find(|cell_b| key(cell_b) == key(cell_a)) {
            Some(cell_b) => pairs.push(Pair::new(key(cell_a), cell_a, cell_b)),
            None => only_a.push(key(cell_a)),
        }
    }
    let lacks = |cell: &&Cell<'_>| cells_a.iter().all(|other| key(other) != key(cell));
    let only_b = cells_b.iter().filter(lacks).map(&key).collect();
    let settings = match (cells_a.first(), cells_b.first()) {
        (Some(a), Some(b)) => differences(&a.settings, &b.settings, &varying),
        _ => Vec::new(),
    };
    Ok(Comparison {
        schema: COMPARE_SCHEMA.to_owned(),
        settings,
        environment: differences(&a.environment(), &b.environment(), &[]),
        pairs,
        only_a,
        only_b,
        a: a.side(&cells_a),
        b: b.side(&cells_b),
    })
}

/// Names of settings that are not the same in all cells of one file.
fn varying(a: &[Cell<'_>], b: &[Cell<'_>]) -> Vec<String> {
    let mut names = Vec::new();
    for cells in [a, b] {
        let all: std::collections::BTreeSet<&String> =
            cells.iter().flat_map(|cell| cell.settings.keys()).collect();
        let varies = |name: &&&String| {
            cells.iter().any(|cell| cell.settings.get(**name) != cells[0].settings.get(**name))
        };
        names.extend(all.iter().filter(varies).map(|name| (*name).clone()));
    }
    names
}

fn differences(
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
    leave_out: &[String],
) -> Vec<Difference> {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    differing
        .filter(|name| !leave_out.contains(name))
        .map(|name| Difference {
            name: name.clone(),
            a: a.get(name).cloned(),
            b: b.get(name).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
