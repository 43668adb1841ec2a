//! Where a command that makes many runs keeps its result.

use serde::Serialize;
use std::path::{Path, PathBuf};

use super::options::RunArgs;
use super::{RunError, write_json};

/// The file that `--json` names, or one in the current folder.
#[derive(Debug)]
pub(super) struct ResultFile {
    path: PathBuf,
    is_quiet: bool,
}

impl ResultFile {
    /// The file of a command.
    pub(super) fn of(args: &RunArgs, command: &str) -> Self {
        let path = args.json.clone().unwrap_or_else(|| {
            let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
            PathBuf::from(format!("pelton-{command}-{stamp}.json"))
        });
        Self { path, is_quiet: args.quiet }
    }

    /// Writes what is known so far. Standard output gets only the end.
    pub(super) fn keep(&self, result: &impl Serialize) -> Result<(), RunError> {
        match self.is_stdout() {
            true => Ok(()),
            false => write_json(Some(&self.path), result),
        }
    }

    /// Writes the result, and shows it as `text` has it.
    pub(super) fn finish(
        &self,
        result: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), RunError> {
        write_json(Some(&self.path), result)?;
        if !self.is_quiet && !self.is_stdout() {
            println!("{}", text().trim_end());
            println!("result: {}", self.path.display());
        }
        Ok(())
    }

    fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }
}

/// Whether a command was interrupted, unless it failed.
pub(super) fn was_interrupted(ended: Result<(), RunError>) -> Result<bool, RunError> {
    match ended {
        Ok(()) => Ok(false),
        Err(RunError::Interrupted) => Ok(true),
        Err(error) => Err(error),
    }
}
