//! `pelton consume`: prints records.

mod start;
mod template;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use client::{Consumer, ConsumerOptions, Position};

use crate::failure::Failure;
use crate::server::{self, ServerArgs};
use template::Template;

const OUTPUT_BUFFER_BYTES: usize = 256 * 1024;

/// Flags of `consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic
    topic: String,
    /// How to print a record: %p partition, %o offset, %k key, %v value, %T time, %h headers,
    /// \n, \t
    #[arg(
        short = 'f',
        long,
        default_value = r"%v\n",
        value_name = "FORMAT",
        value_parser = Template::parse
    )]
    template: Template,
    /// Where to begin: beginning, end, an offset, or @TIME (RFC 3339 or ms since 1970)
    #[arg(
        long,
        default_value = "beginning",
        value_name = "beginning|end|OFFSET|@TIME",
        value_parser = start::parse
    )]
    from: Position,
    /// Stop at what was the end when this began, instead of waiting for more
    #[arg(long)]
    exit_at_end: bool,
    /// Stop after this many records
    #[arg(short = 'c', long, value_name = "N")]
    count: Option<u64>,
    /// Read only this partition; repeatable
    #[arg(short, long, value_name = "N")]
    partition: Vec<u32>,
    /// How long the broker waits for new records before it answers without any
    #[arg(
        long,
        default_value = "500ms",
        value_name = "DUR",
        value_parser = humantime::parse_duration
    )]
    max_wait: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub fn run(args: &ConsumeArgs) -> Result<ExitCode, Failure> {
    let options = ConsumerOptions { max_wait: args.max_wait, ..ConsumerOptions::default() };
    let connect = server::options();
    let mut consumer = Consumer::connect(&args.server.server, &[&args.topic], &connect, options)?;
    match args.partition.as_slice() {
        [] => consumer.assign_all(args.from)?,
        partitions => {
            let partitions: Vec<_> = partitions.iter().map(|p| (args.topic.as_str(), *p)).collect();
            consumer.assign(&partitions, args.from)?;
        }
    }
    let ends = Ends::new(args, &mut consumer)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 && !ends.are_reached(&consumer) {
        let mut printed = 0;
        for record in consumer.poll()? {
            let record = record?;
            if ends.is_behind(record.slot, record.offset) {
                continue;
            }
            args.template.write(&mut out, &record).map_err(|error| Failure::output(&error))?;
            printed += 1;
            if printed == left {
                break;
            }
        }
        left -= printed;
        out.flush().map_err(|error| Failure::output(&error))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// With `--exit-at-end`, where each partition ended when the command began, by slot.
struct Ends {
    ends: Option<Vec<u64>>,
}

impl Ends {
    fn new(args: &ConsumeArgs, consumer: &mut Consumer) -> Result<Ends, Failure> {
        let ends = if args.exit_at_end { Some(consumer.end_offsets()?) } else { None };
        Ok(Ends { ends })
    }

    fn are_reached(&self, consumer: &Consumer) -> bool {
        self.ends
            .as_ref()
            .is_some_and(|ends| consumer.positions().zip(ends).all(|(at, end)| at.offset >= *end))
    }

    fn is_behind(&self, slot: usize, offset: u64) -> bool {
        self.ends.as_ref().is_some_and(|ends| offset >= ends[slot])
    }
}
