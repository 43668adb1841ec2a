//! `pelton consume`: prints records.

mod bounds;
mod json;
mod merge;
mod start;
mod template;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use client::{Consumer, ConsumerEvent, ConsumerOptions, ConsumerRecord};
use client::{Damaged, OutOfRange, Position};

use crate::failure::Failure;
use crate::output;
use crate::server::{self, ServerArgs};
use bounds::{Bounds, ExitAtEnd, Verdict};
use merge::{Flow, Merge, Supply};
use start::{PartitionRange, Until};
use template::Template;

const OUTPUT_BUFFER_BYTES: usize = 256 * 1024;
/// How often a command that waits looks whether its output is still read.
const OUTPUT_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Most that a fetch brings of one partition where records are put in order: several partitions
/// share a reply, so that none of them waits for all the others.
const ORDERED_FETCH_BYTES_MAX: u32 = 128 * 1024;

/// Flags of `consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// How to print a record: %t topic, %p partition, %o offset, %k key, %v value, %T time,
    /// %h headers, \n, \t
    #[arg(
        short = 'f',
        long,
        default_value = r"%v\n",
        value_name = "FORMAT",
        value_parser = Template::parse
    )]
    template: Template,
    /// How records are printed
    #[arg(long, value_enum, default_value = "text", conflicts_with = "template")]
    format: Format,
    /// Where to begin: earliest, latest, end-N (N records before the end of each partition), an
    /// offset, or a time (RFC 3339, '15m ago', or @ and ms since 1970)
    #[arg(
        long,
        default_value = "earliest",
        value_name = "earliest|latest|end-N|OFFSET|TIME",
        value_parser = start::parse_from
    )]
    from: Position,
    /// Stop before this place in each partition; `end` is the end when this began
    #[arg(long, value_name = "end|OFFSET|TIME", value_parser = start::parse_until)]
    until: Option<Until>,
    /// Stop at what was the end when this began, instead of waiting for more
    #[arg(long)]
    exit_at_end: bool,
    /// Stop after this many records
    #[arg(short = 'c', long, visible_alias = "count", value_name = "N")]
    max_records: Option<u64>,
    /// Read only these partitions of each topic, as in 0,2,4-7
    #[arg(
        short,
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = start::parse_partitions
    )]
    partition: Vec<PartitionRange>,
    /// In which order records of several partitions are printed
    #[arg(long, value_enum, default_value = "time")]
    order: Order,
    /// In the order of time: how long the others wait for a partition that has more, but does not
    /// give it
    #[arg(
        long,
        default_value = "1s",
        value_name = "DUR",
        value_parser = humantime::parse_duration
    )]
    patience: Duration,
    /// What to do about an offset that a partition does not have, or no longer: retention may
    /// remove records before they are read
    #[arg(long, value_enum, default_value = "error")]
    out_of_range: OutOfRangeChoice,
    /// Go on behind records that are damaged on the broker's disk, and say how many were skipped
    #[arg(long)]
    skip_damaged: bool,
    /// How long the broker waits for new records before it answers without any
    #[arg(
        long,
        default_value = "500ms",
        value_name = "DUR",
        value_parser = humantime::parse_duration
    )]
    max_wait: Duration,
    #[command(flatten)]
    reconnect: server::ReconnectArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As the template says
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// By time, as far as each partition's own order allows
    Time,
    /// As they arrive
    Arrival,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutOfRangeChoice {
    /// Fail
    Error,
    /// Say so, and go on at the oldest record
    Earliest,
    /// Say so, and go on behind the newest record
    Latest,
}

/// Runs the command.
pub fn run(args: &ConsumeArgs) -> Result<ExitCode, Failure> {
    let mut consumer = connect(args)?;
    let exit_at_end = if args.exit_at_end { ExitAtEnd::Yes } else { ExitAtEnd::No };
    let bounds = Bounds::new(args.until, exit_at_end, &mut consumer)?;
    let out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let left = args.max_records.unwrap_or(u64::MAX);
    let lanes = consumer.positions().len();
    let mut printing = Printing { args, consumer, bounds, out, left, skipped: 0 };
    let printed = match args.order {
        Order::Time if lanes > 1 => {
            printing.by_time(Merge::new(lanes, args.patience, Instant::now()))
        }
        _ => printing.by_arrival(),
    };
    if printing.skipped > 0 {
        let skipped = printing.skipped;
        output::note(&format!("pelton: {skipped} offsets are damaged and were skipped, in all"));
    }
    printed.map(|()| ExitCode::SUCCESS)
}

