//! How a command ends when it does not succeed.

use std::io;
use std::process::ExitCode;

use client::ClientError;

/// The exit code of a command that found records damaged, lost, repeated or out of order.
const DAMAGED: u8 = 4;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// Something went wrong: exit code 1.
    Error(String),
    /// The command line or configuration makes no sense, or a broker cannot start: exit code 2.
    Usage(String),
    /// Records that should be there are damaged or missing: exit code 4.
    Damaged(String),
    /// Whoever read our output has had enough: quietly the end, exit code 0.
    OutputClosed,
}

impl Failure {
    /// What to tell on stderr, if anything.
    pub fn sentence(&self) -> Option<&str> {
        match self {
            Failure::Error(sentence) | Failure::Usage(sentence) | Failure::Damaged(sentence) => {
                Some(sentence)
            }
            Failure::OutputClosed => None,
        }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Error(_) => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Damaged(_) => ExitCode::from(DAMAGED),
            Failure::OutputClosed => ExitCode::SUCCESS,
        }
    }

    /// Failing to write data to stdout.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Error(format!("cannot write to stdout: {error}")),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Error(error.to_string())
    }
}
