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
use clap::{Args, FromArgMatches, ValueEnum};
use loadgen::run::ServeFlags;
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

/// What a run sets itself for a broker that it starts.
const SET_BY_RUNS: [&str; 5] = ["advertised-host", "config", "data-dir", "insecure-bind", "listen"];

/// What the load generator needs to know of these flags.
pub fn flags() -> ServeFlags {
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let names = shown.filter_map(|arg| arg.get_long()).filter(|name| !SET_BY_RUNS.contains(name));
    ServeFlags { names: names.map(str::to_owned).collect(), check }
}

/// Whether a broker would start with these flags, as far as that can be told before.
fn check(flags: &[String]) -> Result<(), String> {
    let line = flags.iter().map(|flag| format!("--{flag}"));
    let line = std::iter::once(String::from("serve")).chain(line);
    let command = ServeArgs::augment_args(clap::Command::new("serve").disable_help_flag(true));
    let parsed = command
        .try_get_matches_from(line)
        .and_then(|matches| ServeArgs::from_arg_matches(&matches))
        .map_err(|error| {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().replacen("error: ", "", 1)
        })?;
    config(parsed).map(drop)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked_without_a_broker() {
        let flags = flags();
        assert!(flags.names.iter().any(|name| name == "spin-us"), "{:?}", flags.names);
        assert!(!flags.names.iter().any(|name| name == "data-dir" || name == "stop-with-stdin"));
        let check = |line: &str| {
            let line: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            (flags.check)(&line)
        };
        assert_eq!(check("spin-us=0 journal-bytes=64MiB"), Ok(()));
        assert!(check("spin-us=soon").is_err_and(|why| why.contains("soon")));
        assert!(check("journal-bytes=1MiB").is_err_and(|why| why.contains("journal-bytes")));
    }
}
