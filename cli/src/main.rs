//! The one binary, `pelton`. Data goes to stdout, everything else to stderr.

mod consume;
mod failure;
mod log;
mod output;
mod ping;
mod produce;
mod queue;
mod serve;
mod server;
mod size;
mod stats;
mod topic;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A message broker for one machine, and the load generator that measures it.
///
/// Exit codes: 0 success, 1 error, 2 wrong usage or a broker that cannot start, 3 an objective was
/// missed, 4 records that are lost, repeated, out of order or damaged: by a load run, or in a data
/// directory, 5 a regression that --fail-on names, 6 a result that --strict does not trust, 130
/// interrupted.
#[derive(Debug, Parser)]
#[command(name = "pelton", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker
    Serve(Box<serve::ServeArgs>),
    /// Measure this machine's limits, and the broker beside them
    Bench(loadgen::run::BenchArgs),
    /// Create, list, describe and delete topics
    Topic(topic::TopicArgs),
    /// Create queues, publish and consume messages
    Queue(queue::QueueArgs),
    /// Send a record per line of stdin
    Produce(produce::ProduceArgs),
    /// Print records
    Consume(consume::ConsumeArgs),
    /// Look into a data directory that no broker uses
    Log(log::LogArgs),
    /// Print the broker's counters
    Stats(stats::StatsArgs),
    /// Measure round trips to the broker
    Ping(ping::PingArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Bench(args) => Ok(ExitCode::from(loadgen::run::bench(&args, &serve::flags()))),
        Command::Topic(args) => topic::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Ping(args) => ping::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            if let Some(sentence) = failure.sentence() {
                // Nobody is left to tell if stderr is closed, too.
                let _ = writeln!(std::io::stderr(), "pelton: {sentence}");
            }
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        for line in [
            "pelton consume t -f %v --from @0 --exit-at-end -c 3",
            "pelton produce t -K :",
            "pelton topic list --format json --server localhost:1",
            "pelton serve --data-dir d --listen 127.0.0.1:0 --listen=127.0.0.1:1",
            "pelton bench run --rate 5",
            "pelton log dump d --topic t --partition 3 --offsets 5..10 --segments --records",
            "pelton log dump d --offsets 5.. --json",
            "pelton log verify d -q",
            "pelton queue create q --dead-letter d --max-messages 5 --overflow reject",
            "pelton queue consume q -c 3 --prefetch 0 --priority -2",
            "pelton queue redrive d --rate 100",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "pelton",
            "pelton topic create a/b",
            "pelton consume t --from x",
            "pelton log dump d --offsets 9..3",
            "pelton log verify",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
