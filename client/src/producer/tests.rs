//! The producer against a broker that answers as a script says.

use super::*;
use crate::fake_broker::{ADDRESS, Answer, FakeNetwork};
use wire::ErrorCode;
use wire::batch::Batch;

fn producer(
    partitions: usize,
    script: &[Answer],
    options: ProducerOptions,
) -> Producer<FakeNetwork> {
    let connect = ConnectOptions { reconnect_for: Duration::ZERO, ..ConnectOptions::default() };
    let network = FakeNetwork::new(partitions, script);
    Producer::with_network(network, ADDRESS, "t", &connect, options).expect("topic t")
}

/// One record per batch, and the window never gathers.
fn single_records() -> ProducerOptions {
    ProducerOptions { batch_records: 1, ..ProducerOptions::default() }
}

/// Every value in a partition's log, in order.
fn log(producer: &Producer<FakeNetwork>, partition: usize) -> Vec<String> {
    let broker = producer.router.network.broker();
    let mut values = Vec::new();
    for bytes in &broker.topics[0].logs[partition] {
        for record in Batch::validate(bytes).expect("valid").records() {
            let value = record.expect("whole").value.expect("a value").to_vec();
            values.push(String::from_utf8(value).expect("text"));
        }
    }
    values
}

fn send_numbers(producer: &mut Producer<FakeNetwork>, count: u64) {
    for number in 0..count {
        let sent = producer.send(&Record::value(number.to_string().as_bytes())).expect("taken");
        assert_eq!(sent, SentRecord { partition: 0, index: number });
    }
}

#[test]
fn acknowledged_records_are_told_with_their_offsets() {
    let mut producer = producer(1, &[], ProducerOptions::default());
    send_numbers(&mut producer, 1000);
    let totals = producer.flush().expect("connected");
    assert_eq!(totals, Totals { acked: 1000, ..Totals::default() });
    assert!(totals.all_well());
    let outcome = Outcome::Acked { base_offset: 0 };
    let delivery = Delivery { partition: 0, first_index: 0, record_count: 1000, outcome };
    assert_eq!(producer.next_delivery(), Some(delivery), "consecutive ones are told as one");
    assert_eq!(producer.next_delivery(), None);
    let expected: Vec<String> = (0..1000).map(|number: u64| number.to_string()).collect();
    assert_eq!(log(&producer, 0), expected);
}

#[test]
fn a_lingering_batch_waits_until_it_is_full_or_flushed() {
    let linger = Duration::from_secs(3600);
    let options = ProducerOptions { linger, batch_records: 10, ..ProducerOptions::default() };
    let mut producer = producer(1, &[], options);
    send_numbers(&mut producer, 25);
    producer.poll().expect("connected");
    assert_eq!(producer.router.network.broker().produced, 2);
    producer.flush().expect("connected");
    assert_eq!(producer.router.network.broker().produced, 3);
    assert_eq!(producer.totals().acked, 25);
}

#[test]
fn a_batch_is_full_at_its_bytes() {
    let linger = Duration::from_secs(3600);
    let options = ProducerOptions { linger, batch_bytes: 1000, ..ProducerOptions::default() };
    let mut producer = producer(1, &[], options);
    for _ in 0..20 {
        producer.send(&Record::value(&[b'x'; 200])).expect("taken");
    }
    producer.flush().expect("connected");
    let broker = producer.router.network.broker();
    let logs = &broker.topics[0].logs;
    assert!(logs[0].len() >= 5);
    assert!(logs[0].iter().all(|batch| batch.len() <= 1000));
}

#[test]
fn keys_choose_the_partition_and_the_rest_is_spread() {
    let mut producer = producer(3, &[], single_records());
    for _ in 0..2 {
        let sent = producer.send(&Record::keyed(b"abc", b"keyed")).expect("taken");
        assert_eq!(sent.partition, partition_of_key(b"abc", 3));
    }
    let partitions: Vec<u32> =
        (0..3).map(|_| producer.send(&Record::value(b"v")).expect("taken").partition).collect();
    assert_ne!(partitions[0], partitions[1]);
    assert_ne!(partitions[1], partitions[2]);
    let record = Record { partition: Some(3), ..Record::value(b"v") };
    assert!(matches!(producer.send(&record), Err(ClientError::NoSuchPartition { .. })));
    assert_eq!(producer.flush().expect("connected").acked, 5);
}

