//! The flags of `pelton bench run`, and the plan that they make.

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use wire::Acks;
use wire::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, REQUEST_PARTITIONS_MAX, TOPIC_PARTITIONS_MAX,
};

use crate::payload::HEADER_LEN;

/// Most producers or consumers of one run, each a connection.
const CONNECTIONS_MAX: u32 = 10_000;
/// Most unanswered requests per producer.
const INFLIGHT_MAX: u32 = 4096;
/// Most partitions of a run: a consumer names all of its own in one request.
const PARTITIONS_MAX: u32 = 1024;
const _: () = assert!(PARTITIONS_MAX as usize <= REQUEST_PARTITIONS_MAX);
const _: () = assert!(PARTITIONS_MAX <= TOPIC_PARTITIONS_MAX);

/// Measures one load against one broker.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The broker: `spawn` starts one for this run, or pelton://HOST:PORT
    #[arg(long, default_value = "spawn", value_name = "TARGET")]
    pub target: TargetChoice,
    /// Records per second over all producers, or `max` for a closed loop
    #[arg(long, default_value = "max", value_name = "N|max")]
    pub rate: Rate,
    /// When the broker answers
    #[arg(long, value_enum, default_value = "durable")]
    pub acks: AcksChoice,
    /// How long a batch that is not full may wait for more records (open loop)
    #[arg(long, default_value = "0", value_name = "DUR", value_parser = duration)]
    pub linger: Duration,
    /// Batch size: bytes (64KiB) or records (1000rec)
    #[arg(long, default_value = "64KiB", value_name = "BYTES|Nrec")]
    pub batch: BatchSize,
    /// Unanswered produce requests per producer
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = 1..=i64::from(INFLIGHT_MAX))]
    pub inflight: i64,
    /// Bytes of a record's value, its 40-byte header included
    #[arg(long, default_value = "100", value_name = "BYTES", value_parser = record_size)]
    pub size: u32,
    /// Producers, each a connection
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = connections())]
    pub producers: i64,
    /// Consumers, each a connection
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = connections())]
    pub consumers: i64,
    /// Partitions of the topic
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = partitions())]
    pub partitions: i64,
    /// Length of the measured window
    #[arg(long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    pub duration: Duration,
    /// Load before the window opens
    #[arg(long, default_value = "2s", value_name = "DUR", value_parser = duration)]
    pub warmup: Duration,
    /// Poll sockets instead of sleeping, yielding the core each round
    #[arg(long)]
    pub busy_poll: bool,
    /// Seed of the records' bytes
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Measure this machine's limits before and after
    #[arg(long)]
    pub floor: bool,
    /// Produce this much first, then measure consuming alone
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub preload: Option<u64>,
    /// Topic to use instead of bench-RUN
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// Keep the topic afterwards
    #[arg(long)]
    pub keep: bool,
    /// Directory (and so the disk) for a spawned broker's data
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A flag of `serve` for a spawned broker, without dashes; repeatable
    #[arg(long = "broker", value_name = "KEY=VALUE", value_parser = broker_flag)]
    pub broker_flags: Vec<String>,
    /// Write the result as JSON to this file (`-` for stdout)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print neither progress nor the result
    #[arg(short, long)]
    pub quiet: bool,
}

/// `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetChoice {
    /// A child process on the first half of the cores.
    Spawn,
    /// A broker that runs already: HOST:PORT.
    Address(String),
}

impl std::str::FromStr for TargetChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "spawn" {
            return Ok(Self::Spawn);
        }
        match text.strip_prefix("pelton://") {
            Some(address) if address.contains(':') => Ok(Self::Address(address.to_owned())),
            _ => Err("expected `spawn` or pelton://HOST:PORT".to_owned()),
        }
    }
}

/// `--rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Closed loop.
    Max,
    /// Records per second over all producers.
    PerSecond(u64),
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            _ => match text.replace('_', "").parse() {
                Ok(rate @ 1..=1_000_000_000) => Ok(Self::PerSecond(rate)),
                _ => Err("expected `max` or records per second, from 1 to 10^9".to_owned()),
            },
        }
    }
}

/// `--acks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcksChoice {
    /// No reply
    None,
    /// Ordered in memory
    Memory,
    /// Written to the device
    Written,
    /// Durable on the device
    Durable,
}

impl From<AcksChoice> for Acks {
    fn from(choice: AcksChoice) -> Self {
        match choice {
            AcksChoice::None => Self::None,
            AcksChoice::Memory => Self::Memory,
            AcksChoice::Written => Self::Written,
            AcksChoice::Durable => Self::Durable,
        }
    }
}

/// `--batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// So many records.
    Records(u32),
    /// As many records as fit a batch of this many bytes, at least one.
    Bytes(u32),
}

impl std::str::FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(records) = text.strip_suffix("rec") {
            return match records.parse() {
                Ok(records @ 1..=BATCH_RECORDS_MAX) => Ok(Self::Records(records)),
                _ => Err(format!("a batch holds 1 to {BATCH_RECORDS_MAX} records")),
            };
        }
        match u32::try_from(bytes(text)?) {
            Ok(bytes) if bytes > 0 && bytes as usize <= BATCH_BYTES_MAX => Ok(Self::Bytes(bytes)),
            _ => Err(format!("a batch has 1 to {BATCH_BYTES_MAX} bytes")),
        }
    }
}

