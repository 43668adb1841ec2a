//! Tables and JSON on stdout.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::Value;

use crate::failure::Failure;

/// `--format`.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// JSON for programs
    Json,
}

/// Columns of text, the named ones first; numbers stand to the right.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    let mut numeric = vec![true; header.len()];
    for row in rows {
        for (cell, numeric) in row.iter().zip(&mut numeric) {
            *numeric &= !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
        }
        table.add_row(row);
    }
    for (column, numeric) in table.column_iter_mut().zip(numeric) {
        column.set_padding((0, 2));
        if numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Prints a line, or several.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::output(&error))
}

/// Prints indented JSON.
pub fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// Whether nobody will ever read what is written to stdout: the other end of a pipe is closed.
pub fn is_closed() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let polled = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Tells people something that is not data.
pub fn note(text: &str) {
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(io::stderr(), "{text}");
}
