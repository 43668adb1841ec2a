//! Offsets by time: right to the record, from memory and from disk, in order and out of it.

use client::{ConnectOptions, Connection, Producer, ProducerOptions, Record};
use pelton_tests::broker::Broker;
use tempfile::tempdir;
use wire::delete_records;
use wire::list_offsets::RequestEntry;

const RECORDS: i64 = 3000;

/// Times rise slowly, and jump back and forth by more than a segment's worth.
fn time_of(number: i64) -> i64 {
    1_000_000 + number * 10 + number * 7919 % 6000
}

fn connect(broker: &Broker) -> Connection {
    Connection::connect(broker.address(), &ConnectOptions::default()).expect("it listens")
}

fn produce(broker: &Broker) {
    let connect = ConnectOptions::default();
    let options = ProducerOptions::default();
    let producer = Producer::connect(broker.address(), "t", &connect, options);
    let mut producer = producer.expect("the topic exists");
    let value = [b'v'; 700];
    for number in 0..RECORDS {
        let record = Record { timestamp_ms: Some(time_of(number)), ..Record::value(&value) };
        producer.send(&record).expect("sent");
        if number % 40 == 0 {
            producer.flush().expect("acknowledged");
        }
    }
    producer.flush().expect("acknowledged");
}

/// Asks for many times, and compares with the obvious answer for records from `start` on.
fn compare(broker: &Broker, start: i64) {
    let mut connection = connect(broker);
    let topic_id = connection.topic("t").expect("it exists").topic_id;
    let times: Vec<i64> = (0..200).map(|step| 999_000 + step * 193).collect();
    let entry =
        |&time: &i64| RequestEntry { topic_id, partition: 0.into(), timestamp_ms: time.into() };
    let entries: Vec<RequestEntry> = times.iter().map(entry).collect();
    let rows = connection.list_offsets(&entries).expect("answered");
    for (&time, row) in times.iter().zip(&rows) {
        let first = (start..RECORDS).find(|&number| time_of(number) >= time);
        let expected = (first.unwrap_or(RECORDS), first.map_or(-1, time_of));
        let got = (i64::try_from(row.offset.get()).expect("small"), row.timestamp_ms.get());
        assert_eq!((row.error.get(), got), (0, expected), "time {time}, from {start}");
    }
}

#[test]
fn the_first_record_at_or_after_a_time_is_found() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    let create = ["topic", "create", "t", "--segment-bytes", "256KiB"];
    broker.run(&create, b"").expect_success();
    produce(&broker);
    compare(&broker, 0);
    broker.kill();

    // From disk, without an index; then with the one that was made on the way.
    let broker = Broker::start(dir.path());
    compare(&broker, 0);
    compare(&broker, 0);
    let mut connection = connect(&broker);
    let topic_id = connection.topic("t").expect("it exists").topic_id;
    let entry = delete_records::RequestEntry {
        topic_id,
        partition: 0.into(),
        reserved: 0.into(),
        before_offset: 1234.into(),
    };
    let deleted = connection.delete_records(&[entry]).expect("answered");
    assert_eq!(deleted[0].log_start_offset.get(), 1234);
    compare(&broker, 1234);
    assert_eq!(broker.stop().code, Some(0));

    let broker = Broker::start(dir.path());
    compare(&broker, 1234);
}
