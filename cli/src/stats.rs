//! `pelton stats`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::ServerArgs;

/// Flags of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub fn run(args: &StatsArgs) -> Result<ExitCode, Failure> {
    let counters = args.server.connect()?.stats()?;
    match args.format.format {
        Format::Table => {
            let rows = counters.into_iter().map(|(name, value)| vec![name, value.to_string()]);
            output::print(&output::table(&["COUNTER", "VALUE"], rows))?;
        }
        Format::Json => {
            let fields = counters.into_iter().map(|(name, value)| (name, Value::from(value)));
            output::print_json(&Value::Object(fields.collect::<Map<_, _>>()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
