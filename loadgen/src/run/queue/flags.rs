//! The flags that only queues have.

use clap::{Args, ValueEnum};
use std::fmt;

use super::super::choices::{AcksChoice, BatchSize, Partitioner, name_of};
use super::super::options::RunArgs;
use crate::report::QueueOptions;
use wire::limits::{BATCH_BYTES_MAX, PUBLISH_MESSAGES_MAX};
use wire::queue::MESSAGE_HEAD_BYTES;

/// Most unsettled messages of one consumer.
const PREFETCH_MAX: i64 = 1_000_000;
/// Unsettled messages of one consumer, unless the flag says otherwise.
const PREFETCH: u32 = 1_000;
/// Acknowledgements that are sent together, unless the flag says otherwise.
const ACK_BATCH: u32 = 100;
/// A share of one.
const WHOLE: u32 = 1_000_000;
/// Digits behind the point of a share.
const SHARE_DIGITS: usize = 6;

/// `--mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Records into partitions of a topic
    #[default]
    Topic,
    /// Messages through queues
    Queue,
}

/// `--ack-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Messages are settled by being sent.
    Auto,
    /// Each with a request of its own.
    Each,
    /// So many with one request, as ranges.
    Batched(u32),
}

impl std::str::FromStr for AckMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = format!("expected auto, each or batched:N, with N from 1 to {PREFETCH_MAX}");
        match (text, text.strip_prefix("batched:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("each", _) => Ok(Self::Each),
            (_, Some(Ok(count))) if (1..=PREFETCH_MAX).contains(&i64::from(count)) => {
                Ok(Self::Batched(count))
            }
            _ => Err(expected),
        }
    }
}

impl fmt::Display for AckMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Each => f.write_str("each"),
            Self::Batched(count) => write!(f, "batched:{count}"),
        }
    }
}

/// A share from 0 to 1, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub(super) u32);

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a share from 0 to 1 with at most six decimals".to_owned();
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        let is_short = (1..=SHARE_DIGITS).contains(&decimals.len());
        if whole.is_empty() || !is_number(whole) || !is_number(decimals) || !is_short {
            return Err(expected());
        }
        let millionths = format!("{whole}{decimals:0<SHARE_DIGITS$}").parse().unwrap_or(u32::MAX);
        if millionths > WHOLE { Err(expected()) } else { Ok(Self(millionths)) }
    }
}

/// What is loaded, and how queues are.
#[derive(Args, Clone, Debug, Default)]
pub struct QueueFlags {
    /// What is loaded: `queue` publishes messages and consumes them; --producers are publishers,
    /// --partitions queues, --size bytes of a body, --batch messages of a frame, and --inflight
    /// counts unconfirmed messages per publisher
    #[arg(long, value_enum, default_value = "topic", value_name = "WHAT")]
    pub mode: Mode,
    /// Unsettled messages per consumer of a queue [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=PREFETCH_MAX))]
    pub prefetch: Option<i64>,
    /// How consumers of a queue acknowledge: auto, each or batched:N [default: batched:100]
    #[arg(long, value_name = "HOW")]
    pub ack_mode: Option<AckMode>,
    /// Share of deliveries that consumers of a queue give back, to be delivered again
    #[arg(long, value_name = "F")]
    pub nack_share: Option<Share>,
    /// Share of the frames whose messages shall survive a restart [default: 1]
    #[arg(long, value_name = "F")]
    pub persistent_share: Option<Share>,
    /// Messages that were delivered this often become dead letters, in a queue that the run makes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    pub delivery_limit: Option<i64>,
    /// Publish so many messages first, then measure publishing beside consuming
    #[arg(long, value_name = "N")]
    pub backlog: Option<u64>,
}

impl QueueFlags {
    /// Unsettled messages per consumer; 0 where they are settled by being sent.
    pub(super) fn prefetch(&self) -> u32 {
        let asked = self.prefetch.map(|count| u32::try_from(count).expect("its range is checked"));
        match self.ack_mode() {
            AckMode::Auto => 0,
            AckMode::Each | AckMode::Batched(_) => asked.unwrap_or(PREFETCH),
        }
    }

    /// How consumers acknowledge.
    pub(super) fn ack_mode(&self) -> AckMode {
        self.ack_mode.unwrap_or(AckMode::Batched(ACK_BATCH))
    }

    /// How often a message may be delivered; 0: without end.
    pub(super) fn delivery_limit(&self) -> u32 {
        let limit = self.delivery_limit.unwrap_or(0);
        u32::try_from(limit).expect("its range is checked")
    }

    /// Share of deliveries that are given back, in millionths.
    pub(super) fn nack_millionths(&self) -> u32 {
        self.nack_share.map_or(0, |share| share.0)
    }

