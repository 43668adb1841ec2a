//! The consumer against a broker in memory.

use super::*;
use crate::fake_broker::{ADDRESS, FakeNetwork};
use crate::producer::{Producer, ProducerOptions, Record};
use wire::batch::{BatchBuilder, CRC_FROM};

/// Sends ten records in batches of three to each partition of a topic; record `n` has the value
/// and time `n`.
pub(super) fn fill(network: &FakeNetwork, topic: &str) {
    let linger = Duration::from_secs(3600);
    let options = ProducerOptions { linger, batch_records: 3, ..ProducerOptions::default() };
    let connect = ConnectOptions::default();
    let made = Producer::with_network(network.clone(), ADDRESS, topic, &connect, options);
    let mut producer = made.expect("the topic exists");
    for partition in 0..u32::try_from(producer.topic().partitions.len()).expect("few") {
        for number in 0..10i64 {
            let value = number.to_string();
            let timestamp_ms = Some(number);
            let partition = Some(partition);
            let value = Record::value(value.as_bytes());
            producer.send(&Record { partition, timestamp_ms, ..value }).expect("taken");
        }
    }
    producer.flush().expect("connected");
}

/// A consumer of topic `t` with so many partitions, filled.
fn consumer(partitions: usize) -> Consumer<FakeNetwork> {
    let network = FakeNetwork::new(partitions, &[]);
    fill(&network, "t");
    consumer_of(&network, &["t"])
}

pub(super) fn consumer_of(network: &FakeNetwork, topics: &[&str]) -> Consumer<FakeNetwork> {
    let connect = ConnectOptions::default();
    let options = ConsumerOptions::default();
    Consumer::with_network(network.clone(), ADDRESS, topics, &connect, options).expect("topics")
}

/// Partition and offset of every record of one poll.
pub(super) fn poll(consumer: &mut Consumer<FakeNetwork>) -> Vec<(u32, u64)> {
    let records = consumer.poll_for(Duration::ZERO).expect("good batches");
    records.map(|record| record.expect("whole")).map(|r| (r.partition, r.offset)).collect()
}

pub(super) fn poll_to_end(consumer: &mut Consumer<FakeNetwork>) -> Vec<(u32, u64)> {
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
    assert!(consumer.positions().all(|at| at.offset == 10 && at.is_at_end));
    assert!(consumer.positions().all(|at| at.high_watermark == 10));
    assert_eq!(consumer.end_offsets().expect("connected"), [10, 10, 10]);
    consumer.assign(&[("t", 1)], Position::Beginning).expect("partition 1");
    assert_eq!(poll_to_end(&mut consumer), expected[10..20]);
}

#[test]
fn seeks_into_the_middle_of_a_batch() {
    let mut consumer = consumer(2);
    consumer.assign(&[("t", 1)], Position::Offset(4)).expect("partition 1");
    assert_eq!(poll_to_end(&mut consumer), (4..10).map(|o| (1, o)).collect::<Vec<_>>());
    consumer.seek("t", 1, Position::Offset(8)).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), [(1, 8), (1, 9)]);
    consumer.seek("t", 1, Position::End).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), []);
    // The broker answers with an offset before the time; the records before it are passed over.
    consumer.seek("t", 1, Position::Time(7)).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), [(1, 7), (1, 8), (1, 9)]);
    assert!(consumer.seek("t", 0, Position::End).is_err(), "not assigned");
    consumer.seek("t", 1, Position::FromEnd(3)).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), [(1, 7), (1, 8), (1, 9)]);
    consumer.seek("t", 1, Position::FromEnd(300)).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer).len(), 10);
    let error = consumer.assign(&[("t", 2)], Position::End).expect_err("there are two");
    assert!(matches!(error, ClientError::NoSuchPartition { partition: 2, count: 2 }), "{error}");
    let error = consumer.assign(&[("u", 0)], Position::End).expect_err("not named before");
    assert!(matches!(error, ClientError::NotAssigned { .. }), "{error}");
    assert!(consumer.assign(&[("t", 0), ("t", 0)], Position::End).is_err(), "twice");
}

#[test]
fn an_offset_out_of_range_is_told_and_can_be_mended() {
    let mut consumer = consumer(1);
    consumer.assign_all(Position::Offset(11)).expect("partitions");
    let error = consumer.poll().expect_err("beyond the end");
    let ClientError::OffsetOutOfRange { offset: 11, high_watermark: 10, .. } = error else {
        panic!("{error}");
    };
    consumer.seek("t", 0, Position::Beginning).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer).len(), 10);
}

#[test]
fn records_removed_before_they_are_read_are_passed_over_if_that_is_wanted() {
    for (out_of_range, to) in [(OutOfRange::Earliest, 6), (OutOfRange::Latest, 10)] {
        let mut consumer = consumer(1);
        consumer.options.out_of_range = out_of_range;
        consumer.assign_all(Position::Offset(1)).expect("partitions");
        consumer.router.network.broker().log_start = 6;
        let expected: Vec<_> = (to..10).map(|offset| (0, offset)).collect();
        let mut found = poll(&mut consumer);
        found.extend(poll_to_end(&mut consumer));
        assert_eq!(found, expected, "{out_of_range:?}");
        let event = consumer.next_event().expect("it is told");
        let expected = ConsumerEvent::Reset {
            topic: String::from("t"),
            partition: 0,
            from: 1,
            to,
            log_start_offset: 6,
            high_watermark: 10,
        };
        assert_eq!(event, expected);
        assert!(event.to_string().contains("is no longer there"), "{event}");
        assert_eq!(consumer.next_event(), None);
    }
}

