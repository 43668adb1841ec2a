//! `pelton ping`.

use std::process::ExitCode;

use clap::Args;

use crate::failure::Failure;
use crate::output;
use crate::server::ServerArgs;

/// Flags of `ping`.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// How many round trips
    #[arg(short, long, default_value_t = 4, value_name = "N")]
    count: u32,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub fn run(args: &PingArgs) -> Result<ExitCode, Failure> {
    let mut connection = args.server.connect()?;
    for _ in 0..args.count {
        let round_trip = connection.ping()?;
        output::print(&format!("{} {} us", args.server.server, round_trip.as_micros()))?;
    }
    Ok(ExitCode::SUCCESS)
}