    /// Share of frames that are persistent, in millionths.
    pub(in super::super) fn persistent_millionths(&self) -> u32 {
        self.persistent_share.map_or(WHOLE, |share| share.0)
    }

    /// As results tell them; none where no queue is loaded.
    pub(in super::super) fn options(&self) -> Option<QueueOptions> {
        (self.mode == Mode::Queue).then(|| QueueOptions {
            prefetch: self.prefetch(),
            ack_mode: self.ack_mode().to_string(),
            nack_share_millionths: self.nack_millionths(),
            persistent_share_millionths: self.persistent_millionths(),
            delivery_limit: self.delivery_limit(),
            backlog_messages: self.backlog,
        })
    }

    /// What is wrong with them, as a usage error.
    pub(in super::super) fn invalid(&self, args: &RunArgs) -> Option<String> {
        match self.mode {
            Mode::Topic => self.unwanted().map(|flag| format!("{flag} is for --mode queue")),
            Mode::Queue => invalid_queue(args).or_else(|| self.invalid_consuming()),
        }
    }

    fn unwanted(&self) -> Option<&'static str> {
        let given = [
            ("--prefetch", self.prefetch.is_some()),
            ("--ack-mode", self.ack_mode.is_some()),
            ("--nack-share", self.nack_share.is_some()),
            ("--persistent-share", self.persistent_share.is_some()),
            ("--delivery-limit", self.delivery_limit.is_some()),
            ("--backlog", self.backlog.is_some()),
        ];
        given.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag))
    }

    fn invalid_consuming(&self) -> Option<String> {
        let reason = match self.ack_mode() {
            AckMode::Auto if self.prefetch.is_some() => {
                "--prefetch counts unsettled messages, and with --ack-mode auto there are none"
            }
            AckMode::Auto if self.nack_millionths() > 0 => {
                "--nack-share gives messages back, and with --ack-mode auto they are settled by \
                 being sent"
            }
            AckMode::Batched(count) if count > self.prefetch() => {
                return Some(format!(
                    "--ack-mode batched:{count} waits for {count} messages, but --prefetch lets a \
                     consumer have {} at once",
                    self.prefetch()
                ));
            }
            _ if self.nack_millionths() == WHOLE && self.delivery_limit.is_none() => {
                "--nack-share 1 gives every message back for ever: give it a --delivery-limit"
            }
            AckMode::Auto | AckMode::Each | AckMode::Batched(_) => return None,
        };
        Some(reason.to_owned())
    }
}

/// What queues cannot do that topics can, and the other way round.
fn invalid_queue(args: &RunArgs) -> Option<String> {
    let not_for_queues = [
        ("--cold", args.cold),
        ("--beside-reader", args.beside_reader.is_some()),
        ("--fetch-path", args.fetch_path.is_some()),
        ("--partitioner", args.partitioner != Partitioner::Sticky),
    ];
    if let Some((flag, _)) = not_for_queues.into_iter().find(|(_, is_given)| *is_given) {
        return Some(format!("{flag} is for --mode topic"));
    }
    if !args.target.keeps_records() {
        return Some("--target null and echo have no queues: measure a broker".to_owned());
    }
    if args.acks == AcksChoice::None {
        let name = name_of(&args.acks);
        return Some(format!(
            "--acks {name}: a publish is always confirmed; use memory, written or durable"
        ));
    }
    if args.producers == 0 {
        return Some(
            "--mode queue has publishers of its own: --producers is above zero".to_owned(),
        );
    }
    let (backlog, preload) = (args.queue.backlog, args.preload);
    if backlog.is_some() && preload.is_some() {
        return Some(
            "--preload measures consuming alone, --backlog publishing beside it: choose one"
                .to_owned(),
        );
    }
    if preload.is_some() && args.consumers == 0 {
        return Some("--preload measures consumers: --consumers is above zero".to_owned());
    }
    if args.partitions > args.producers {
        return Some(format!(
            "--partitions {}: each queue needs a publisher, give as many --producers",
            args.partitions
        ));
    }
    if args.topic.is_some() && args.partitions > 1 {
        return Some("--topic names one queue: not with --partitions".to_owned());
    }
    if args.queue.delivery_limit.is_some() && args.topic.is_some() {
        return Some("--delivery-limit makes queues of its own: not with --topic".to_owned());
    }
    let count = match args.batch {
        BatchSize::Records(count) => u64::from(count),
        BatchSize::Bytes(_) => 1,
    };
    let bytes = count * (u64::from(args.size) + MESSAGE_HEAD_BYTES as u64);
    if bytes > BATCH_BYTES_MAX as u64 || count > u64::from(PUBLISH_MESSAGES_MAX) {
        return Some(format!(
            "--batch: a frame holds at most {} bytes of messages",
            BATCH_BYTES_MAX
        ));
    }
    None
}