#[test]
fn records_damaged_on_the_broker_are_passed_over_if_that_is_wanted() {
    let mut consumer = consumer(2);
    consumer.router.network.broker().damaged = Some((1, 3..9));
    consumer.assign_all(Position::Beginning).expect("partitions");
    let error = loop {
        match consumer.poll_for(Duration::ZERO) {
            Ok(records) => records.for_each(drop),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("the damage ends before offset 9"), "{error}");
    assert_eq!(consumer.next_event(), None);

    consumer.options.damaged = Damaged::Skip;
    consumer.seek("t", 0, Position::Beginning).expect("assigned");
    consumer.seek("t", 1, Position::Beginning).expect("assigned");
    let found = poll_to_end(&mut consumer);
    let whole = (0..10).map(|offset| (0, offset));
    let expected: Vec<_> = whole.chain([0, 1, 2, 9].map(|offset| (1, offset))).collect();
    assert_eq!(found, expected);
    let event = consumer.next_event().expect("it is told");
    let topic = String::from("t");
    assert_eq!(event, ConsumerEvent::Skipped { topic, partition: 1, from: 3, to: 9 });
    assert!(event.to_string().contains("offsets 3 to 8"), "{event}");
    assert_eq!(consumer.next_event(), None, "once");
}

#[test]
fn where_damage_ends_is_waited_for() {
    for (answers, reconnect_for) in [(3, 10_000), (usize::MAX, 30)] {
        let network = FakeNetwork::new(1, &[]);
        fill(&network, "t");
        network.broker().damaged = Some((0, 3..9));
        network.broker().ends_unknown = answers;
        let reconnect_for = Duration::from_millis(reconnect_for);
        let connect = ConnectOptions { reconnect_for, ..ConnectOptions::default() };
        let options = ConsumerOptions { damaged: Damaged::Skip, ..ConsumerOptions::default() };
        let made = Consumer::with_network(network, ADDRESS, &["t"], &connect, options);
        let mut consumer = made.expect("a topic");
        consumer.assign_all(Position::Beginning).expect("partitions");
        let mut found = Vec::new();
        let error = loop {
            match consumer.poll_for(Duration::ZERO) {
                Ok(records) => found.extend(records.map(|record| record.expect("whole").offset)),
                Err(error) => break Some(error.to_string()),
            }
            if found.last() == Some(&9) {
                break None;
            }
        };
        match error {
            None => assert_eq!(found, [0, 1, 2, 9]),
            Some(error) => {
                assert!(answers == usize::MAX && found == [0, 1, 2], "{error}: {found:?}");
                assert!(error.contains("data_corrupt") && error.contains("offset 3"), "{error}");
            }
        }
    }
}

#[test]
fn damage_and_gaps_are_noticed() {
    let mut damaged = consumer(1);
    damaged.router.network.broker().topics[0].logs[0][1][70] ^= 1;
    damaged.assign_all(Position::Beginning).expect("partitions");
    let error = damaged.poll().expect_err("a flipped bit");
    let ClientError::Corrupt { partition: 0, offset: 3, .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("topic t, partition 0, offset 3"), "{error}");

    let mut gap = consumer(1);
    gap.router.network.broker().topics[0].logs[0].remove(1);
    gap.assign_all(Position::Beginning).expect("partitions");
    let error = gap.poll().expect_err("a missing batch");
    assert!(matches!(error, ClientError::Gap { expected: 3, found: 6, .. }), "{error}");
    assert!(gap.positions().all(|at| at.offset == 0), "nothing was taken");
}

#[test]
fn a_compressed_batch_ends_what_can_be_read_and_is_named() {
    let mut consumer = consumer(1);
    let mut builder = BatchBuilder::with_capacity(64);
    builder.push(0, None, Some(b"not really compressed"));
    let mut bytes = builder.finish().to_vec();
    wire::batch::Batch::stamp(&mut bytes, 10, 1);
    bytes[22] |= 4;
    let sum = wire::crc::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_FROM - 4..CRC_FROM].copy_from_slice(&sum.to_be_bytes());
    consumer.router.network.broker().topics[0].logs[0].push(bytes);
    consumer.assign_all(Position::Offset(9)).expect("partitions");
    assert_eq!(poll(&mut consumer), [(0, 9)], "what stands before it is given");
    let error = consumer.poll().expect_err("zstd");
    let ClientError::Compressed { offset: 10, next_offset: 11, codec: "zstd", .. } = error else {
        panic!("{error}");
    };
    consumer.seek("t", 0, Position::Offset(11)).expect("assigned");
    assert_eq!(poll(&mut consumer), []);
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
        assert_eq!((record.topic, record.slot), ("t", 0));
        assert!(record.headers.is_empty());
    }
}