#[test]
fn an_overloaded_batch_is_sent_again_in_order() {
    let refuse = Answer::Refuse(ErrorCode::Overloaded);
    let options = ProducerOptions { in_flight_max: 4, ..single_records() };
    let mut producer = producer(1, &[refuse, refuse, refuse, refuse], options);
    send_numbers(&mut producer, 20);
    assert_eq!(producer.flush().expect("connected").acked, 20);
    let expected: Vec<String> = (0..20).map(|number: u64| number.to_string()).collect();
    assert_eq!(log(&producer, 0), expected);
    assert_eq!(producer.router.network.broker().produced, 24);
}

#[test]
fn an_overtaken_batch_fails_instead_of_coming_late() {
    for refusal in [Answer::Refuse, Answer::RefuseLater] {
        let script = [Answer::Ack, refusal(ErrorCode::Overloaded), Answer::Ack];
        let mut producer = producer(1, &script, single_records());
        send_numbers(&mut producer, 3);
        let totals = producer.flush().expect("connected");
        let expected = Totals { acked: 2, failed: 1, ..Totals::default() };
        // With an immediate refusal the second may be noticed before the third is sent.
        let in_order = totals == Totals { acked: 3, ..Totals::default() };
        assert!(totals == expected || in_order, "{totals:?}");
        let mut values = log(&producer, 0);
        values.retain(|value| value != "1" || in_order);
        let sorted = {
            let mut sorted = values.clone();
            sorted.sort();
            sorted
        };
        assert_eq!(values, sorted);
    }
}

#[test]
fn refusals_fail_and_unknown_outcomes_are_in_doubt() {
    let script = [
        Answer::Refuse(ErrorCode::InvalidRecord),
        Answer::Refuse(ErrorCode::StorageFailed),
        Answer::Refuse(ErrorCode::TimedOut),
        Answer::Ack,
    ];
    let mut producer = producer(1, &script, single_records());
    send_numbers(&mut producer, 4);
    let totals = producer.flush().expect("connected");
    assert_eq!(totals, Totals { acked: 1, failed: 1, in_doubt: 2, ..Totals::default() });
    assert_eq!(producer.router.network.broker().produced, 4, "nothing is retried");
    let first = producer.next_delivery().expect("the failed one");
    let code = ErrorCode::InvalidRecord.number();
    let detail = String::from("invalid_record");
    assert_eq!(first.outcome, Outcome::Failed { code, detail });
}

#[test]
fn a_lost_connection_leaves_what_was_sent_in_doubt() {
    let linger = Duration::from_secs(3600);
    let options = ProducerOptions { linger, batch_records: 2, ..ProducerOptions::default() };
    let mut producer = producer(1, &[Answer::Ack, Answer::Close], options);
    send_numbers(&mut producer, 4);
    // Depending on when the end is noticed, this one is sent or is not.
    let _ = producer.send(&Record::value(b"4"));
    assert!(producer.flush().is_err());
    assert!(matches!(producer.send(&Record::value(b"5")), Err(ClientError::ProducerClosed)));
    let totals = producer.totals();
    assert_eq!((totals.acked, totals.in_doubt + totals.failed), (2, 3));
    assert!(totals.in_doubt >= 2);
}

#[test]
fn acks_none_is_never_awaited() {
    let options = ProducerOptions { acks: Acks::None, ..single_records() };
    let mut producer = producer(2, &[], options);
    for _ in 0..100 {
        producer.send(&Record::value(b"v")).expect("taken");
    }
    let totals = producer.flush().expect("connected");
    assert_eq!(totals, Totals { unacknowledged: 100, ..Totals::default() });
}

#[test]
fn a_record_that_fits_no_batch_is_refused() {
    let mut producer = producer(1, &[], ProducerOptions::default());
    let error = producer.send(&Record::value(&vec![0; 65_536])).expect_err("too large");
    assert!(matches!(error, ClientError::RecordTooLarge { bytes_max: 65_536, .. }));
    let fitting = vec![0; 65_536 - 61 - 11];
    producer.send(&Record::value(&fitting)).expect("taken");
    assert_eq!(producer.flush().expect("connected").acked, 1);
}

