//! Black box: how a broker starts, and how it does not.

use std::net::TcpListener;

use pelton_tests::broker::Broker;
use pelton_tests::program;
use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

/// Stderr of a `pelton` command that shall end with code 2.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let finished = program::run(args, b"");
    assert_eq!(finished.code, Some(2), "{args:?}: {}", finished.stderr);
    assert_eq!(finished.stdout, "", "{args:?}");
    finished.stderr
}

#[test]
fn wrong_usage_is_code_2() {
    for args in [
        &["frobnicate"][..],
        &["topic", "create", "a/b"],
        &["topic", "create", "a", "--partitions", "0"],
        &["consume", "t", "--from", "never"],
        &["consume", "t", "-f", "%x"],
        &["produce", "t", "-K", ""],
        &["stats", "--format", "xml"],
        &["stats", "--server", "nowhere"],
        &["serve", "--memory-bytes", "lots"],
        &["bench", "run", "--size", "39"],
    ] {
        refused(args);
    }
}

#[test]
fn the_banner_says_what_was_found() {
    let dir = folder();
    let log = Broker::start(dir.path()).stop().stderr;
    for part in ["Linux", "ring", "memory", "recovery", "ready listen=127.0.0.1:"] {
        assert!(log.contains(part), "{part} is missing in\n{log}");
    }
}

#[test]
fn flags_go_before_environment_before_file() {
    let dir = folder();
    let file = dir.path().join("pelton.toml");
    std::fs::write(&file, "listen = 'by-file'\n").expect("a small file");
    // None of these is an address: the refusal tells which one counts.
    let refusal = |variable: Option<&str>, flag: &[&str]| {
        let mut command = program::command(&["serve", "--config"]);
        command.arg(&file).args(flag);
        if let Some(value) = variable {
            command.env("PELTON_LISTEN", value);
        }
        let finished = program::finish(command, b"");
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        finished.stderr
    };
    assert!(refusal(None, &[]).contains("by-file"));
    assert!(refusal(Some("by-variable"), &[]).contains("by-variable"));
    assert!(refusal(Some("by-variable"), &["--listen", "by-flag"]).contains("by-flag"));
}

#[test]
fn a_bad_file_is_refused_with_a_suggestion() {
    let dir = folder();
    let file = dir.path().join("pelton.toml");
    let serve = |text: &str| {
        std::fs::write(&file, text).expect("a small file");
        refused(&["serve", "--config", file.to_str().expect("text")])
    };
    assert!(serve("memory_byte = 1").contains("did you mean \"memory_bytes\"?"));
    assert!(serve("spin_us = 'soon'").contains("spin_us"));
    assert!(serve("listen = ").contains("pelton.toml"));
    let missing = refused(&["serve", "--config", "does/not/exist.toml"]);
    assert!(missing.contains("cannot read does/not/exist.toml"), "{missing}");
}

#[test]
fn a_second_broker_is_refused() {
    let dir = folder();
    let broker = Broker::start(dir.path());
    let data_dir = dir.path().to_str().expect("text");
    let stderr = refused(&["serve", "--data-dir", data_dir, "--listen", "127.0.0.1:0"]);
    assert!(stderr.contains(data_dir), "{stderr}");
    broker.run(&["topic", "create", "unharmed"], b"").expect_success();
}

#[test]
fn a_port_in_use_is_refused() {
    let dir = folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let data_dir = dir.path().to_str().expect("text");
    let stderr = refused(&["serve", "--data-dir", data_dir, "--listen", &address]);
    assert!(stderr.contains("in use"), "{stderr}");
}

#[test]
fn other_machines_are_kept_out() {
    let dir = folder();
    let data_dir = dir.path().to_str().expect("text");
    let stderr = refused(&["serve", "--data-dir", data_dir, "--listen", "0.0.0.0:0"]);
    assert!(stderr.contains("--insecure-bind"), "{stderr}");
    let allowed = refused(&["serve", "--listen", "no-address", "--insecure-bind"]);
    assert!(allowed.contains("HOST:PORT"), "{allowed}");
}
