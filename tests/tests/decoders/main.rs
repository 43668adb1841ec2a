//! The bodies of the fuzz targets, over arbitrary bytes, over small numbers (which counts and
//! lengths are made of), and over the inputs in `fuzz/corpus`, as they are and spoiled.

extern crate client as pelton_client;
extern crate engine as pelton_engine;
extern crate wire as pelton_wire;

#[path = "../../../fuzz/bodies/mod.rs"]
mod bodies;

use std::path::PathBuf;

use pelton_tests::program::workspace;
use proptest::prelude::*;
use proptest::sample::Index;

/// A target's name and body.
type Target = (&'static str, fn(&[u8]));

/// All of them but the decoders of `wire/`, which have a test of their own there.
const TARGETS: [Target; 6] = [
    ("batch", bodies::batch::run),
    ("frame", bodies::frame::run),
    ("small_files", bodies::small_files::run),
    ("queue_records", bodies::queue_records::run),
    ("session", bodies::session::run),
    ("recovery", bodies::recovery::run),
];
/// All kept inputs together are no longer.
const CORPUS_BYTES_MAX: usize = 200_000;

fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = workspace().join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).expect("each target has kept inputs");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    paths.sort_unstable();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

#[test]
fn kept_inputs_are_survived_and_few() {
    let mut bytes = 0;
    for (name, run) in TARGETS {
        let inputs = kept(name);
        assert!(!inputs.is_empty(), "{name} has kept inputs");
        for input in &inputs {
            bytes += input.len();
            run(input);
        }
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes of inputs: minimise them");
}

#[test]
fn kept_inputs_with_any_byte_changed_are_survived() {
    for (name, run) in TARGETS.into_iter().filter(|(name, _)| *name != "recovery") {
        for input in kept(name) {
            for at in 0..input.len().min(512) {
                let mut spoiled = input.clone();
                spoiled[at] ^= 1 << (at % 8);
                run(&spoiled);
            }
        }
    }
}

/// Any target; recovery, which takes long, more seldom.
fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        25 => prop::sample::select(&TARGETS[..5]),
        1 => Just(TARGETS[5]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_bytes_are_survived(
        (_, run) in target(),
        bytes in prop::collection::vec(any::<u8>(), 0..6000),
    ) {
        run(&bytes);
    }

    #[test]
    fn small_numbers_are_survived(
        (_, run) in target(),
        bytes in prop::collection::vec(0..5u8, 0..600),
    ) {
        run(&bytes);
    }

    #[test]
    fn spliced_inputs_are_survived(
        (name, run) in target(),
        (one, other, cut, from) in any::<(Index, Index, Index, Index)>(),
    ) {
        let inputs = kept(name);
        let (one, other) = (one.get(&inputs), other.get(&inputs));
        let cut = cut.index(one.len() + 1);
        let from = from.index(other.len() + 1);
        run(&[&one[..cut], &other[from..]].concat());
    }
}
