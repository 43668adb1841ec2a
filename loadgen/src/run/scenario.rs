//! `pelton bench scenario`: loads that answer a question each, as files that can be copied.

use clap::{Args, Subcommand};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

use super::{BenchArgs, EXIT_OK, RunError, ServeFlags, bench};

/// The shipped ones: name and text.
const SHIPPED: [(&str, &str); 19] = [
    ("quick", include_str!("../../scenarios/quick.toml")),
    ("ping", include_str!("../../scenarios/ping.toml")),
    ("throughput", include_str!("../../scenarios/throughput.toml")),
    ("latency-p99", include_str!("../../scenarios/latency-p99.toml")),
    ("durability", include_str!("../../scenarios/durability.toml")),
    ("linger-batch", include_str!("../../scenarios/linger-batch.toml")),
    ("many-producers", include_str!("../../scenarios/many-producers.toml")),
    ("keyed-zipf", include_str!("../../scenarios/keyed-zipf.toml")),
    ("small-batches", include_str!("../../scenarios/small-batches.toml")),
    ("large-messages", include_str!("../../scenarios/large-messages.toml")),
    ("many-partitions", include_str!("../../scenarios/many-partitions.toml")),
    ("tail-and-catch-up", include_str!("../../scenarios/tail-and-catch-up.toml")),
    ("backlog-drain", include_str!("../../scenarios/backlog-drain.toml")),
    ("slow-consumer", include_str!("../../scenarios/slow-consumer.toml")),
    ("queue-ack-redelivery", include_str!("../../scenarios/queue-ack-redelivery.toml")),
    ("burst", include_str!("../../scenarios/burst.toml")),
    ("restart-under-load", include_str!("../../scenarios/restart-under-load.toml")),
    ("kill9-integrity", include_str!("../../scenarios/kill9-integrity.toml")),
    ("soak", include_str!("../../scenarios/soak.toml")),
];
/// Commands that a scenario may give.
const COMMANDS: [&str; 8] = ["run", "ping", "sweep", "max", "curve", "ab", "backlog", "soak"];

/// Lists, shows and runs loads that are shipped, or in a file
#[derive(Args, Clone, Debug)]
pub struct ScenarioArgs {
    #[command(subcommand)]
    command: ScenarioCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum ScenarioCommand {
    /// Names the shipped scenarios and their questions
    List,
    /// Prints a scenario, to be copied and changed
    Show {
        /// A shipped one
        name: String,
    },
    /// Runs a scenario
    Run {
        /// A shipped one, or a file
        name: String,
        /// More flags of its command; they replace those of the scenario
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<String>,
    },
}

/// What a file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// The question that it answers.
    about: String,
    /// A command of `bench`.
    command: String,
    /// Its flags, without dashes: a value, several, or true for a switch.
    #[serde(default)]
    flags: BTreeMap<String, Flag>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Flag {
    Switch(bool),
    Number(i64),
    Text(String),
    Several(Vec<String>),
}

/// Does what is asked for.
pub(super) fn run(args: &ScenarioArgs, serve: &ServeFlags) -> Result<u8, RunError> {
    match &args.command {
        ScenarioCommand::List => {
            for (name, text) in SHIPPED {
                let scenario = Scenario::parse(name, text).map_err(RunError::Setup)?;
                println!("{name:<20} {}", scenario.about);
            }
            Ok(EXIT_OK)
        }
        ScenarioCommand::Show { name } => {
            print!("{}", shipped(name)?);
            Ok(EXIT_OK)
        }
        ScenarioCommand::Run { name, flags } => {
            let text = match Path::new(name).is_file() {
                true => std::fs::read_to_string(name)
                    .map_err(|error| RunError::Setup(format!("{name}: {error}")))?,
                false => shipped(name)?.to_owned(),
            };
            let line = Scenario::parse(name, &text).map_err(RunError::Usage)?.line(flags);
            eprintln!("pelton bench {}", line.join(" "));
            let parsed = BenchArgs::from_line(&line)
                .map_err(|error| RunError::Usage(format!("{name}: {error}")))?;
            Ok(bench(&parsed, serve))
        }
    }
}

fn shipped(name: &str) -> Result<&'static str, RunError> {
    let found = SHIPPED.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| {
        let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        RunError::Usage(format!("there is no scenario or file {name}; there are {names}"))
    })
}

impl Scenario {
    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        match COMMANDS.contains(&scenario.command.as_str()) {
            true => Ok(scenario),
            false => Err(format!(
                "{name}: there is no command {:?} for a scenario; there are {}",
                scenario.command,
                COMMANDS.join(", ")
            )),
        }
    }

    /// The command line, with `more` flags instead of those of the same name.
    fn line(&self, more: &[String]) -> Vec<String> {
        let named = |flag: &str| {
            let dashed = format!("--{flag}");
            more.iter().any(|word| word.split('=').next() == Some(dashed.as_str()))
        };
        let mut line = vec![self.command.clone()];
        for (name, value) in self.flags.iter().filter(|(name, _)| !named(name)) {
            match value {
                Flag::Switch(true) => line.push(format!("--{name}")),
                Flag::Switch(false) => {}
                Flag::Number(number) => line.push(format!("--{name}={number}")),
                Flag::Text(text) => line.push(format!("--{name}={text}")),
                Flag::Several(values) => {
                    line.extend(values.iter().map(|value| format!("--{name}={value}")));
                }
            }
        }
        line.extend(more.iter().cloned());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_a_command_line_and_asks_something() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::parse(name, text).expect(name);
            assert!(scenario.about.ends_with(['?', '.']), "{name}");
            let line = scenario.line(&[]);
            let parsed = BenchArgs::from_line(&line).unwrap_or_else(|error| panic!("{error}"));
            let reason = parsed.invalid();
            assert_eq!(reason, None, "{name}");
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"));
        assert_eq!(files.expect("a folder").count(), SHIPPED.len(), "a file is not shipped");
    }

    #[test]
    fn more_flags_replace_those_of_the_scenario() {
        let text = "about = 'x.'\ncommand = 'run'\n[flags]\nrate = '5'\nbusy-poll = true\n\
                    cold = false\nproducers = 3\nbroker = ['a=1', 'b=2']\n";
        let scenario = Scenario::parse("x", text).expect("good");
        let more = ["--rate", "9", "--busy-poll=x"].map(str::to_owned);
        let line = scenario.line(&more).join(" ");
        assert_eq!(line, "run --broker=a=1 --broker=b=2 --producers=3 --rate 9 --busy-poll=x");
    }

    #[test]
    fn wrong_files_are_told() {
        for (text, says) in [
            ("about = 'x'", "missing field `command`"),
            ("about = 'x'\ncommand = 'fly'", "there is no command \"fly\""),
            ("about = 'x'\ncommand = 'run'\nflag = 1", "unknown field"),
            ("about", "x: TOML parse error"),
        ] {
            let error = Scenario::parse("x", text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
