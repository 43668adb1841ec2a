//! Every decoder over the same bytes: none may panic, whatever they are.

#![no_main]

#[path = "../../wire/tests/every_decoder/mod.rs"]
mod every_decoder;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    every_decoder::decode_as_everything(bytes);
});
