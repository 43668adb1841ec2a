//! Black box: `pelton queue` against a real broker, across its deaths.

use std::time::Duration;

use client::{ConnectOptions, PublisherOptions, PushOptions, QueueConsumer, QueuePublisher};
use loadgen::port;
use pelton_tests::broker::Broker;
use pelton_tests::program;
use serde_json::Value;
use tempfile::TempDir;

#[track_caller]
fn ok(broker: &Broker, args: &[&str]) -> String {
    broker.run(args, b"").expect_success()
}

#[track_caller]
fn publish(broker: &Broker, queue: &str, lines: &str) {
    broker.run(&["queue", "publish", queue], lines.as_bytes()).expect_success();
}

/// What a command says that shall fail.
#[track_caller]
fn failure(broker: &Broker, args: &[&str], input: &str) -> String {
    let finished = broker.run(args, input.as_bytes());
    assert_eq!(finished.code, Some(1), "{args:?}: {}", finished.stderr);
    finished.stderr
}

#[track_caller]
fn described(broker: &Broker, queue: &str) -> Value {
    let text = ok(broker, &["queue", "describe", queue, "--format", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn consume(broker: &Broker, queue: &str, flags: &[&str]) -> String {
    let mut args = vec!["queue", "consume", queue, "--idle-exit", "300ms"];
    args.extend_from_slice(flags);
    ok(broker, &args)
}

#[test]
fn messages_outlive_the_broker_until_they_are_accepted() {
    let dir = TempDir::new().expect("a temporary folder");
    let broker = Broker::start(dir.path());
    ok(&broker, &["queue", "create", "jobs"]);
    let lines: String = (0..500).map(|number| format!("job {number}\n")).collect();
    publish(&broker, "jobs", &lines);
    assert_eq!(consume(&broker, "jobs", &["-c", "200"]).lines().count(), 200);
    assert_eq!(ok(&broker, &["queue", "get", "jobs", "-c", "3"]), "job 200\njob 201\njob 202\n");
    broker.kill();

    let broker = Broker::start(dir.path());
    assert!(broker.log().contains("1 queues with 297 messages"), "{}", broker.log());
    let first = ok(&broker, &["queue", "get", "jobs", "--format", "json"]);
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!((&first["sequence"], &first["body"]), (&203.into(), &"job 203".into()));
    assert_eq!(first["redelivered"], true, "the broker did not say goodbye");
    assert_eq!(broker.stop().code, Some(0));

    let broker = Broker::start(dir.path());
    let rest = consume(&broker, "jobs", &[]);
    let expected: String = (204..500).map(|number| format!("job {number}\n")).collect();
    assert_eq!(rest, expected);
    assert_eq!(described(&broker, "jobs")["bytes"], 0);
    broker.kill();
    let path = dir.path().to_str().expect("a plain path");
    program::run(&["log", "verify", path], b"").expect_success();
}

#[test]
fn dead_letters_tell_how_they_died_and_go_back() {
    let dir = TempDir::new().expect("a temporary folder");
    let broker = Broker::start(dir.path());
    let unknown = failure(&broker, &["queue", "create", "jobs", "--dead-letter", "dead"], "");
    assert!(unknown.contains("unknown_queue") && unknown.contains("create it first"), "{unknown}");
    ok(&broker, &["queue", "create", "dead"]);
    let create = ["queue", "create", "jobs", "--dead-letter", "dead", "--delivery-limit", "1"];
    ok(&broker, &create);
    ok(&broker, &create);
    let other = failure(&broker, &["queue", "create", "jobs"], "");
    assert!(other.contains("queue_mismatch"), "{other}");

    publish(&broker, "jobs", "rejected\nlost\n");
    consume(&broker, "jobs", &["-c", "1", "--reject"]);
    // Whoever had the second one kept it for too long, and once was the limit.
    assert_eq!(ok(&broker, &["queue", "get", "jobs", "--lease", "1ms"]), "lost\n");
    let dead = (0..1000).map(|_| described(&broker, "dead")["ready"].as_u64());
    assert!(dead.into_iter().any(|ready| ready == Some(2)), "it never came");
    let shown = ok(&broker, &["queue", "peek", "dead", "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let reasons: Vec<&Value> = (0..2).map(|at| &shown[at]["death"]["reason"]).collect();
    assert_eq!(reasons, ["rejected", "delivery_limit"]);
    assert_eq!(shown[0]["death"]["deaths"], 1);
    let in_use = failure(&broker, &["queue", "delete", "dead"], "");
    assert!(in_use.contains("queue_in_use"), "{in_use}");

    let moved = ok(&broker, &["queue", "redrive", "dead", "--format", "json"]);
    let moved: Value = serde_json::from_str(&moved).expect("JSON");
    assert_eq!((&moved["moved"], &moved["kept"]), (&2.into(), &0.into()));
    assert_eq!(consume(&broker, "jobs", &[]), "rejected\nlost\n");
    ok(&broker, &["queue", "delete", "jobs", "--if-empty", "--if-unused"]);
    ok(&broker, &["queue", "delete", "dead"]);
    let gone = failure(&broker, &["queue", "get", "jobs"], "");
    assert!(gone.contains("unknown_queue") && gone.contains("or check its name"), "{gone}");
}

#[test]
fn bounds_and_time_are_kept() {
    let dir = TempDir::new().expect("a temporary folder");
    let broker = Broker::start(dir.path());
    ok(&broker, &["queue", "create", "newest", "--max-messages", "2"]);
    publish(&broker, "newest", "1\n2\n3\n4\n");
    assert_eq!(consume(&broker, "newest", &[]), "3\n4\n");

    let bound = ["--max-messages", "2", "--overflow", "reject"];
    ok(&broker, &[&["queue", "create", "few"], bound.as_slice()].concat());
    let full = failure(&broker, &["queue", "publish", "few"], "1\n2\n3\n");
    assert!(full.contains("queue_full") && full.contains("3 refused"), "{full}");
    assert!(full.contains("consume from it, or send less"), "{full}");
    let long = failure(&broker, &["queue", "publish", "few"], &"x".repeat(1_048_000));
    assert!(long.contains("a message of 1048000 bytes is too long, 1047552 is"), "{long}");
    let unconfirmed = broker.run(&["queue", "publish", "few", "--acks", "none"], b"1\n");
    assert_eq!(unconfirmed.code, Some(2));
    assert!(unconfirmed.stderr.contains("pass memory, written or durable"), "{unconfirmed:?}");
    publish(&broker, "few", "1\n2\n");
    ok(&broker, &["queue", "purge", "few"]);
    assert_eq!(described(&broker, "few")["ready"], 0);

    ok(&broker, &["queue", "create", "short", "--message-ttl", "1ms"]);
    publish(&broker, "short", "late\n");
    let wait = ["queue", "get", "short", "--wait", "50ms"];
    let late = ok(&broker, &wait);
    assert!(late.is_empty() || late == "late\n", "{late}");
    assert_eq!(described(&broker, "short")["ready"], 0, "by then it has expired");

    ok(&broker, &["queue", "create", "lent", "--lease", "1ms"]);
    publish(&broker, "lent", "again\n");
    let lend = ["queue", "get", "lent", "--wait", "10s", "--lease", "1ms"];
    assert_eq!(ok(&broker, &lend), "again\n");
    assert_eq!(ok(&broker, &lend), "again\n", "its lease has ended");
}

#[test]
fn whichever_shard_is_asked_the_owner_answers() {
    let dir = TempDir::new().expect("a temporary folder");
    let flags = ["--shards", "2"];
    let broker = Broker::try_start(dir.path(), &flags).expect("it starts");
    for queue in ["a", "b", "c", "d"] {
        ok(&broker, &["queue", "create", queue]);
        publish(&broker, queue, "1\n2\n3\n");
        // Every command is a connection of its own, to whichever shard the kernel chooses.
        assert_eq!(consume(&broker, queue, &["-c", "1"]), "1\n", "{queue}, by pull");
        assert_eq!(consume(&broker, queue, &[]), "2\n3\n", "{queue}, by push");
    }
    let names = ok(&broker, &["queue", "list", "--format", "json"]);
    let names: Value = serde_json::from_str(&names).expect("JSON");
    let shards: Vec<u64> = (0..4).filter_map(|at| names[at]["shard"].as_u64()).collect();
    assert_eq!(shards.len(), 4, "{names}");
}

#[test]
fn publishers_and_consumers_go_on_when_the_broker_comes_back() {
    let dir = TempDir::new().expect("a temporary folder");
    let listen = format!("--listen=127.0.0.1:{}", port::lasting());
    let broker = Broker::try_start(dir.path(), &[&listen]).expect("it starts");
    ok(&broker, &["queue", "create", "jobs"]);
    let address = broker.address().to_owned();
    let connect =
        ConnectOptions { reconnect_for: Duration::from_secs(60), ..ConnectOptions::default() };
    let options = PublisherOptions::default();
    let mut publisher =
        QueuePublisher::connect(&address, "jobs", &connect, options).expect("it connects");
    let mut consumer = QueueConsumer::connect(&address, "jobs", &connect).expect("it connects");
    consumer.subscribe(PushOptions::default()).expect("it subscribes");
    publisher.publish(b"", b"one", 0).expect("it is published");
    publisher.publish(b"", b"two", 0).expect("it is published");
    assert!(publisher.flush().expect("it is confirmed").iter().all(|one| !one.is_repeated));
    let wait = Duration::from_secs(60);
    let first = consumer.next(wait).expect("it is there").expect("in time");
    assert_eq!(first.body, b"one");
    consumer.accept(first.sequence).expect("it is accepted");
    assert_eq!(consumer.next(wait).expect("it is there").expect("in time").body, b"two");
    consumer.flush().expect("the broker has heard it");

    broker.kill();
    publisher.publish(b"", b"three", 0).expect("it waits");
    let _broker = Broker::try_start(dir.path(), &[&listen]).expect("its port is free again");
    let confirms = publisher.flush().expect("it is confirmed by the next one");
    assert!(confirms.into_iter().all(|confirm| confirm.outcome.is_ok()));
    assert_eq!(publisher.reconnects(), 1);
    // What was told to a broker without waiting for the disk may have died with it.
    let mut again = consumer.next(wait).expect("it is there").expect("in time");
    if again.body == b"one" {
        assert!(again.redelivered);
        again = consumer.next(wait).expect("it is there").expect("in time");
    }
    assert_eq!((again.body.as_slice(), again.redelivered), (b"two".as_slice(), true));
    assert_eq!(consumer.reconnects(), 1);
    assert_eq!(consumer.next(wait).expect("it is there").expect("in time").body, b"three");
    consumer.accept(again.sequence).expect("it is accepted");
    consumer.flush().expect("the broker has heard it");
}

#[test]
fn one_publish_goes_to_queues_and_topics_and_dead_letters_to_a_topic() {
    let dir = TempDir::new().expect("a temporary folder");
    let broker = Broker::try_start(dir.path(), &["--shards", "2"]).expect("it starts");
    ok(&broker, &["topic", "create", "events", "--partitions", "2"]);
    let dead = ["--dead-letter-topic", "events", "--dead-letter-partition", "1"];
    ok(&broker, &[&["queue", "create", "jobs"], dead.as_slice()].concat());
    assert_eq!(described(&broker, "jobs")["dead_letter"], "events");
    assert_eq!(described(&broker, "jobs")["dead_letter_partition"], 1);
    ok(&broker, &["queue", "create", "audit"]);
    let also = ["--also", "audit", "--also-topic", "events:0"];
    broker
        .run(&[&["queue", "publish", "jobs"], also.as_slice()].concat(), b"1\n2\n")
        .expect_success();
    assert_eq!(consume(&broker, "audit", &[]), "1\n2\n");
    consume(&broker, "jobs", &["-c", "1", "--reject"]);
    let rest = consume(&broker, "jobs", &[]);
    assert_eq!(rest, "2\n");
    let format = ["-f", r"%p %v\n", "--exit-at-end"];
    let read = || ok(&broker, &[&["consume", "events"], format.as_slice()].concat());
    let all = (0..1000).map(|_| read()).find(|all| all.lines().count() == 3);
    let all = all.expect("the dead letter comes");
    assert!(["0 1", "0 2", "1 1"].iter().all(|line| all.lines().any(|l| l == *line)), "{all}");
    let no_such = failure(&broker, &["queue", "publish", "jobs", "--also-topic", "none:0"], "1\n");
    assert!(no_such.contains("unknown_topic"), "{no_such}");
}

#[test]
fn a_queue_of_one_command_takes_what_others_publish_and_goes_with_it() {
    let dir = TempDir::new().expect("a temporary folder");
    let broker = Broker::start(dir.path());
    ok(&broker, &["queue", "create", "jobs"]);
    let taken = failure(&broker, &["queue", "consume", "jobs", "--exclusive"], "");
    assert!(taken.contains("exists with other settings"), "{taken}");
    let connect = ConnectOptions::default();
    let settings = wire::queue::Settings::new();
    let own = QueueConsumer::exclusive(broker.address(), "replies", &settings, &connect);
    let mut own = own.expect("it is its own");
    publish(&broker, "replies", "for you\n");
    let refused = failure(&broker, &["queue", "get", "replies"], "");
    assert!(refused.contains("exclusive to the connection"), "{refused}");
    own.subscribe(PushOptions::default()).expect("it may");
    let message = own.next(Duration::from_secs(10)).expect("it goes on").expect("it comes");
    assert_eq!(message.body, b"for you");
    drop(own);
    assert_eq!(consume(&broker, "mine", &["--exclusive"]), "");
}
