//! A file system is filled until the broker refuses records, then records are deleted and
//! producing goes on, again and again; the broker is killed on the full device at times. What was
//! acknowledged is always there, and what was refused does not come between.

use std::path::Path;
use std::time::{Duration, Instant};

use client::{ConnectOptions, Connection, Outcome, Record};
use wire::Acks;
use wire::delete_records::{BEFORE_END, RequestEntry};

use super::ledger::Ledger;
use super::load::connect;
use super::volume::{FileSystem, Mounted, free_bytes, is_root};
use super::{PARTITIONS, TOPIC, create_topic, start, stop};
use crate::broker::Broker;

/// A full device is noticed, or has space again, within this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records refused before the device counts as full.
const REFUSED_MIN: u64 = 20;
/// In so many cycles the broker is killed once, while the device is full.
const KILLED_ONE_OF: u64 = 3;
/// As much is kept back as the journal is long, and a spare segment.
const FLAGS: [&str; 1] = ["--free-bytes-min=12MiB"];

/// What the cycles did.
#[derive(Debug, Default)]
pub struct Fillings {
    /// Records acknowledged.
    pub acked: u64,
    /// Records refused because of the full device.
    pub refused: u64,
    /// The longest that producing took to go on once there was space.
    pub resumed_after_max: Duration,
}

/// Fills and empties a file system of its own.
///
/// # Errors
/// A sentence, where none can be mounted.
///
/// # Panics
/// If a record is lost, or the broker does not go on.
pub fn fill_and_resume(kind: FileSystem, cycles: u64) -> Result<Fillings, String> {
    if !is_root() {
        return Err("mounting a file system on a loop device needs root".to_owned());
    }
    let mounted = Mounted::new(kind);
    let dir = mounted.data();
    cycle(&dir, cycles)
}

/// Whatever it starts is gone when it ends: a file system in use is not unmounted.
fn cycle(dir: &Path, cycles: u64) -> Result<Fillings, String> {
    let mut broker = start(dir, &FLAGS);
    create_topic(&broker, &[]);
    let mut ledger = Ledger::new(PARTITIONS);
    let mut fillings = Fillings::default();
    for cycle in 0..cycles {
        fill(&broker, &mut ledger, &mut fillings);
        if cycle % KILLED_ONE_OF == KILLED_ONE_OF - 1 {
            broker.kill();
            broker = start(dir, &FLAGS);
        }
        // Reading works on a full device, and so does deleting.
        ledger.check_all(broker.address(), TOPIC);
        let before = free_bytes(dir);
        empty(&broker, &mut ledger);
        let took = resume(&broker, &mut ledger);
        fillings.resumed_after_max = fillings.resumed_after_max.max(took);
        ledger.check_all(broker.address(), TOPIC);
        let after = free_bytes(dir);
        assert!(after > before, "deleting gave no space: {before} free before, {after} after");
    }
    stop(broker);
    let broker = start(dir, &FLAGS);
    ledger.check_all(broker.address(), TOPIC);
    stop(broker);
    Ok(fillings)
}

/// Produces until records are refused.
fn fill(broker: &Broker, ledger: &mut Ledger, fillings: &mut Fillings) {
    let mut producer = connect(broker.address(), Acks::Durable);
    let end = Instant::now() + PATIENCE;
    let mut refused = 0;
    ledger.begin();
    while refused < REFUSED_MIN {
        assert!(Instant::now() < end, "the device is never full: {:?}", producer.totals());
        let (partition, value) = ledger.next_record();
        let partition = Some(partition);
        let sent = producer.send(&Record { partition, ..Record::value(&value) });
        ledger.sent(sent.expect("a full device closes no connection"));
        while let Some(delivery) = producer.next_delivery() {
            ledger.delivered(&delivery);
            refused += match delivery.outcome {
                Outcome::Failed { .. } | Outcome::InDoubt { .. } => delivery.record_count,
                _ => 0,
            };
        }
    }
    let totals = producer.flush().expect("it answers");
    while let Some(delivery) = producer.next_delivery() {
        ledger.delivered(&delivery);
    }
    ledger.end();
    fillings.acked += totals.acked;
    fillings.refused += totals.failed + totals.in_doubt;
}

/// Deletes all records.
fn empty(broker: &Broker, ledger: &mut Ledger) {
    let options = ConnectOptions::default();
    let mut connection = Connection::connect(broker.address(), &options).expect("it serves");
    let topic = connection.topic(TOPIC).expect("it has the topic");
    for partition in 0..PARTITIONS {
        ledger.ask_start(partition, u64::MAX);
        let entry = RequestEntry {
            topic_id: topic.topic_id,
            partition: partition.into(),
            reserved: 0.into(),
            before_offset: BEFORE_END.into(),
        };
        let rows = connection.delete_records(&[entry]).expect("it answers");
        assert_eq!(rows[0].error.get(), 0, "deleting works on a full device");
    }
}

/// Produces until a record is acknowledged; gives how long that took.
fn resume(broker: &Broker, ledger: &mut Ledger) -> Duration {
    let begin = Instant::now();
    let mut producer = connect(broker.address(), Acks::Durable);
    ledger.begin();
    while producer.totals().acked == 0 {
        assert!(begin.elapsed() < PATIENCE, "producing does not go on: {:?}", producer.totals());
        let (partition, value) = ledger.next_record();
        let partition = Some(partition);
        let sent = producer.send(&Record { partition, ..Record::value(&value) });
        ledger.sent(sent.expect("a full device closes no connection"));
        producer.flush().expect("it answers");
        while let Some(delivery) = producer.next_delivery() {
            ledger.delivered(&delivery);
        }
    }
    ledger.end();
    begin.elapsed()
}
