//! A file that holds a result of any kind.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::report::{RUN_SCHEMA, Run, SET_SCHEMA, Set};
use crate::run::{
    AB_SCHEMA, Ab, BACKLOG_SCHEMA, Backlog, CURVE_SCHEMA, Curve, MAX_SCHEMA, Max, SOAK_SCHEMA,
    Soak, VERIFY_SCHEMA, Verified,
};

/// A result.
#[derive(Clone, Debug)]
pub enum Document {
    /// Of `bench run` and `bench ping`.
    Run(Box<Run>),
    /// Of bare `bench` and `bench sweep`.
    Set(Box<Set>),
    /// Of `bench ab`.
    Ab(Box<Ab>),
    /// Of `bench max`.
    Max(Box<Max>),
    /// Of `bench curve`.
    Curve(Box<Curve>),
    /// Of `bench backlog`.
    Backlog(Box<Backlog>),
    /// Of `bench soak`.
    Soak(Box<Soak>),
    /// Of `bench verify`.
    Verified(Box<Verified>),
}

/// Why a file holds none.
#[derive(Debug)]
pub struct DocumentError {
    path: PathBuf,
    reason: String,
}

impl DocumentError {
    pub(crate) fn new(path: &Path, reason: String) -> Self {
        Self { path: path.to_path_buf(), reason }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for DocumentError {}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or holds no whole result.
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        let error = |reason: String| DocumentError::new(path, reason);
        let text = std::fs::read_to_string(path)
            .map_err(|source| error(format!("cannot be read: {source}")))?;
        Self::parse(&text).map_err(error)
    }

    /// Takes the text of a file.
    ///
    /// # Errors
    /// It holds no whole result.
    pub fn parse(text: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        let schema = json.get("schema").and_then(Value::as_str).unwrap_or("none").to_owned();
        match schema.as_str() {
            RUN_SCHEMA => whole(json, &schema).map(Self::Run),
            SET_SCHEMA => whole(json, &schema).map(Self::Set),
            AB_SCHEMA => whole(json, &schema).map(Self::Ab),
            MAX_SCHEMA => whole(json, &schema).map(Self::Max),
            CURVE_SCHEMA => whole(json, &schema).map(Self::Curve),
            BACKLOG_SCHEMA => whole(json, &schema).map(Self::Backlog),
            SOAK_SCHEMA => whole(json, &schema).map(Self::Soak),
            VERIFY_SCHEMA => whole(json, &schema).map(Self::Verified),
            _ => Err(format!(
                "its schema is {schema}; this program reads {RUN_SCHEMA}, {SET_SCHEMA}, \
                 {AB_SCHEMA}, {MAX_SCHEMA}, {CURVE_SCHEMA}, {BACKLOG_SCHEMA}, {SOAK_SCHEMA} and \
                 {VERIFY_SCHEMA}"
            )),
        }
    }

    /// All runs in it.
    #[must_use]
    pub fn runs(&self) -> Vec<&Run> {
        match self {
            Self::Run(run) => vec![run],
            Self::Set(set) => set.cells.iter().collect(),
            Self::Ab(ab) => ab.runs_a.iter().chain(&ab.runs_b).collect(),
            Self::Max(max) => max.runs.iter().collect(),
            Self::Curve(curve) => curve.runs.iter().collect(),
            Self::Backlog(all) => all.runs_without.iter().chain(&all.runs_with).collect(),
            Self::Soak(soak) => vec![&soak.run],
            Self::Verified(_) => Vec::new(),
        }
    }
}

fn whole<T: DeserializeOwned>(json: Value, schema: &str) -> Result<Box<T>, String> {
    serde_json::from_value(json)
        .map(Box::new)
        .map_err(|error| format!("is no whole {schema}: {error}"))
}
