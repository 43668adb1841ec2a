//! `pelton queue publish`, `get` and `consume`.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use client::queue::Confirm;
use client::{
    PublisherOptions, PullOptions, PushOptions, QueueConsumer, QueueDelivery, QueuePublisher,
    Target,
};
use loadgen::run::AcksChoice;
use wire::queue::{Settings, Verb};

use super::{milliseconds, name, show};
use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::{self, ServerArgs};

/// How long a consumer without messages waits at a time, before it looks whether to end.
const WAIT: Duration = Duration::from_millis(200);

/// Flags of `queue publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Its name
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: String,
    /// Publish to this queue as well; may be given again
    #[arg(long, value_name = "QUEUE", value_parser = name)]
    also: Vec<String>,
    /// Publish to this partition of a topic as well; may be given again
    #[arg(long, value_name = "TOPIC:PARTITION", value_parser = partition)]
    also_topic: Vec<Target>,
    /// When a message is confirmed; `none` does not exist for queues
    #[arg(long, value_enum, default_value = "durable")]
    acks: AcksChoice,
    /// Messages may be gone after a crash of the broker
    #[arg(long)]
    transient: bool,
    /// Messages expire after this long; 0s sets no time
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = milliseconds::<u32>)]
    ttl: u32,
    #[command(flatten)]
    server: ServerArgs,
}

