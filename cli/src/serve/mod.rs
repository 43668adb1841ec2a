//! `pelton serve`: flags over environment over file over defaults, then the broker.

mod file;
mod layer;
mod tuning;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use broker::config::Config;
use broker::parent;
use broker::serve::{ServeError, serve};
use clap::{Args, ValueEnum};
use tracing_subscriber::filter::LevelFilter;

use crate::failure::Failure;
use layer::Layer;

/// Flags of `serve`. Given twice, the last one counts: so a program that starts brokers can put
/// its user's flags behind its own.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct ServeArgs {
    /// Read settings from this TOML file; flags and environment go before it
    #[arg(long, env = "PELTON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The least important events to log on stderr
    #[arg(long, env = "PELTON_LOG", value_enum, default_value = "info", value_name = "LEVEL")]
    log: LogLevel,
    /// Stop once stdin ends: the process that holds its other end is gone
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    #[command(flatten)]
    layer: Layer,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    /// What needs an operator
    Error,
    /// And what may
    Warn,
    /// And what is worth knowing
    Info,
    /// And what helps to find faults
    Debug,
    /// Everything
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

/// Runs the command.
pub fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from(args.log))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    if args.stop_with_stdin {
        parent::stop_with_stdin()
            .map_err(|error| Failure::Error(format!("stdin cannot be watched: {error}")))?;
    }
    let config = config(args).map_err(Failure::Usage)?;
    match serve(&config) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(ServeError::Setup(sentence)) => Err(Failure::Usage(sentence)),
        Err(ServeError::Failed(sentence)) => Err(Failure::Error(sentence)),
    }
}

fn config(args: ServeArgs) -> Result<Config, String> {
    let mut config = Config::default();
    if let Some(path) = &args.config {
        file::read(path)?.apply(&mut config);
    }
    args.layer.apply(&mut config);
    match config.invalid() {
        Some(sentence) => Err(sentence),
        None => Ok(config),
    }
}
