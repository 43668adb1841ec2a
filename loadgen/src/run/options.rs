//! The flags of `pelton bench run`, and the plan that they make.

use clap::Args;
use client::session::ServerTiming;
use std::path::PathBuf;
use std::time::Duration;
use wire::limits::BATCH_BYTES_MAX;

use crate::slo::Slo;

use super::choices::{
    AcksChoice, BatchSize, FetchPath, INFLIGHT_MAX, Partitioner, Pin, Rate, Route, TargetChoice,
    WarmUp, broker_flag, bytes, connections, duration, partitions, record_size,
};
use super::fault::{self, Fault};
use super::queue::{Mode, QueueFlags};
use super::records::{Keys, Sizes, entropy};

/// Most pairs of partition and producer: what became of the records of each is noted.
const PAIRS_MAX: i64 = 4_000_000;

/// Measures one load against one broker.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The broker: `spawn` starts one for this run, or pelton://HOST:PORT; `null` and `echo` show
    /// what the generator itself can do, without and with sockets
    #[arg(long, default_value = "spawn", value_name = "TARGET")]
    pub target: TargetChoice,
    /// Records per second over all producers: N (also 200k, 2M), poisson:N, burst:N@PERIOD,
    /// ramp:FROM..TO, steps:N,N,.., trace:FILE, or `max` for a closed loop
    #[arg(long, default_value = "max", value_name = "RATE")]
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
    /// Draw the sizes of values instead: uniform:FROM..TO or lognormal:MEDIAN,SIGMA
    #[arg(long, value_name = "DISTRIBUTION", conflicts_with = "size")]
    pub sizes: Option<Sizes>,
    /// Entropy of the bytes behind a value's header, from 0 to 1, different in each record of a
    /// batch [default: the same random bytes in each]
    #[arg(long, value_name = "SHARE", value_parser = entropy)]
    pub entropy: Option<f64>,
    /// Keys of records (with --partitioner keyed): uniform:COUNT, zipf:COUNT,EXPONENT or
    /// hot:COUNT,KEYS%,RECORDS%
    #[arg(long, value_name = "DISTRIBUTION")]
    pub keys: Option<Keys>,
    /// Producers, each a connection
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = connections())]
    pub producers: i64,
    /// Consumers, each a connection
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = connections())]
    pub consumers: i64,
    /// Records per second that each consumer takes at most, until the window closes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub consume_rate: Option<u64>,
    /// Partitions of the topic
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = partitions())]
    pub partitions: i64,
    /// How records are dealt out to partitions
    #[arg(long, value_enum, default_value = "sticky", value_name = "HOW")]
    pub partitioner: Partitioner,
    /// Which endpoint of the broker a partition's records go to and come from
    #[arg(long, value_enum, default_value = "owner", value_name = "WAY")]
    pub route: Route,
    /// Which cores a spawned broker and the generator get
    #[arg(long, value_enum, default_value = "split", value_name = "HOW")]
    pub pin: Pin,
    /// Length of the measured window
    #[arg(long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    pub duration: Duration,
    /// Load before the window opens; auto: until rate and p99 are steady, at most 30 s
    #[arg(long, default_value = "2s", value_name = "DUR|auto")]
    pub warmup: WarmUp,
    /// Poll sockets instead of sleeping, yielding the core each round
    #[arg(long)]
    pub busy_poll: bool,
    /// Ask the broker where the time of each request went
    #[arg(long)]
    pub anatomy: bool,
    /// Seed of the records' bytes
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Measure this machine's limits before and after
    #[arg(long)]
    pub floor: bool,
    /// What only queues have
    #[command(flatten)]
    pub queue: QueueFlags,
    /// Produce this much first, then measure consuming alone
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub preload: Option<u64>,
    /// A consumer reads another topic that was preloaded with this much, at full speed, beside
    /// the load
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub beside_reader: Option<u64>,
    /// Start the spawned broker again after preloading, and drop its files from the page cache
    #[arg(long)]
    pub cold: bool,
    /// How a spawned broker serves what consumers ask for
    #[arg(long, value_enum, value_name = "PATH")]
    pub fetch_path: Option<FetchPath>,
    /// Topic to use instead of bench-RUN
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// Keep the topic afterwards (and a spawned broker's data directory), for `bench verify`
    #[arg(long)]
    pub keep: bool,
    /// Directory (and so the disk) for a spawned broker's data
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The program whose `serve` is spawned, instead of this one
    #[arg(long, value_name = "FILE")]
    pub broker_binary: Option<PathBuf>,
    /// A flag of `serve` for a spawned broker, without dashes; repeatable
    #[arg(long = "broker", value_name = "KEY=VALUE", value_parser = broker_flag)]
    pub broker_flags: Vec<String>,
    /// What befalls the spawned broker within the window, repeatable: '@TIME
    /// kill-broker,restart=DUR' or '@TIME stop-broker,for=DUR', e.g. '@20s kill-broker,restart=2s'
    #[arg(long = "fault", value_name = "@TIME KIND")]
    pub faults: Vec<Fault>,
    /// Write the result as JSON to this file (`-` for stdout)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What the result has to meet, or end with exit code 3: p50, p90, p99, p99.9, p99.99, max or
    /// mean of response (or service. or e2e.) times, and errors; e.g. p99<5ms,e2e.max<1s,errors=0
    #[arg(long, value_name = "CONDITIONS")]
    pub slo: Option<Slo>,
    /// End with exit code 6 if the result is doubtful or invalid
    #[arg(long)]
    pub strict: bool,
    /// Print neither progress nor the result
    #[arg(short, long)]
    pub quiet: bool,
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
        let of_spawned = self.data_dir.is_some() || self.broker_binary.is_some();
        if !spawned && (of_spawned || !self.broker_flags.is_empty()) {
            return Some(
                "--data-dir, --broker-binary and --broker are for a spawned broker only".to_owned(),
            );
        }
        if !spawned && (self.fetch_path.is_some() || self.cold) {
            return Some("--fetch-path and --cold are for a spawned broker only".to_owned());
        }
        if !self.target.keeps_records()
            && (self.consumers > 0 || self.preload.is_some() || self.beside_reader.is_some())
        {
            return Some("null and echo keep no records: there is nothing to consume".to_owned());
        }
        if self.cold && self.preload.or(self.beside_reader).is_none() {
            return Some("--cold needs something to read: --preload or --beside-reader".to_owned());
        }
        if self.beside_reader.is_some() && (self.preload.is_some() || self.producers == 0) {
            return Some("--beside-reader stands beside producers: not with --preload".to_owned());
        }
        if self.partitions * self.producers.max(1) > PAIRS_MAX {
            return Some(format!("--partitions times --producers is at most {PAIRS_MAX}"));
        }
        if self.keys.is_some() && self.partitioner != Partitioner::Keyed {
            return Some(
                "--keys needs --partitioner keyed: a key decides the partition".to_owned(),
            );
        }
        if self.consume_rate.is_some() && (self.consumers == 0 || self.preload.is_some()) {
            return Some("--consume-rate needs --consumers beside producers".to_owned());
        }
        let of_topics = self.keys.is_some() || self.consume_rate.is_some();
        if self.queue.mode == Mode::Queue && of_topics {
            return Some("--keys and --consume-rate are for topics only".to_owned());
        }
        if self.duration.is_zero() {
            return Some("--duration is above zero".to_owned());
        }
        if let Some(reason) = self.cannot_become_steady().filter(|_| self.warmup == WarmUp::Auto) {
            return Some(format!("--warmup auto waits until the load is steady: {reason}"));
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
        fault::invalid(self).or_else(|| self.queue.invalid(self))
    }

    /// Whether the broker tells where the time of each request went.
    pub(super) const fn timing(&self) -> ServerTiming {
        if self.anatomy { ServerTiming::Ask } else { ServerTiming::Omit }
    }

    /// Records per second of an open loop that is the same at every moment.
    pub(super) fn steady_rate(&self) -> Option<u64> {
        let duration_ns = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        match &self.rate {
            Rate::Open(arrivals) if arrivals.is_steady() => Some(arrivals.rate(duration_ns)),
            Rate::Open(_) | Rate::Max => None,
        }
    }

    /// Why its figures change while it runs, whatever the broker does.
    fn cannot_become_steady(&self) -> Option<&'static str> {
        match &self.rate {
            _ if self.cold => Some("what is cold at first gets warm, give it a time instead"),
            _ if self.preload.is_some() && self.queue.mode == Mode::Queue => {
                Some("a queue that is emptied ends, give it a time instead")
            }
            Rate::Open(arrivals) if !arrivals.is_steady() => {
                Some("it needs --rate N, poisson:N or max")
            }
            Rate::Open(_) | Rate::Max => None,
        }
    }

    /// The flags of a spawned broker.
    #[must_use]
    pub fn serve_flags(&self) -> Vec<String> {
        let mut flags = self.broker_flags.clone();
        flags.extend(self.fetch_path.map(|path| format!("fetch-path={path}")));
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Arrivals;
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
        assert_eq!((&args.rate, args.acks), (&Rate::Max, AcksChoice::Durable));
        assert_eq!((args.batch, args.inflight, args.size), (BatchSize::Bytes(65_536), 8, 100));
        assert_eq!((args.producers, args.consumers, args.partitions), (1, 0, 1));
        assert_eq!(args.duration.as_secs(), 10);
        assert_eq!(args.warmup, WarmUp::For(Duration::from_secs(2)));
        assert!(args.linger.is_zero() && args.invalid().is_none());
    }

    #[test]
    fn values_with_units() {
        let args = parse("--batch 1000rec --linger 1ms --preload 96MiB --rate 50_000 --size 1KiB")
            .expect("all are well-formed");
        let rate = Rate::Open(Arrivals::Constant { rate: 50_000 });
        assert_eq!((args.batch, args.rate), (BatchSize::Records(1000), rate));
        assert_eq!((args.preload, args.size), (Some(96 << 20), 1024));
        let target = parse("--target pelton://localhost:9600").expect("an address").target;
        assert_eq!(target, TargetChoice::Address("localhost:9600".to_owned()));
    }

    #[test]
    fn the_fetch_path_is_a_flag_of_the_broker() {
        let args = parse("--broker spin-us=0 --fetch-path sendfile").expect("good");
        assert_eq!(args.serve_flags(), ["spin-us=0", "fetch-path=sendfile"]);
        let args = parse("--preload 1MiB --cold --partitions 10000").expect("good");
        assert_eq!(args.invalid(), None);
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
            "--partitions 10001",
            "--partitioner random",
            "--fetch-path tape",
            "--warmup soon",
            "--rate steps:5",
            "--rate steps:5,0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "--target pelton://h:1 --data-dir /x",
            "--target null --consumers 1",
            "--target echo --preload 1MiB",
            "--producers 0",
            "--topic a/b",
            "--batch 1000rec --size 4KiB",
            "--duration 0",
            "--keys zipf:1M,1.1",
            "--mode queue --keys zipf:1M,1.1 --partitioner keyed",
            "--warmup auto --rate steps:5,6",
            "--warmup auto --preload 1MiB --cold",
            "--cold",
            "--target pelton://h:1 --fetch-path direct",
            "--beside-reader 1MiB --preload 1MiB",
            "--partitions 10000 --producers 401",
        ] {
            assert!(parse(line).expect(line).invalid().is_some(), "{line}");
        }
    }
}