/// Flags of `queue get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Its name
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: String,
    /// Most messages
    #[arg(short = 'c', long, default_value_t = 1, value_name = "N")]
    count: u32,
    /// If there is none, wait this long for one
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Lease them instead of accepting them: after this long they are delivered again
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    lease: Option<Duration>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Flags of `queue consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// Its name
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: String,
    /// End after this many messages
    #[arg(short = 'c', long, value_name = "N")]
    count: Option<u64>,
    /// Messages that may be unsettled; 0: they are settled by being sent, if no count is given
    #[arg(long, default_value_t = 100, value_name = "N")]
    prefetch: u32,
    /// Consumers with a higher one get messages first
    #[arg(long, default_value_t = 0, value_name = "N", allow_negative_numbers = true)]
    priority: i16,
    /// End once no message has come for this long
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    idle_exit: Option<Duration>,
    /// Reject them instead of accepting them: they become dead letters
    #[arg(long)]
    reject: bool,
    /// Create the queue for this command alone: anybody may publish to it, and it is gone with all
    /// its messages when the command ends
    #[arg(long)]
    exclusive: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs `queue publish`.
pub fn publish(args: &PublishArgs) -> Result<ExitCode, Failure> {
    if args.acks == AcksChoice::None {
        let sentence = "--acks none: what is published to a queue is always confirmed; \
                        pass memory, written or durable";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    let options = PublisherOptions { acks: args.acks.into(), ..PublisherOptions::default() };
    let connect = server::options();
    let queues = std::iter::once(&args.queue).chain(&args.also).cloned().map(Target::Queue);
    let targets: Vec<Target> = queues.chain(args.also_topic.iter().cloned()).collect();
    let mut publisher =
        QueuePublisher::connect_to(&args.server.server, &targets, &connect, options)?;
    if args.transient {
        publisher.transient();
    }
    let mut tally = Tally::default();
    let mut input = io::BufReader::new(io::stdin().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        let count = read.map_err(|error| Failure::Error(format!("cannot read stdin: {error}")))?;
        if count == 0 {
            break;
        }
        let body = line.strip_suffix(b"\n").unwrap_or(&line);
        publisher.publish(b"", body, args.ttl)?;
        if input.buffer().is_empty() {
            tally.count(publisher.poll()?);
        }
    }
    tally.count(publisher.flush()?);
    let Tally { confirmed, refused, repeated } = tally;
    output::note(&format!("{confirmed} messages confirmed, {refused} refused"));
    if repeated > 0 {
        output::note(&format!(
            "the connection was lost on the way: {repeated} of them may be there twice"
        ));
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What became of messages.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    confirmed: u64,
    refused: u64,
    repeated: u64,
}

impl Tally {
    fn count(&mut self, confirms: Vec<Confirm>) {
        for confirm in confirms {
            let count = u64::from(confirm.count);
            match confirm.outcome {
                Ok(_) => self.confirmed += count,
                Err(error) => {
                    if self.refused == 0 {
                        output::note(&format!("pelton: {error}"));
                    }
                    self.refused += count;
                }
            }
            self.repeated += if confirm.is_repeated { count } else { 0 };
        }
    }
}

/// `TOPIC:PARTITION`.
fn partition(text: &str) -> Result<Target, String> {
    let (topic, number) = text.rsplit_once(':').ok_or("give it as TOPIC:PARTITION")?;
    let number = number.parse().map_err(|_| "the partition is a number")?;
    Ok(Target::Partition(name(topic)?, number))
}

/// Runs `queue get`.
pub fn get(args: &GetArgs) -> Result<(), Failure> {
    let connect = server::options();
    let mut consumer = QueueConsumer::connect(&args.server.server, &args.queue, &connect)?;
    let lease = args.lease.unwrap_or_default();
    let options = PullOptions { max_messages: args.count, wait: args.wait, lease };
    let messages = consumer.pull(options)?;
    print_messages(&messages, args.format.format)?;
    if args.lease.is_none() {
        for message in &messages {
            let range = message.sequence..=message.sequence;
            consumer.settle(range, message.lease, Verb::Accept, Duration::ZERO)?;
        }
    }
    Ok(())
}

/// Runs `queue consume`.
pub fn consume(args: &ConsumeArgs) -> Result<(), Failure> {
    let (connect, server) = (server::options(), &args.server.server);
    let mut consumer = match args.exclusive {
        true => {
            let settings = Settings::new();
            let own = QueueConsumer::exclusive(server, &args.queue, &settings, &connect)?;
            output::note(&format!("queue {} is there until this ends", own.name()));
            own
        }
        false => QueueConsumer::connect(server, &args.queue, &connect)?,
    };
    match args.count {
        Some(count) => consume_some(args, &mut consumer, count),
        None => consume_all(args, &mut consumer),
    }
}

/// Takes so many: pulled, since what is pushed is always more than was asked for.
fn consume_some(
    args: &ConsumeArgs,
    consumer: &mut QueueConsumer,
    count: u64,
) -> Result<(), Failure> {
    let verb = if args.reject { Verb::Reject } else { Verb::Accept };
    let mut left = count;
    let mut last = Instant::now();
    while left > 0 && !output::is_closed() {
        let some = u32::try_from(left).unwrap_or(u32::MAX).min(args.prefetch.max(1));
        let options = PullOptions { max_messages: some, wait: WAIT, ..PullOptions::default() };
        let messages = consumer.pull(options)?;
        if messages.is_empty() {
            if args.idle_exit.is_some_and(|idle| last.elapsed() >= idle) {
                break;
            }
            continue;
        }
        last = Instant::now();
        print_messages(&messages, args.format.format)?;
        for message in &messages {
            let range = message.sequence..=message.sequence;
            consumer.settle(range, message.lease, verb, Duration::ZERO)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Takes whatever comes.
fn consume_all(args: &ConsumeArgs, consumer: &mut QueueConsumer) -> Result<(), Failure> {
    consumer.subscribe(PushOptions { prefetch: args.prefetch, priority: args.priority })?;
    let mut last = Instant::now();
    while !output::is_closed() {
        let Some(message) = consumer.next(WAIT)? else {
            if args.idle_exit.is_some_and(|idle| last.elapsed() >= idle) {
                break;
            }
            continue;
        };
        last = Instant::now();
        print_messages(std::slice::from_ref(&message), args.format.format)?;
        if args.reject {
            let range = message.sequence..=message.sequence;
            consumer.settle(range, 0, Verb::Reject, Duration::ZERO)?;
        } else if args.prefetch > 0 {
            consumer.accept(message.sequence)?;
        }
    }
    consumer.flush().map_err(Failure::from)
}

/// A line per message: its body, or a JSON object.
fn print_messages(messages: &[QueueDelivery], format: Format) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    for message in messages {
        let written = match format {
            Format::Table => stdout.write_all(&message.body).and_then(|()| stdout.write_all(b"\n")),
            Format::Json => writeln!(stdout, "{}", show::message_json(message)),
        };
        written.map_err(|error| Failure::output(&error))?;
    }
    stdout.flush().map_err(|error| Failure::output(&error))
}
