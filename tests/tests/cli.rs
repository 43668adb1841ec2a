//! Black box: the command line against a real broker, all of it the real binary.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Stdio;

use pelton_tests::broker::Broker;
use pelton_tests::program;
use serde_json::Value;
use tempfile::TempDir;

fn broker() -> (Broker, TempDir) {
    let dir = TempDir::new().expect("a temporary folder");
    (Broker::start(dir.path()), dir)
}

/// What a command prints that shall succeed.
#[track_caller]
fn ok(broker: &Broker, args: &[&str]) -> String {
    broker.run(args, b"").expect_success()
}

/// Produces the lines of `input`.
#[track_caller]
fn produce(broker: &Broker, topic: &str, input: &[u8]) {
    let printed = broker.run(&["produce", topic], input).expect_success();
    assert_eq!(printed, "", "only stderr speaks");
}

/// What a command says that shall fail.
#[track_caller]
fn failure(broker: &Broker, args: &[&str]) -> String {
    let finished = broker.run(args, b"line");
    assert_eq!(finished.code, Some(1), "{args:?}: {}", finished.stderr);
    assert_eq!(finished.stdout, "", "data of a failed {args:?}");
    finished.stderr
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn keyed_lines_come_back_by_partition() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "orders", "--partitions", "4"]);
    let lines: String =
        (0..200).map(|number| format!("key{}:value{number}\n", number % 7)).collect();
    let produced = broker.run(&["produce", "orders", "-K", ":"], lines.as_bytes());
    assert_eq!(produced.stderr.trim(), "200 records acknowledged");
    assert_eq!(produced.expect_success(), "", "only stderr speaks");

    let args = ["consume", "orders", "--from", "beginning", "--exit-at-end", "-f", r"%p %k:%v\n"];
    let printed = ok(&broker, &args);
    let mut seen: Vec<&str> =
        printed.lines().map(|line| line.split_once(' ').expect("two parts").1).collect();
    assert_eq!(seen.len(), 200);
    for key in 0..7 {
        let prefix = format!("key{key}:");
        let partitions: Vec<&str> = printed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, rest)| rest.starts_with(&prefix))
            .map(|(partition, _)| partition)
            .collect();
        assert!(partitions.windows(2).all(|pair| pair[0] == pair[1]), "{prefix} is in one");
        let of_key: Vec<&&str> = seen.iter().filter(|line| line.starts_with(&prefix)).collect();
        let expected: Vec<String> =
            (0..200).filter(|n| n % 7 == key).map(|n| format!("{prefix}value{n}")).collect();
        assert!(of_key.iter().map(|line| **line).eq(expected.iter()), "{prefix} is in order");
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 200, "each once");
}

#[test]
fn reading_begins_where_it_is_told_to() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "log"]);
    produce(&broker, "log", b"zero\none\n\nthree");
    let consume = |more: &[&str]| {
        let args = [&["consume", "log", "--exit-at-end", "-f", r"%o=%v,"], more].concat();
        ok(&broker, &args)
    };
    assert_eq!(consume(&[]), "0=zero,1=one,2=,3=three,");
    assert_eq!(consume(&["--from", "2"]), "2=,3=three,");
    assert_eq!(consume(&["--from", "4"]), "");
    assert_eq!(consume(&["--from", "end"]), "");
    assert_eq!(consume(&["-c", "2"]), "0=zero,1=one,");
    assert_eq!(consume(&["--from", "@0"]), "0=zero,1=one,2=,3=three,");
    assert_eq!(consume(&["--from", "@2999-01-01T00:00:00Z"]), "");
    assert_eq!(ok(&broker, &["consume", "log", "-c", "1"]), "zero\n");

    let sentence = failure(&broker, &["consume", "log", "--from", "9"]);
    assert!(sentence.contains("offset 9 of partition 0 is out of range"), "{sentence}");
}

#[test]
fn a_consumer_that_waits_gets_what_comes_later() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "log"]);
    let mut waiting = program::command(&["consume", "log", "-c", "2", "-f", r"%v at %T\n"])
        .env("PELTON_SERVER", broker.address())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(waiting.stdout.take().expect("a pipe")).lines();
    produce(&broker, "log", b"first\n");
    let line = lines.next().expect("a line").expect("text");
    assert!(line.starts_with("first at 20") && line.ends_with('Z'), "{line}");
    produce(&broker, "log", b"second\n");
    assert!(lines.next().expect("a line").expect("text").starts_with("second"));
    assert!(waiting.wait().expect("it ends").success());
}

#[test]
fn old_records_go_by_request_and_stay_gone() {
    let (broker, dir) = broker();
    ok(&broker, &["topic", "create", "log", "--retention", "7d", "--retention-bytes", "1GiB"]);
    let described = json(&ok(&broker, &["topic", "describe", "log", "--format", "json"]));
    assert_eq!(described["retention_ms"], 7 * 86_400_000);
    assert_eq!(described["retention_bytes"], 1 << 30);
    ok(&broker, &["topic", "alter", "log", "--retention", "0s", "--flush", "5ms"]);
    let table = ok(&broker, &["topic", "describe", "log"]);
    assert!(table.contains("flush 5 ms") && table.contains("retention for ever"), "{table}");
    assert!(table.contains("1073741824 bytes"), "what was not named stays: {table}");

    produce(&broker, "log", b"0\n1\n2\n3\n");
    let args = ["topic", "delete-records", "log", "--before", "2", "--format", "json"];
    let deleted = json(&ok(&broker, &args));
    assert_eq!(deleted["partitions"][0]["log_start_offset"], 2);
    let beyond = broker.run(&["topic", "delete-records", "log", "--before", "9"], b"");
    assert_eq!(beyond.code, Some(1));
    assert!(beyond.stdout.contains("ends before"), "{}", beyond.stdout);

    broker.kill();
    let broker = Broker::start(dir.path());
    let args = ["consume", "log", "--from", "beginning", "--exit-at-end", "-f", r"%o\n"];
    assert_eq!(ok(&broker, &args), "2\n3\n");
    let described = json(&ok(&broker, &["topic", "describe", "log", "--format", "json"]));
    assert_eq!(described["partitions"][0]["log_start_offset"], 2);
    assert_eq!(described["flush_ms"], 5, "altered settings last");
    let args = ["topic", "delete-records", "log", "--before", "end"];
    assert!(ok(&broker, &args).contains("deleted"));
    assert_eq!(ok(&broker, &["consume", "log", "--from", "beginning", "--exit-at-end"]), "");
}

