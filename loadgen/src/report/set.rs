//! Several runs of one invocation, and how a sweep came to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Analysis, Run, SET_SCHEMA};

/// Several runs of one invocation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Set {
    /// [`SET_SCHEMA`].
    pub schema: String,
    /// The runs, each complete in itself, in the order in which they were made.
    pub cells: Vec<Run>,
    /// What was varied; null in a set of fixed cells.
    pub sweep: Option<Sweep>,
    /// What a sweep says over all its runs; null of another set, and while it is not finished.
    #[serde(default)]
    pub analysis: Option<Analysis>,
}

/// The plan of a sweep, and what became of each part of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// What was varied.
    pub vary: Vec<Knob>,
    /// The settings of each cell: knob -> value.
    pub cells: Vec<BTreeMap<String, String>>,
    /// Rounds that were planned; each runs every cell once.
    pub repeat: u32,
    /// Seed of the order of the runs.
    pub order_seed: u64,
    /// Whether it ended before its plan did.
    pub interrupted: bool,
    /// Every run that was tried, in order.
    pub attempts: Vec<Attempt>,
}

/// A knob and its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Knob {
    /// A flag of `bench run`, or `broker.KEY` for a flag of `serve`.
    pub key: String,
    /// As they were given.
    pub values: Vec<String>,
}

/// One run of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Index in [`Sweep::cells`].
    pub cell: usize,
    /// From 0.
    pub round: u32,
    /// Index of its result in [`Set::cells`]; null if there is none.
    pub run: Option<usize>,
    /// Why there is none.
    pub error: Option<String>,
}

impl Set {
    /// A set of `cells`.
    #[must_use]
    pub fn new(cells: Vec<Run>) -> Self {
        Self { schema: SET_SCHEMA.to_owned(), cells, sweep: None, analysis: None }
    }

    /// The results of one cell of the sweep.
    pub fn runs_of(&self, cell: usize) -> impl Iterator<Item = &Run> + '_ {
        let attempts = self.sweep.iter().flat_map(|sweep| &sweep.attempts);
        attempts
            .filter(move |attempt| attempt.cell == cell)
            .filter_map(|attempt| self.cells.get(attempt.run?))
    }
}