fn connections() -> clap::builder::RangedI64ValueParser {
    clap::value_parser!(i64).range(0..=i64::from(CONNECTIONS_MAX))
}

fn partitions() -> clap::builder::RangedI64ValueParser {
    clap::value_parser!(i64).range(1..=i64::from(PARTITIONS_MAX))
}

/// A duration with its unit, as flags take it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; expected e.g. 1ms or 10s"))
}

/// A number of bytes with an optional unit: B, KB, MB, GB, KiB, MiB, GiB.
fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("expected a number of bytes, e.g. 65536, 64KiB or 1MB".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "expected a number of bytes, e.g. 65536, 64KiB or 1MB".to_owned())
}

fn record_size(text: &str) -> Result<u32, String> {
    let size = bytes(text)?;
    let longest = BATCH_BYTES_MAX - 256;
    match u32::try_from(size) {
        Ok(size) if (HEADER_LEN..=longest).contains(&(size as usize)) => Ok(size),
        _ => Err(format!(
            "a record has {HEADER_LEN} bytes (its header) to {longest} bytes (a batch)"
        )),
    }
}

fn broker_flag(text: &str) -> Result<String, String> {
    let key = text.split('=').next().unwrap_or_default();
    let named = !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if !named || key.starts_with('-') || !text.contains('=') {
        return Err("expected KEY=VALUE with the name of a flag of `serve`".to_owned());
    }
    Ok(text.to_owned())
}

impl RunArgs {
    /// The flags of a command line without any.
    ///
    /// # Panics
    /// Never: each flag has a default.
    #[must_use]
    pub fn defaults() -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            run: RunArgs,
        }
        <Line as clap::Parser>::parse_from(["run"]).run
    }

    /// What is wrong with the combination of flags, as a usage error.
    #[must_use]
    pub fn invalid(&self) -> Option<String> {
        let spawned = self.target == TargetChoice::Spawn;
        if !spawned && (self.data_dir.is_some() || !self.broker_flags.is_empty()) {
            return Some("--data-dir and --broker are for a spawned broker only".to_owned());
        }
        if self.duration.is_zero() {
            return Some("--duration is above zero".to_owned());
        }
        if self.producers == 0 && (self.preload.is_some() || self.consumers == 0) {
            return Some("a run has producers, or consumers of a topic that holds records".into());
        }
        if let Some(reason) = self.topic.as_deref().and_then(wire::topic::invalid_name) {
            return Some(format!("--topic: {reason}"));
        }
        let records = match self.batch {
            BatchSize::Records(records) => u64::from(records),
            BatchSize::Bytes(_) => 0,
        };
        // 16 bytes around each value are more than its framing ever takes.
        if records * (u64::from(self.size) + 16) + 64 > BATCH_BYTES_MAX as u64 {
            return Some(format!("--batch: so many records do not fit {BATCH_BYTES_MAX} bytes"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(line: &str) -> Result<RunArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("run").chain(line.split_whitespace()))
            .map(|line| line.run)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let args = parse("").expect("no flag is required");
        assert_eq!((args.rate, args.acks), (Rate::Max, AcksChoice::Durable));
        assert_eq!((args.batch, args.inflight, args.size), (BatchSize::Bytes(65_536), 8, 100));
        assert_eq!((args.producers, args.consumers, args.partitions), (1, 0, 1));
        assert_eq!((args.duration.as_secs(), args.warmup.as_secs()), (10, 2));
        assert!(args.linger.is_zero() && args.invalid().is_none());
    }

    #[test]
    fn values_with_units() {
        let args = parse("--batch 1000rec --linger 1ms --preload 96MiB --rate 50_000 --size 1KiB")
            .expect("all are well-formed");
        assert_eq!((args.batch, args.rate), (BatchSize::Records(1000), Rate::PerSecond(50_000)));
        assert_eq!((args.preload, args.size), (Some(96 << 20), 1024));
        let target = parse("--target pelton://localhost:9600").expect("an address").target;
        assert_eq!(target, TargetChoice::Address("localhost:9600".to_owned()));
    }

    #[test]
    fn bad_values_are_usage_errors() {
        for line in [
            "--size 39",
            "--size x",
            "--rate 0",
            "--rate fast",
            "--batch 0",
            "--batch 2MiB",
            "--batch 0rec",
            "--batch 70000rec",
            "--inflight 0",
            "--partitions 0",
            "--target host",
            "--linger soon",
            "--broker cores",
            "--broker --cores=1",
            "--acks all",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "--target pelton://h:1 --data-dir /x",
            "--producers 0",
            "--topic a/b",
            "--batch 1000rec --size 4KiB",
            "--duration 0",
        ] {
            assert!(parse(line).expect(line).invalid().is_some(), "{line}");
        }
    }
}
