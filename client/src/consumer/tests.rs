//! The consumer against a broker in memory.

use super::*;
use crate::fake_broker::FakeBroker;
use crate::producer::{Producer, ProducerOptions, Record};

/// A consumer of a topic with `partitions` partitions, each with ten records in batches of
/// three; record `n` has the value and time `n`.
fn consumer(partitions: u32) -> Consumer<FakeBroker> {
    let count = usize::try_from(partitions).expect("small");
    let linger = Duration::from_secs(3600);
    let options = ProducerOptions { linger, batch_records: 3, ..ProducerOptions::default() };
    let connection = FakeBroker::connection(count, &[]);
    let mut producer = Producer::new(connection, "t", options).expect("topic t");
    for partition in 0..partitions {
        for number in 0..10i64 {
            let value = number.to_string();
            let timestamp_ms = Some(number);
            let partition = Some(partition);
            let value = Record::value(value.as_bytes());
            producer.send(&Record { partition, timestamp_ms, ..value }).expect("taken");
        }
    }
    producer.flush().expect("connected");
    Consumer::new(producer.into_connection(), "t", ConsumerOptions::default()).expect("topic t")
}

/// Partition and offset of every record of one poll.
fn poll(consumer: &mut Consumer<FakeBroker>) -> Vec<(u32, u64)> {
    let records = consumer.poll().expect("good batches");
    records.map(|record| record.expect("whole")).map(|r| (r.partition, r.offset)).collect()
}

fn poll_to_end(consumer: &mut Consumer<FakeBroker>) -> Vec<(u32, u64)> {
    let mut all = Vec::new();
    loop {
        match poll(consumer) {
            some if some.is_empty() => break,
            some => all.extend(some),
        }
    }
    all.sort_unstable();
    all
}

#[test]
fn every_record_comes_once() {
    let mut consumer = consumer(3);
    consumer.assign_all(Position::Beginning).expect("partitions");
    let expected: Vec<_> =
        (0..3).flat_map(|partition| (0..10).map(move |o| (partition, o))).collect();
    assert_eq!(poll_to_end(&mut consumer), expected);
    assert!(consumer.positions().all(|(_, offset)| offset == 10));
    assert!(consumer.high_watermarks().all(|(_, offset)| offset == 10));
    assert_eq!(consumer.end_offsets().expect("connected").len(), 3);
    consumer.assign(&[1], Position::Beginning).expect("partition 1");
    assert_eq!(poll_to_end(&mut consumer), expected[10..20]);
}

#[test]
fn seeks_into_the_middle_of_a_batch() {
    let mut consumer = consumer(2);
    consumer.assign(&[1], Position::Offset(4)).expect("partition 1");
    assert_eq!(poll_to_end(&mut consumer), (4..10).map(|o| (1, o)).collect::<Vec<_>>());
    consumer.seek(1, Position::Offset(8)).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), [(1, 8), (1, 9)]);
    consumer.seek(1, Position::End).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), []);
    // The broker answers with an offset before the time; the records before it are passed over.
    consumer.seek(1, Position::Time(7)).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), [(1, 7), (1, 8), (1, 9)]);
    assert!(consumer.seek(0, Position::End).is_err(), "not assigned");
    assert!(matches!(
        consumer.assign(&[2], Position::End),
        Err(ClientError::NoSuchPartition { .. })
    ));
}

#[test]
fn an_offset_out_of_range_is_told_and_can_be_mended() {
    let mut consumer = consumer(1);
    consumer.assign_all(Position::Offset(11)).expect("partitions");
    let error = consumer.poll().expect_err("beyond the end");
    let ClientError::OffsetOutOfRange { offset: 11, high_watermark: 10, .. } = error else {
        panic!("{error}");
    };
    consumer.seek(0, Position::Beginning).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer).len(), 10);
}

#[test]
fn damage_and_gaps_are_noticed() {
    let mut damaged = consumer(1);
    let (_, broker) = damaged.connection.parts_mut();
    broker.logs[0][1][70] ^= 1;
    damaged.assign_all(Position::Beginning).expect("partitions");
    let error = damaged.poll().expect_err("a flipped bit");
    assert!(matches!(error, ClientError::Corrupt { partition: 0, .. }), "{error}");

    let mut gap = consumer(1);
    gap.connection.parts_mut().1.logs[0].remove(1);
    gap.assign_all(Position::Beginning).expect("partitions");
    let error = gap.poll().expect_err("a missing batch");
    assert!(matches!(error, ClientError::Gap { expected: 3, found: 6, .. }), "{error}");
    assert!(gap.positions().all(|(_, offset)| offset == 0), "nothing was taken");
}

#[test]
fn values_keys_and_times_arrive() {
    let mut consumer = consumer(1);
    consumer.assign_all(Position::Beginning).expect("partitions");
    let records = consumer.poll().expect("good batches");
    for (number, record) in (0i64..).zip(records) {
        let record = record.expect("whole");
        assert_eq!(record.value, Some(number.to_string().as_bytes()));
        assert_eq!((record.key, record.timestamp_ms), (None, number));
        assert!(record.headers.is_empty());
    }
}
