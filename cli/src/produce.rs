//! `pelton produce`: a record per line of stdin.

use std::io::{self, BufRead};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use client::{ClientError, Delivery, Outcome, Producer, ProducerOptions, Record, Totals};

use loadgen::run::AcksChoice;

use crate::failure::Failure;
use crate::output;
use crate::server::{self, ServerArgs};
use crate::size;

/// Most deliveries that went wrong that are told one by one.
const FAULTS_TOLD_MAX: usize = 20;
const INPUT_BUFFER_BYTES: usize = 256 * 1024;

/// Flags of `produce`.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// The topic; it must exist
    topic: String,
    /// What separates key and value of a line; a line without it has no key
    #[arg(short = 'K', long, value_name = "SEP", value_parser = NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// Send all records to this partition instead of choosing by key
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// When the broker answers
    #[arg(long, value_enum, default_value = "durable")]
    acks: AcksChoice,
    /// How long a batch waits for more records
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = humantime::parse_duration)]
    linger: Duration,
    /// A batch is full at this many bytes
    #[arg(long, default_value = "64KiB", value_name = "BYTES", value_parser = size::bytes)]
    batch: u64,
    /// Batches on their way at a time
    #[arg(long, default_value_t = 8, value_name = "N")]
    inflight: usize,
    #[command(flatten)]
    reconnect: server::ReconnectArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub fn run(args: &ProduceArgs) -> Result<ExitCode, Failure> {
    let options = ProducerOptions {
        acks: args.acks.into(),
        linger: args.linger,
        batch_bytes: usize::try_from(args.batch).unwrap_or(usize::MAX),
        in_flight_max: args.inflight,
        ..ProducerOptions::default()
    };
    let connect = args.reconnect.options();
    let mut producer = Producer::connect(&args.server.server, &args.topic, &connect, options)?;
    let mut faults = Faults::default();
    let produced = produce_lines(args, &mut producer, &mut faults);
    // Also after a line that cannot be sent: what went before it is on its way, and is counted.
    let flushed = producer.flush().map(|_| ()).map_err(Failure::from);
    let result = produced.and(flushed);
    faults.gather(&mut producer);
    faults.tell();
    tell_totals(&producer.totals());
    result?;
    Ok(if producer.totals().all_well() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn produce_lines(
    args: &ProduceArgs,
    producer: &mut Producer,
    faults: &mut Faults,
) -> Result<(), Failure> {
    let mut input = io::BufReader::with_capacity(INPUT_BUFFER_BYTES, io::stdin().lock());
    let mut line = Vec::new();
    let mut number = 0u64;
    loop {
        line.clear();
        let count = input
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::Error(format!("cannot read stdin: {error}")))?;
        if count == 0 {
            return Ok(());
        }
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let (key, value) = split_key(text, args.key_separator.as_deref());
        let record = Record { partition: args.partition, key, ..Record::value(value) };
        producer.send(&record).map_err(|error| match error {
            ClientError::RecordTooLarge { .. } | ClientError::NoSuchPartition { .. } => {
                Failure::Error(format!("line {number}: {error}"))
            }
            error => Failure::from(error),
        })?;
        if input.buffer().is_empty() {
            // The next line may be long in coming: what is due leaves now.
            producer.poll()?;
        }
        faults.gather(producer);
        if faults.is_topic_gone {
            let rest = "the topic was deleted; the rest of the input was not read";
            return Err(Failure::Error(format!("after line {number}: {rest}")));
        }
    }
}

fn split_key<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes) else { return (None, line) };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

/// The deliveries that did not go well.
#[derive(Default)]
struct Faults {
    told: Vec<Delivery>,
    more: usize,
    /// Nothing that is sent from here on can be appended.
    is_topic_gone: bool,
}

impl Faults {
    fn gather(&mut self, producer: &mut Producer) {
        let gone = wire::ErrorCode::UnknownTopic.number();
        while let Some(delivery) = producer.next_delivery() {
            if let Outcome::Failed { code, .. } = &delivery.outcome {
                self.is_topic_gone |= *code == gone;
            }
            match delivery.outcome {
                Outcome::Acked { .. } | Outcome::Unacknowledged => {}
                _ if self.told.len() < FAULTS_TOLD_MAX => self.told.push(delivery),
                _ => self.more += 1,
            }
        }
    }

    fn tell(&self) {
        for Delivery { partition, first_index, record_count, outcome } in &self.told {
            let last = first_index + record_count - 1;
            let place = format!("partition {partition}, records {first_index} to {last}");
            match outcome {
                Outcome::Failed { detail, .. } => {
                    output::note(&format!("{place}: not appended: {detail}"));
                }
                Outcome::InDoubt { detail } => {
                    output::note(&format!("{place}: in doubt, there once or not at all: {detail}"));
                }
                Outcome::Acked { .. } | Outcome::Unacknowledged => {}
            }
        }
        if self.more > 0 {
            output::note(&format!("and {} more of these", self.more));
        }
    }
}

fn tell_totals(totals: &Totals) {
    let mut parts = Vec::new();
    if totals.unacknowledged > 0 {
        parts.push(format!("{} records sent, unacknowledged", totals.unacknowledged));
    } else {
        parts.push(format!("{} records acknowledged", totals.acked));
    }
    if totals.failed > 0 {
        parts.push(format!("{} failed", totals.failed));
    }
    if totals.in_doubt > 0 {
        parts.push(format!("{} in doubt", totals.in_doubt));
    }
    output::note(&parts.join(", "));
}

#[cfg(test)]
mod tests {
    use super::split_key;

    #[test]
    fn keys_end_at_the_first_separator() {
        assert_eq!(split_key(b"a:b:c", Some(":")), (Some(&b"a"[..]), &b"b:c"[..]));
        assert_eq!(split_key(b"a::b", Some("::")), (Some(&b"a"[..]), &b"b"[..]));
        assert_eq!(split_key(b":b", Some(":")), (Some(&b""[..]), &b"b"[..]));
        assert_eq!(split_key(b"ab", Some(":")), (None, &b"ab"[..]));
        assert_eq!(split_key(b"a", Some("long")), (None, &b"a"[..]));
        assert_eq!(split_key(b"a:b", None), (None, &b"a:b"[..]));
    }
}
