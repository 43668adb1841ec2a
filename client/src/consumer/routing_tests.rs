//! The consumer against a broker of several shards, several topics, and restarts.

use super::tests::{consumer_of, fill, poll, poll_to_end};
use super::*;
use crate::fake_broker::FakeNetwork;

/// Topic `t` of six partitions, filled, on two shards with ports of their own.
fn sharded() -> FakeNetwork {
    let network = FakeNetwork::new(6, &[]);
    network.broker().ports = vec![2, 3];
    fill(&network, "t");
    network
}

fn everything(partitions: u32) -> Vec<(u32, u64)> {
    (0..partitions).flat_map(|partition| (0..10).map(move |offset| (partition, offset))).collect()
}

#[test]
fn each_partition_is_read_from_its_owner() {
    let network = sharded();
    let mut consumer = consumer_of(&network, &["t"]);
    assert_eq!(network.broker().open_ports(), [], "nothing is wanted yet");
    consumer.assign(&[("t", 1), ("t", 3)], Position::Beginning).expect("partitions");
    assert_eq!(network.broker().open_ports(), [3], "only the owner that is needed");
    consumer.assign_all(Position::Beginning).expect("partitions");
    assert_eq!(network.broker().open_ports(), [3, 2]);
    assert_eq!(consumer.end_offsets().expect("both answer"), [10; 6]);
    assert_eq!(poll_to_end(&mut consumer), everything(6));
    for (port, partitions) in &network.broker().fetched {
        let owned = partitions.iter().all(|partition| u32::from(*port) == 2 + partition % 2);
        assert!(owned, "{partitions:?} on port {port}");
    }
}

#[test]
fn equal_endpoints_share_a_connection() {
    let network = sharded();
    network.broker().ports = vec![1, 1, 1];
    let mut consumer = consumer_of(&network, &["t"]);
    consumer.assign_all(Position::Beginning).expect("partitions");
    assert_eq!(poll_to_end(&mut consumer), everything(6));
    assert_eq!(network.broker().open_ports(), [1]);
}

#[test]
fn topics_are_read_side_by_side() {
    let network = sharded();
    network.broker().create("u", 2);
    fill(&network, "u");
    let mut consumer = consumer_of(&network, &["t", "u"]);
    consumer.assign_all(Position::Beginning).expect("partitions");
    let mut counts = [0u32; 8];
    loop {
        let mut none = true;
        for record in consumer.poll_for(Duration::ZERO).expect("good") {
            let record = record.expect("whole");
            let expected = if record.slot < 6 { "t" } else { "u" };
            assert_eq!(record.topic, expected);
            counts[record.slot] += 1;
            none = false;
        }
        if none {
            break;
        }
    }
    assert_eq!(counts, [10; 8]);
    assert!(consumer.positions().all(|at| at.is_at_end));
    let topics: Vec<&str> = consumer.topics().iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(topics, ["t", "u"]);
}

#[test]
fn positions_outlive_a_restart_with_other_ports() {
    for ports in [&[2, 3][..], &[5], &[7, 8, 9], &[1, 1]] {
        let network = sharded();
        let mut consumer = consumer_of(&network, &["t"]);
        consumer.assign_all(Position::Beginning).expect("partitions");
        let mut found = poll(&mut consumer);
        assert!(!found.is_empty() && found.len() < 60, "in the middle");
        network.broker().restart(ports);
        while found.len() < 60 {
            let records = consumer.poll().expect("it comes back");
            found.extend(
                records.map(|record| record.expect("whole")).map(|r| (r.partition, r.offset)),
            );
        }
        found.sort_unstable();
        assert_eq!(found, everything(6), "{ports:?}");
        let event = consumer.next_event().expect("it is told");
        assert!(matches!(event, ConsumerEvent::Reconnecting { .. }), "{event:?}");
    }
}

