//! A generator thread allocates nothing per record: a longer run allocates no more than a short
//! one. The target is `null`, so that nobody else allocates meanwhile.

#[path = "../../wire/tests/counting/mod.rs"]
mod counting;

use clap::Parser;
use counting::allocations_of_all_threads;
use pelton_loadgen::run::{BenchArgs, EXIT_OK, ServeFlags, bench};
use serde_json::Value;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

/// Allocations and records of a run into `null`.
fn run(flags: &str) -> (u64, u64) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let json = file.path().display();
    let line = format!("bench run -q --target null --warmup 20ms --json {json} {flags}");
    let args = Line::try_parse_from(line.split_whitespace()).expect("valid flags");
    let serve = ServeFlags { names: Vec::new(), check: |_| Ok(()) };
    let before = allocations_of_all_threads();
    let code = bench(&args.bench, &serve);
    let allocations = allocations_of_all_threads() - before;
    let result: Value =
        serde_json::from_slice(&std::fs::read(file.path()).expect("written")).expect("JSON");
    assert_eq!(result["target"]["kind"], "null");
    let records = result["load"]["acked_records"].as_u64().expect("null answers");
    // A thread that got no CPU in so short a time has sent nothing.
    if records > 0 {
        assert_eq!((code, &result["integrity"]["verdict"]), (EXIT_OK, &"ok".into()), "{result:#}");
    }
    (allocations, records)
}

#[test]
fn a_longer_run_allocates_no_more() {
    for flags in [
        "--batch 1rec --inflight 4",
        "--batch 1000rec --inflight 2",
        "--batch 1rec --rate 20000 --busy-poll",
        "--batch 100rec --rate poisson:50k --linger 1ms",
        "--acks none --batch 10rec",
        "--batch 10rec --rate steps:10k,40k --busy-poll",
        "--batch 64KiB --sizes uniform:100..1KiB --entropy 0.5",
    ] {
        // The first run fills what is made once.
        run(&format!("{flags} --duration 40ms"));
        let (short, few) = run(&format!("{flags} --duration 60ms"));
        // How much longer it takes to send many more is for a busy machine to say.
        let mut durations_ms = (0..6).map(|step| 400 << step);
        let (long, more) = durations_ms
            .find_map(|ms| {
                let (long, many) = run(&format!("{flags} --duration {ms}ms"));
                Some((long, many.saturating_sub(few))).filter(|(_, more)| *more > 1_000)
            })
            .expect("in 25 s it sends a thousand records more than in 60 ms");
        let grown = long.saturating_sub(short);
        assert!(grown * 100 <= more + 20_000, "{flags}: {grown} allocations for {more} records");
    }
}
