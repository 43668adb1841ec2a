#![no_main]

#[path = "../bodies/queue_records.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::run(input));
