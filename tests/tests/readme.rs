//! The commands of README.md do what it says, on the real binary.

use std::process::Command;

use pelton_tests::broker::Broker;
use pelton_tests::program;
use tempfile::tempdir;

const README: &str = include_str!("../../README.md");

/// Lines of its code blocks that run the binary, in order.
fn commands() -> Vec<&'static str> {
    let blocks = README.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).filter(|line| line.contains("pelton "));
    lines.filter(|line| !line.starts_with("cargo")).collect()
}

/// A shell as a reader has it after the first line of the quick start.
fn shell(line: &str, server: &str) -> Command {
    let folder = program::pelton().parent().expect("it lies in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-e", "-c", line]).env("PELTON_SERVER", server);
    command.env("PATH", format!("{}:{path}", folder.display()));
    command
}

#[test]
fn the_quick_start_works() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    let mut output = String::new();
    let client = |line: &&str| !line.contains("pelton serve") && !line.contains("pelton bench");
    let lines: Vec<&str> = commands().into_iter().filter(client).collect();
    assert!(lines.len() >= 5, "topic, produce, consume, describe, stats: {lines:?}");
    for line in lines {
        let finished = program::finish(shell(line, broker.address()), b"");
        assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
        output += &finished.stdout;
    }
    assert!(output.contains("a apple") && output.contains("b banana"), "{output}");
}

#[test]
fn flags_of_long_running_commands_exist() {
    let lines = commands();
    let long = lines.iter().filter(|l| l.starts_with("pelton serve") || l.contains("bench run"));
    let mut count = 0;
    for line in long {
        // Unknown flags and bad values are refused before help is given.
        let line = format!("{} --help", line.trim_end_matches(" &"));
        let finished = program::finish(shell(&line, ""), b"");
        assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
        count += 1;
    }
    assert!(count >= 3, "serve and two runs");
}

#[test]
fn its_two_commands_exist() {
    assert!(README.contains("cargo run --release -- bench"));
    assert!(README.contains("scripts/check"));
    let gate = program::workspace().join("scripts/check");
    assert!(gate.is_file(), "{}", gate.display());
}
