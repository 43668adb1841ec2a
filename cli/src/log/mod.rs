//! `pelton log`: a data directory without its broker. Only `repair --apply` writes to it.

mod dump;
mod json;
mod line;
mod repair;
mod text;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use broker::directory::DataDir;
use broker::lock::ReadLock;
use broker::read_only::ReadOnlyDisk;
use clap::{Args, Subcommand};
use engine::inspect::InspectError;

use crate::failure::Failure;

/// Flags of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print what the files hold: superblock, frames, batches, records
    Dump(dump::DumpArgs),
    /// Read everything and say of each file whether it is whole; exit code 4 if records are damaged
    Verify(verify::VerifyArgs),
    /// Say what is damaged and what can be done; with --apply, mark it as lost and settle ends
    Repair(repair::RepairArgs),
}

/// Runs the command.
pub fn run(args: &LogArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        LogCommand::Dump(args) => dump::run(args),
        LogCommand::Verify(args) => verify::run(args),
        LogCommand::Repair(args) => repair::run(args),
    }
}

/// The data directory of all commands.
#[derive(Debug, Args)]
struct DirArgs {
    /// The data directory; no broker may be using it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl DirArgs {
    /// Keeps brokers out for as long as the lock lives.
    fn open(&self) -> Result<(ReadLock, ReadOnlyDisk), Failure> {
        let lock =
            ReadLock::take(&self.dir).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
        Ok((lock, ReadOnlyDisk::new(DataDir::new(self.dir.clone()))))
    }
}

/// How a command ends that cannot look into the directory.
fn failure(dir: &Path, error: &InspectError) -> Failure {
    let sentence = format!("{}: {error}", dir.display());
    match error {
        InspectError::NoData => Failure::Usage(sentence),
        InspectError::NoSuperblock => Failure::Damaged(sentence),
        InspectError::List(_)
        | InspectError::Read(..)
        | InspectError::Write(..)
        | InspectError::Newer(_) => Failure::Error(sentence),
    }
}
