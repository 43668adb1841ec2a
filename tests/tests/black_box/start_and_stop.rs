//! Stopping, being killed, and data that cannot be served.

use pelton_tests::broker::Broker;
use pelton_tests::program::Finished;
use tempfile::tempdir;

/// A refusal is exit code 2 and a sentence that names what is wrong.
#[track_caller]
fn assert_refused(finished: &Finished, names: &str) {
    let said = &finished.stderr;
    assert_eq!(finished.code, Some(2), "{said}");
    assert!(said.contains(names), "it names `{names}`: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_killed_broker_leaves_no_lock() {
    let dir = tempdir().expect("a folder");
    Broker::start(dir.path()).kill();
    Broker::start(dir.path());
}

#[test]
fn a_data_directory_that_is_a_file_is_refused() {
    let dir = tempdir().expect("a folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").expect("writable");
    let refused = Broker::try_start(&file, &[]).expect_err("it is no directory");
    assert_refused(&refused, &file.display().to_string());
}

#[test]
fn stopping_is_a_normal_end_and_frees_the_data() {
    let dir = tempdir().expect("a folder");
    let finished = Broker::start(dir.path()).stop();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    Broker::start(dir.path());
}
