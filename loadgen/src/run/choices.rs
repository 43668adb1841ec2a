//! The values that flags of `pelton bench` take.

use clap::ValueEnum;
use std::time::Duration;
use wire::Acks;
use wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, TOPIC_PARTITIONS_MAX};

use crate::payload::HEADER_LEN;
use crate::schedule::{Arrivals, ParseArrivalsError};

/// Where a load is steady from the beginning, it still takes so long to see that, and a little.
const USUAL_WARM_UP: Duration = Duration::from_secs(3);

/// Most producers or consumers of one run, each a connection.
const CONNECTIONS_MAX: u32 = 10_000;
/// Most unanswered requests per producer.
pub(super) const INFLIGHT_MAX: u32 = 4096;
/// `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetChoice {
    /// A child process on the first half of the cores.
    Spawn,
    /// A broker that runs already: HOST:PORT.
    Address(String),
    /// Nothing: requests are built, proven and answered within the generator.
    Null,
    /// The same behind loopback sockets.
    Echo,
}

impl TargetChoice {
    /// Whether it keeps what it is sent.
    pub(super) fn keeps_records(&self) -> bool {
        match self {
            Self::Spawn | Self::Address(_) => true,
            Self::Null | Self::Echo => false,
        }
    }
}

impl std::str::FromStr for TargetChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("pelton://")) {
            ("spawn", _) => Ok(Self::Spawn),
            ("null", _) => Ok(Self::Null),
            ("echo", _) => Ok(Self::Echo),
            (_, Some(address)) if address.contains(':') => Ok(Self::Address(address.to_owned())),
            _ => Err("expected spawn, pelton://HOST:PORT, null or echo".to_owned()),
        }
    }
}

/// `--rate`.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    /// Closed loop.
    Max,
    /// Records arrive like this, over all producers.
    Open(Arrivals),
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            _ => {
                text.parse().map(Self::Open).map_err(|error: ParseArrivalsError| error.to_string())
            }
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

/// `--partitioner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Partitioner {
    /// A batch goes to one partition, the next batch to the next one
    Sticky,
    /// Each record goes where the hash of a key of its own says; a request carries a batch for
    /// each partition that it has records for
    Keyed,
    /// Each record goes to the next partition; a request has one record for each of its partitions
    OneEach,
}

/// `--route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Route {
    /// To the endpoint of the shard that owns the partition
    Owner,
    /// To the one address, whoever owns the partition
    Any,
}

/// `--pin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pin {
    /// The broker gets the first half of the cores, the generator the others, a thread each
    Split,
    /// Both may use all cores, wherever the kernel puts them
    None,
}

/// `--fetch-path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FetchPath {
    /// What measured best
    Auto,
    /// Copied from the broker's memory
    Memory,
    /// Read past the page cache, then sent
    Direct,
    /// Sent from the page cache by the kernel
    Sendfile,
}

/// The name of a choice as its flag has it.
pub(super) fn name_of(choice: &impl ValueEnum) -> String {
    let value = choice.to_possible_value().expect("no choice is hidden");
    value.get_name().to_owned()
}

impl std::fmt::Display for FetchPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&name_of(self))
    }
}

/// How many producers or consumers.
pub(super) fn connections() -> clap::builder::RangedI64ValueParser {
    clap::value_parser!(i64).range(0..=i64::from(CONNECTIONS_MAX))
}

/// How many partitions.
pub(super) fn partitions() -> clap::builder::RangedI64ValueParser {
    clap::value_parser!(i64).range(1..=i64::from(TOPIC_PARTITIONS_MAX))
}

/// `--warmup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmUp {
    /// So long.
    For(Duration),
    /// Until the load is steady.
    Auto,
}

impl WarmUp {
    /// About how long it takes.
    pub(super) fn usual(self) -> Duration {
        match self {
            Self::For(duration) => duration,
            Self::Auto => USUAL_WARM_UP,
        }
    }
}

impl std::str::FromStr for WarmUp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => duration(text)
                .map(Self::For)
                .map_err(|error| format!("{error}, or auto: until the load is steady")),
        }
    }
}

/// A duration with its unit, as flags take it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; expected e.g. 1ms or 10s"))
}

/// A number of bytes with an optional unit: B, KB, MB, GB, KiB, MiB, GiB.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
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

/// Bytes of a record's value.
pub(super) fn record_size(text: &str) -> Result<u32, String> {
    let size = bytes(text)?;
    let longest = BATCH_BYTES_MAX - 256;
    match u32::try_from(size) {
        Ok(size) if (HEADER_LEN..=longest).contains(&(size as usize)) => Ok(size),
        _ => Err(format!(
            "a record has {HEADER_LEN} bytes (its header) to {longest} bytes (a batch)"
        )),
    }
}

/// A flag of `serve`, without its dashes.
pub(super) fn broker_flag(text: &str) -> Result<String, String> {
    let key = text.split('=').next().unwrap_or_default();
    let named = !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if !named || key.starts_with('-') || !text.contains('=') {
        return Err("expected KEY=VALUE with the name of a flag of `serve`".to_owned());
    }
    Ok(text.to_owned())
}
