//! The JSON contract and the two renderings.

use super::*;
use crate::latency::Latencies;

/// A small run of a closed loop, complete in all fields.
pub(crate) fn run() -> Run {
    let mut response = Latencies::new();
    (0..5_000).for_each(|i| response.record(100_000 + i * 10));
    Run {
        schema: RUN_SCHEMA.to_owned(),
        tool: Tool { name: "pelton bench".to_owned(), version: "0".to_owned() },
        command: vec!["pelton".to_owned()],
        interrupted: false,
        started_utc: None,
        seed: 1,
        target: Target {
            kind: "spawn".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            broker_cores: Some(vec![0]),
            generator_cores: vec![1],
            data_dir: None,
            data_dir_file_system: None,
            broker_flags: Vec::new(),
            broker_binary: None,
        },
        env: Environment::read(None),
        durability: Durability {
            acks: "durable".to_owned(),
            acknowledged_when: "durable".to_owned(),
            lost_by: "nothing".to_owned(),
            memory_file_system: None,
        },
        options: options(),
        load: Load::default(),
        beside: None,
        latency_ns: LatencySet {
            response: Some(response.summary()),
            closed_loop: true,
            ..LatencySet::default()
        },
        floor: FloorFigures::default(),
        efficiency: Efficiency::default(),
        integrity: Integrity::not_checked("a test"),
        queue: None,
        validity: Validity::of(&[Reason::Overloaded { percent: 50 }]),
        series: None,
        host: None,
        phases: Vec::new(),
        broker: None,
        anatomy_ns: None,
        histograms: BTreeMap::new(),
        slo: Vec::new(),
        faults: None,
        broker_end: None,
        queue_proof: None,
        proof: None,
    }
}

/// What was asked for.
fn options() -> RunOptions {
    RunOptions {
        closed_loop: true,
        linger_ns: 0,
        batch_bytes: None,
        batch_records: Some(1),
        inflight: 1,
        record_bytes: 100,
        sizes: None,
        entropy_per_mille: None,
        keys: None,
        producers: 1,
        consumers: 0,
        partitions: 1,
        duration_ns: 1,
        warmup_ns: 0,
        warmup_auto: false,
        busy_poll: true,
        preload_bytes: None,
        rate_records_per_s: None,
        arrivals: None,
        partitioner: None,
        route: None,
        pin: None,
        fetch_path: None,
        cold: false,
        beside_reader_bytes: None,
        queue: None,
        consume_rate_records_per_s: None,
        faults: Vec::new(),
    }
}

#[test]
fn all_fields_of_the_contract_are_there_and_unknown_ones_are_null() {
    let json = serde_json::to_value(run()).expect("serialises");
    let contract = [
        (
            "",
            "schema tool command seed target env durability load latency_ns floor efficiency \
              integrity validity",
        ),
        (
            "/load",
            "offered_records_per_s achieved_records_per_s acked_records consumed_records \
                   consumed_records_per_s bytes_per_s errors",
        ),
        ("/latency_ns", "response service e2e"),
        ("/latency_ns/response", "count min mean p50 p90 p99 p999 p9999 max"),
        (
            "/floor",
            "durable_write_ns echo_rtt_ns disk_write_bytes_per_s \
                    disk_durable_write_bytes_per_s disk_read_bytes_per_s loopback_bytes_per_s",
        ),
        (
            "/efficiency",
            "broker_cpu_ns_per_record broker_cpu_ns_total broker_rss_bytes_max \
                         disk_bytes_written disk_bytes_zeroed",
        ),
        ("/integrity", "verdict lost duplicated reordered corrupted in_doubt"),
        ("/validity", "verdict reasons"),
    ];
    for (place, fields) in contract {
        let object = json.pointer(place).and_then(|value| value.as_object()).expect(place);
        for field in fields.split_whitespace() {
            assert!(object.contains_key(field), "{place}/{field}");
        }
    }
    assert!(json["load"]["acked_records"].is_null());
    assert!(json["floor"]["echo_rtt_ns"].is_null());
    assert!(json["integrity"]["lost"].is_null());
    assert_eq!(json["integrity"]["verdict"], "not_checked");
    assert_eq!(json["schema"], "pelton.bench.run/1");
    // Ten samples beyond p99.99 would need 100,000.
    assert!(json["latency_ns"]["response"]["p9999"].is_null());
}

#[test]
fn a_set_reads_back() {
    let json = serde_json::to_string(&Set::new(vec![run(), run()])).expect("serialises");
    let set: Set = serde_json::from_str(&json).expect("reads back");
    assert_eq!((set.schema.as_str(), set.cells.len()), (SET_SCHEMA, 2));
}

#[test]
fn renderings_say_what_is_unknown_and_why_to_doubt() {
    let text = render_run(&run());
    assert!(text.contains("--") && text.contains("not checked: a test"), "{text}");
    assert!(text.contains("overloaded: 50 %") && text.contains("closed loop"), "{text}");
    let mut single = run();
    single.floor.durable_write_ns = Some(Percentiles { p50: Some(90_000), p99: None, count: 99 });
    single.floor.echo_rtt_ns = Some(Percentiles { p50: Some(10_000), p99: None, count: 99 });
    let table = render_set(&Set::new(vec![single]));
    assert!(table.contains("1.24 x") && table.contains("p50 100 us"), "{table}");
}