/// A consumer that is placed.
fn connect(args: &ConsumeArgs) -> Result<Consumer, Failure> {
    let mut topics: Vec<&str> = Vec::with_capacity(args.topics.len());
    for topic in &args.topics {
        if topics.contains(&topic.as_str()) {
            return Err(Failure::Usage(format!("topic {topic} is named twice: name it once")));
        }
        topics.push(topic);
    }
    let mut options = ConsumerOptions {
        max_wait: args.max_wait,
        out_of_range: match args.out_of_range {
            OutOfRangeChoice::Error => OutOfRange::Error,
            OutOfRangeChoice::Earliest => OutOfRange::Earliest,
            OutOfRangeChoice::Latest => OutOfRange::Latest,
        },
        damaged: if args.skip_damaged { Damaged::Skip } else { Damaged::Error },
        ..ConsumerOptions::default()
    };
    if args.order == Order::Time {
        options.partition_max_bytes = ORDERED_FETCH_BYTES_MAX;
    }
    let connect = args.reconnect.options();
    let mut consumer = Consumer::connect(&args.server.server, &topics, &connect, options)?;
    if args.partition.is_empty() {
        consumer.assign_all(args.from)?;
        return Ok(consumer);
    }
    let ranges = args.partition.iter().map(|range| range.first..=range.last);
    let mut partitions: Vec<u32> = ranges.flatten().collect();
    partitions.sort_unstable();
    partitions.dedup();
    let of_topic = |topic| partitions.iter().map(move |partition| (topic, *partition));
    let all: Vec<(&str, u32)> = topics.iter().copied().flat_map(of_topic).collect();
    consumer.assign(&all, args.from)?;
    Ok(consumer)
}

/// A command that is under way.
struct Printing<'a> {
    args: &'a ConsumeArgs,
    consumer: Consumer,
    bounds: Bounds,
    out: BufWriter<StdoutLock<'static>>,
    /// How many more records may be printed.
    left: u64,
    /// Offsets that are damaged and were passed over.
    skipped: u64,
}

impl Printing<'_> {
    /// Prints records partition by partition, as fetches bring them.
    fn by_arrival(&mut self) -> Result<(), Failure> {
        while self.left > 0 && !self.bounds.are_done(&self.consumer) {
            let wait = self.args.max_wait.min(OUTPUT_CHECK_INTERVAL);
            for record in self.consumer.poll_for(wait)? {
                let record = record?;
                if self.bounds.judge(&record) == Verdict::Behind {
                    continue;
                }
                print(self.args, &mut self.out, &record)
                    .map_err(|error| Failure::output(&error))?;
                self.left -= 1;
                if self.left == 0 {
                    break;
                }
            }
            self.rest()?;
        }
        Ok(())
    }

    /// Prints records in the order of their times.
    fn by_time(&mut self, mut merge: Merge) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            let consumer = &self.consumer;
            for (slot, at) in consumer.positions().enumerate() {
                let supply = match at.is_at_end {
                    _ if self.bounds.is_done(slot, at.offset) => Supply::Done,
                    true => Supply::AtEnd,
                    false => Supply::Coming,
                };
                merge.supply(slot, supply, now);
            }
            let written = merge.write(&mut self.out, self.left, now);
            self.left -= written.map_err(|error| Failure::output(&error))?;
            self.rest()?;
            let is_over = merge.is_empty() && self.bounds.are_done(&self.consumer);
            if self.left == 0 || is_over {
                return Ok(());
            }
            merge.regulate(|slot, flow| match flow {
                Flow::Resume => self.consumer.resume_slot(slot),
                Flow::Pause => self.consumer.pause_slot(slot),
            });
            let mut wait = self.args.max_wait.min(OUTPUT_CHECK_INTERVAL);
            if let Some(at) = merge.patience_ends() {
                wait = wait.min(at.saturating_duration_since(now));
            }
            if let Err(error) = self.gather(&mut merge, wait) {
                // What came before it is printed: it was read.
                let _ = merge.drain(&mut self.out, self.left);
                let _ = self.out.flush();
                return Err(error);
            }
        }
    }

    /// Puts what comes into its lanes.
    fn gather(&mut self, merge: &mut Merge, wait: Duration) -> Result<(), Failure> {
        for record in self.consumer.poll_for(wait)? {
            let record = record?;
            if self.bounds.judge(&record) == Verdict::Print {
                merge
                    .push(record.slot, record.timestamp_ms, |text| print(self.args, text, &record))
                    .map_err(|error| Failure::output(&error))?;
            }
        }
        Ok(())
    }

    /// After each step: what was printed leaves, events are told, and nobody is kept waiting who
    /// has gone.
    fn rest(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))?;
        while let Some(event) = self.consumer.next_event() {
            if let ConsumerEvent::Skipped { from, to, .. } = &event {
                self.skipped += to - from;
            }
            output::note(&format!("pelton: {event}"));
        }
        if output::is_closed() { Err(Failure::OutputClosed) } else { Ok(()) }
    }
}

fn print(args: &ConsumeArgs, out: &mut impl Write, record: &ConsumerRecord<'_>) -> io::Result<()> {
    match args.format {
        Format::Text => args.template.write(out, record),
        Format::Json => json::write(out, record),
    }
}