/// A producer for a broker whose two shards have ports of their own, one record per batch.
fn sharded(script: &[Answer]) -> (Producer<FakeNetwork>, FakeNetwork) {
    let network = FakeNetwork::new(4, script);
    network.broker().ports = vec![2, 3];
    let connect = ConnectOptions::default();
    let made = Producer::with_network(network.clone(), ADDRESS, "t", &connect, single_records());
    (made.expect("topic t"), network)
}

fn send_to(producer: &mut Producer<FakeNetwork>, partition: u32, value: &str) {
    let record = Record { partition: Some(partition), ..Record::value(value.as_bytes()) };
    producer.send(&record).expect("taken");
}

#[test]
fn each_partition_is_sent_to_its_owner() {
    let (mut producer, network) = sharded(&[]);
    assert_eq!(network.broker().open_ports(), [2, 3], "one connection per owner, no other");
    for partition in [0, 1, 2, 3, 0] {
        send_to(&mut producer, partition, "v");
    }
    let totals = producer.flush().expect("connected");
    assert_eq!(totals, Totals { acked: 5, ..Totals::default() });
    assert_eq!(network.broker().produced, 5, "the other shard would have refused");
}

#[test]
fn owners_that_move_are_found_again() {
    let (mut producer, network) = sharded(&[]);
    send_to(&mut producer, 1, "0");
    assert_eq!(producer.flush().expect("connected").acked, 1);
    // Connections stay, but partition 1 belongs to the shard on port 4 now.
    network.broker().ports = vec![2, 4, 3];
    send_to(&mut producer, 1, "1");
    send_to(&mut producer, 1, "2");
    assert_eq!(producer.flush().expect("found").acked, 3);
    assert_eq!(log(&producer, 1), ["0", "1", "2"]);
}

#[test]
fn a_lost_connection_is_made_again_and_only_what_was_sent_is_in_doubt() {
    for ports in [&[2, 3][..], &[5], &[7, 8, 9]] {
        let (mut producer, network) = sharded(&[Answer::Ack, Answer::Close]);
        send_to(&mut producer, 0, "0");
        assert_eq!(producer.flush().expect("connected").acked, 1);
        send_to(&mut producer, 0, "1");
        network.broker().restart(ports);
        send_to(&mut producer, 0, "2");
        send_to(&mut producer, 1, "3");
        let totals = producer.flush().expect("connected again");
        assert_eq!((totals.in_doubt, totals.failed, totals.acked), (1, 0, 3), "{ports:?}");
        assert_eq!(log(&producer, 0), ["0", "2"]);
        assert_eq!(log(&producer, 1), ["3"]);
    }
}

#[test]
fn records_for_a_deleted_topic_fail_and_for_a_new_one_of_its_name_too() {
    for is_created_again in [0, 1] {
        let (mut producer, network) = sharded(&[]);
        send_to(&mut producer, 0, "0");
        assert_eq!(producer.flush().expect("connected").acked, 1);
        let mut broker = network.broker();
        broker.create("other", 1);
        if is_created_again == 1 {
            broker.create("t", 4);
        }
        broker.topics.remove(0);
        drop(broker);
        send_to(&mut producer, 0, "1");
        let totals = producer.flush().expect("connected");
        assert_eq!((totals.acked, totals.failed, totals.in_doubt), (1, 1, 0));
        let last = std::iter::from_fn(|| producer.next_delivery()).last().expect("two");
        let Outcome::Failed { code, .. } = last.outcome else { panic!("{last:?}") };
        assert_eq!(ErrorCode::from_u16(code), Some(ErrorCode::UnknownTopic));
    }
}

#[test]
fn an_outage_that_lasts_ends_the_producer() {
    let network = FakeNetwork::new(1, &[]);
    let reconnect_for = Duration::from_millis(30);
    let connect = ConnectOptions { reconnect_for, ..ConnectOptions::default() };
    let made = Producer::with_network(network.clone(), ADDRESS, "t", &connect, single_records());
    let mut producer = made.expect("topic t");
    network.broker().restart(&[1]);
    network.broker().listens = false;
    send_to(&mut producer, 0, "0");
    let error = producer.flush().expect_err("nobody answers");
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    let totals = producer.totals();
    assert_eq!((totals.acked, totals.in_doubt + totals.failed), (0, 1));
}