#[test]
fn partitions_that_move_are_found_again() {
    let network = sharded();
    let mut consumer = consumer_of(&network, &["t"]);
    consumer.assign_all(Position::End).expect("partitions");
    assert_eq!(poll(&mut consumer), []);
    network.broker().ports = vec![3, 2];
    for partition in 0..6 {
        consumer.seek("t", partition, Position::Offset(0)).expect("assigned");
    }
    let mut found = Vec::new();
    while found.len() < 60 {
        let records = consumer.poll().expect("they are found");
        found.extend(records.map(|record| record.expect("whole").offset));
    }
    assert_eq!(found.len(), 60);
}

#[test]
fn a_topic_that_is_gone_or_new_is_told_for_good() {
    for is_created_again in [0, 1] {
        let network = sharded();
        let mut consumer = consumer_of(&network, &["t"]);
        consumer.assign_all(Position::Beginning).expect("partitions");
        poll_to_end(&mut consumer);
        {
            let mut broker = network.broker();
            broker.create("other", 1);
            if is_created_again == 1 {
                broker.create("t", 6);
            }
            broker.topics.remove(0);
        }
        let error = loop {
            match consumer.poll() {
                Ok(records) => assert_eq!(records.count(), 0),
                Err(error) => break error,
            }
        };
        if is_created_again == 1 {
            assert!(matches!(error, ClientError::TopicRecreated { .. }), "{error}");
        } else {
            assert_eq!(error.error_code(), Some(wire::ErrorCode::UnknownTopic), "{error}");
        }
    }
}

#[test]
fn an_outage_that_lasts_is_an_error_and_can_be_tried_again() {
    let network = sharded();
    let reconnect_for = Duration::from_millis(30);
    let connect = ConnectOptions { reconnect_for, ..ConnectOptions::default() };
    let options = ConsumerOptions::default();
    let made = Consumer::with_network(network.clone(), "fake:1", &["t"], &connect, options);
    let mut consumer = made.expect("a topic");
    consumer.assign_all(Position::Beginning).expect("partitions");
    network.broker().restart(&[2, 3]);
    network.broker().listens = false;
    let error = consumer.poll().expect_err("nobody answers");
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    network.broker().listens = true;
    assert_eq!(poll_to_end(&mut consumer), everything(6));
}

#[test]
fn a_partition_with_much_starves_no_other() {
    let network = FakeNetwork::new(4, &[]);
    fill(&network, "t");
    // A reply holds one batch, whatever was asked for.
    network.broker().reply_bytes_max = 1;
    network.broker().partition_bytes_max = 1;
    let mut consumer = consumer_of(&network, &["t"]);
    consumer.assign_all(Position::Beginning).expect("partitions");
    let polls: Vec<u32> = (0..16).map(|_| poll(&mut consumer)[0].0).collect();
    for some in polls.chunks(4) {
        let mut partitions = some.to_vec();
        partitions.sort_unstable();
        assert_eq!(partitions, [0, 1, 2, 3], "each has its turn");
    }
}

#[test]
fn a_paused_partition_is_not_asked_for() {
    let network = sharded();
    let mut consumer = consumer_of(&network, &["t"]);
    consumer.assign_all(Position::Beginning).expect("partitions");
    for partition in [1, 2] {
        consumer.pause("t", partition).expect("assigned");
    }
    let mut expected = everything(6);
    expected.retain(|(partition, _)| ![1, 2].contains(partition));
    assert_eq!(poll_to_end(&mut consumer), expected);
    consumer.resume("t", 2).expect("assigned");
    assert_eq!(poll_to_end(&mut consumer), everything(3)[20..]);
    assert!(consumer.resume("t", 6).is_err() && consumer.pause("u", 0).is_err());
}

#[test]
fn a_refused_fetch_is_tried_again_after_a_pause() {
    let network = sharded();
    let mut consumer = consumer_of(&network, &["t"]);
    consumer.assign_all(Position::Beginning).expect("partitions");
    network.broker().fetches_refused = 3;
    assert_eq!(poll(&mut consumer), [], "both endpoints are overloaded");
    let mut found = 0;
    while found < 60 {
        found += consumer.poll().expect("it passes").count();
    }
    assert_eq!(network.broker().fetches_refused, 0);
    assert_eq!(network.broker().connections(), 4, "a producer's and a consumer's, two each");
}
