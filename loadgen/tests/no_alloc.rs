//! A generator thread allocates nothing per record: a longer run allocates no more than a short
//! one. The target is `null`, so that nobody else allocates meanwhile.

#![allow(unsafe_code, reason = "a global allocator that counts cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use pelton_loadgen::run::{BenchArgs, EXIT_OK, ServeFlags, bench};
use serde_json::Value;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// counting touches an atomic that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let code = bench(&args.bench, &serve);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let result: Value =
        serde_json::from_slice(&std::fs::read(file.path()).expect("written")).expect("JSON");
    assert_eq!((code, &result["integrity"]["verdict"]), (EXIT_OK, &"ok".into()), "{result:#}");
    assert_eq!(result["target"]["kind"], "null");
    let records = &result["load"]["acked_records"];
    (allocations, records.as_u64().expect("null answers"))
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
        let (long, many) = run(&format!("{flags} --duration 400ms"));
        let more = many.saturating_sub(few);
        assert!(more > 1_000, "{flags}: {few}, {many} records");
        let grown = long.saturating_sub(short);
        assert!(grown * 100 <= more + 20_000, "{flags}: {grown} allocations for {more} records");
    }
}