#[test]
fn topics_come_and_go() {
    let (broker, _dir) = broker();
    let created = json(&ok(&broker, &["topic", "create", "b", "--format", "json"]));
    assert_eq!(created["topic_id"].as_str().map(str::len), Some(32));
    ok(&broker, &["topic", "create", "a", "--partitions", "3"]);
    let listed = json(&ok(&broker, &["topic", "list", "--format", "json"]));
    assert_eq!(listed[0]["name"], "a");
    assert_eq!(listed[0]["partitions"], 3);
    assert_eq!(listed[1]["topic_id"], created["topic_id"]);
    let table = ok(&broker, &["topic", "list"]);
    assert!(table.starts_with("TOPIC") && table.lines().count() == 3, "{table}");

    produce(&broker, "b", b"1\n2\n");
    let described = json(&ok(&broker, &["topic", "describe", "b", "--format", "json"]));
    assert_eq!(described["partitions"][0]["high_watermark"], 2);
    assert_eq!(described["partitions"][0]["log_start_offset"], 0);
    assert!(ok(&broker, &["topic", "describe", "a"]).contains("PARTITION"));

    let sentence = failure(&broker, &["topic", "create", "b"]);
    assert!(sentence.contains("topic_exists"), "{sentence}");
    assert_eq!(ok(&broker, &["topic", "delete", "b"]), "");
    for args in [
        &["topic", "describe", "b"][..],
        &["topic", "delete", "b"],
        &["produce", "b"],
        &["consume", "b"],
    ] {
        let sentence = failure(&broker, args);
        assert!(sentence.contains("unknown_topic"), "{args:?}: {sentence}");
    }
}

#[test]
fn counters_are_printed() {
    let (broker, _dir) = broker();
    let stats = json(&ok(&broker, &["stats", "--format", "json"]));
    let counters = stats.as_object().expect("an object");
    assert!(!counters.is_empty() && counters.values().all(Value::is_u64), "{stats}");
    assert!(ok(&broker, &["stats"]).starts_with("COUNTER"));
    assert_eq!(ok(&broker, &["ping", "-c", "2"]).lines().count(), 2);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "log"]);
    let lines = "a line of some length, so that pipes fill\n".repeat(20_000);
    produce(&broker, "log", lines.as_bytes());
    let mut consumer = program::command(&["consume", "log"])
        .env("PELTON_SERVER", broker.address())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut first = [0; 6];
    let mut stdout = consumer.stdout.take().expect("a pipe");
    stdout.read_exact(&mut first).expect("the first bytes");
    drop(stdout);
    let output = consumer.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_stop_keeps_everything() {
    let (broker, dir) = broker();
    ok(&broker, &["topic", "create", "log"]);
    produce(&broker, "log", b"one\ntwo\n");
    assert_eq!(broker.stop().code, Some(0));
    let broker = Broker::start(dir.path());
    produce(&broker, "log", b"three\n");
    let printed = ok(&broker, &["consume", "log", "--exit-at-end", "-f", r"%o %v\n"]);
    assert_eq!(printed, "0 one\n1 two\n2 three\n");
}

#[test]
fn a_broker_that_is_not_there_leaves_a_sentence() {
    // Nobody listens on a port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    for args in [&["topic", "list"][..], &["stats"], &["produce", "log"], &["consume", "log"]] {
        let finished = program::run(&[args, &["--server", &address]].concat(), b"line");
        assert_eq!(finished.code, Some(1), "{args:?}");
        let sentence = finished.stderr;
        assert!(sentence.contains(&format!("no connection to {address}")), "{sentence}");
    }
}

#[test]
fn lines_before_one_that_cannot_be_sent_are_sent_and_counted() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "log"]);
    let input = [b"first\n", &[b'x'; 2 << 20][..], b"\nthird\n"].concat();
    let finished = broker.run(&["produce", "log"], &input);
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("1 records acknowledged"), "{}", finished.stderr);
    assert!(finished.stderr.contains("line 2: "), "{}", finished.stderr);
    assert_eq!(ok(&broker, &["consume", "log", "--exit-at-end"]), "first\n");
}

#[test]
fn records_of_a_killed_broker_are_told_as_in_doubt() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "log"]);
    let args = ["produce", "log", "--linger", "1h", "--reconnect-for", "0s"];
    let mut command = program::command(&args);
    command.env("PELTON_SERVER", broker.address());
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut producer = command.spawn().expect("the binary starts");
    // More than a batch: the pipe is drained only by a producer that sends.
    let mut stdin = producer.stdin.take().expect("a pipe");
    let line = [&[b'x'; 999][..], b"\n"].concat();
    for _ in 0..300 {
        std::io::Write::write_all(&mut stdin, &line).expect("it reads");
    }
    broker.kill();
    drop(stdin);
    let output = producer.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("not appended") || stderr.contains("in doubt"), "{stderr}");
    assert!(stderr.contains("records acknowledged"), "{stderr}");
}
