//! What a sweep may vary: the flags of `bench run`, and those of `serve`.

use clap::{Args, Command, FromArgMatches};

use crate::run::ServeFlags;
use crate::run::options::RunArgs;

/// A name is suggested for a misspelt one if it is at least this like it, from 0 to 1.
const LIKENESS_MIN: f64 = 0.7;
/// In front of the flags of `serve`.
const BROKER: &str = "broker.";

/// Copies one setting.
type Assign = fn(&mut RunArgs, &RunArgs);

/// Flags of `bench run` that can be varied.
const KNOBS: [(&str, Assign); 35] = [
    ("target", |to, from| to.target.clone_from(&from.target)),
    ("rate", |to, from| to.rate.clone_from(&from.rate)),
    ("acks", |to, from| to.acks = from.acks),
    ("linger", |to, from| to.linger = from.linger),
    ("batch", |to, from| to.batch = from.batch),
    ("inflight", |to, from| to.inflight = from.inflight),
    ("size", |to, from| to.size = from.size),
    ("sizes", |to, from| to.sizes = from.sizes),
    ("entropy", |to, from| to.entropy = from.entropy),
    ("keys", |to, from| to.keys = from.keys),
    ("producers", |to, from| to.producers = from.producers),
    ("consumers", |to, from| to.consumers = from.consumers),
    ("consume-rate", |to, from| to.consume_rate = from.consume_rate),
    ("partitions", |to, from| to.partitions = from.partitions),
    ("partitioner", |to, from| to.partitioner = from.partitioner),
    ("route", |to, from| to.route = from.route),
    ("pin", |to, from| to.pin = from.pin),
    ("duration", |to, from| to.duration = from.duration),
    ("warmup", |to, from| to.warmup = from.warmup),
    ("busy-poll", |to, from| to.busy_poll = from.busy_poll),
    ("anatomy", |to, from| to.anatomy = from.anatomy),
    ("seed", |to, from| to.seed = from.seed),
    ("preload", |to, from| to.preload = from.preload),
    ("beside-reader", |to, from| to.beside_reader = from.beside_reader),
    ("cold", |to, from| to.cold = from.cold),
    ("fetch-path", |to, from| to.fetch_path = from.fetch_path),
    ("mode", |to, from| to.queue.mode = from.queue.mode),
    ("prefetch", |to, from| to.queue.prefetch = from.queue.prefetch),
    ("ack-mode", |to, from| to.queue.ack_mode = from.queue.ack_mode),
    ("nack-share", |to, from| to.queue.nack_share = from.queue.nack_share),
    ("persistent-share", |to, from| to.queue.persistent_share = from.queue.persistent_share),
    ("delivery-limit", |to, from| to.queue.delivery_limit = from.queue.delivery_limit),
    ("backlog", |to, from| to.queue.backlog = from.queue.backlog),
    ("data-dir", |to, from| to.data_dir.clone_from(&from.data_dir)),
    ("broker-binary", |to, from| to.broker_binary.clone_from(&from.broker_binary)),
];

/// Flags of `bench run` that are no knobs.
#[cfg(test)]
const OTHERS: [&str; 9] =
    ["broker", "fault", "floor", "json", "keep", "quiet", "slo", "strict", "topic"];

/// Sets the knob `key` of `args` to `value`, or says why not, with the nearest name.
pub(in crate::run) fn set(
    args: &mut RunArgs,
    key: &str,
    value: &str,
    serve: &ServeFlags,
) -> Result<(), String> {
    if let Some(flag) = key.strip_prefix(BROKER) {
        if !serve.names.iter().any(|name| name == flag) {
            return Err(unknown(key, serve));
        }
        args.broker_flags.push(format!("{flag}={value}"));
        return Ok(());
    }
    let Some((_, assign)) = KNOBS.iter().find(|(name, _)| *name == key) else {
        return Err(unknown(key, serve));
    };
    assign(args, &parsed(key, value)?);
    Ok(())
}

/// The flags of a command line that gives only this one.
fn parsed(key: &str, value: &str) -> Result<RunArgs, String> {
    let command = RunArgs::augment_args(Command::new("run").disable_help_flag(true));
    let is_switch = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key))
        .is_some_and(|arg| !arg.get_action().takes_values());
    let line = match (is_switch, value) {
        (false, _) => vec![format!("--{key}={value}")],
        (true, "true" | "on") => vec![format!("--{key}")],
        (true, "false" | "off") => vec![],
        (true, _) => return Err(format!("{key}={value}: expected on or off")),
    };
    let line = std::iter::once("run".to_owned()).chain(line);
    let matches = command.try_get_matches_from(line).map_err(|error| sentence(&error))?;
    RunArgs::from_arg_matches(&matches).map_err(|error| sentence(&error))
}

/// The first paragraph of a parser's error, without its label and line breaks.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().take_while(|line| !line.starts_with("For more"));
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

fn unknown(key: &str, serve: &ServeFlags) -> String {
    let broker = serve.names.iter().map(|name| format!("{BROKER}{name}"));
    let names: Vec<String> =
        KNOBS.iter().map(|(name, _)| (*name).to_owned()).chain(broker).collect();
    let like = |name: &String| strsim::jaro_winkler(key, name);
    let nearest = names.iter().max_by(|a, b| like(a).total_cmp(&like(b)));
    match nearest.filter(|name| like(name) >= LIKENESS_MIN) {
        Some(name) => format!("there is no knob {key:?}; did you mean {name:?}?"),
        None => format!("there is no knob {key:?}; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve() -> ServeFlags {
        ServeFlags {
            names: vec!["spin-us".to_owned(), "journal-bytes".to_owned()],
            check: |_| Ok(()),
        }
    }

    fn set_one(key: &str, value: &str) -> Result<RunArgs, String> {
        let mut args = RunArgs::defaults();
        set(&mut args, key, value, &serve()).map(|()| args)
    }

    #[test]
    fn every_flag_of_a_run_is_a_knob_or_is_known_not_to_be() {
        let command = RunArgs::augment_args(Command::new("run"));
        let names: Vec<&str> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for name in &names {
            let is_knob = KNOBS.iter().any(|(knob, _)| knob == name);
            assert!(is_knob != OTHERS.contains(name), "{name}");
        }
        assert_eq!(names.len(), KNOBS.len() + OTHERS.len());
    }

    #[test]
    fn each_knob_sets_what_it_names() {
        for (key, value) in [
            ("target", "pelton://h:1"),
            ("rate", "5"),
            ("acks", "none"),
            ("linger", "3ms"),
            ("batch", "7rec"),
            ("inflight", "3"),
            ("size", "200"),
            ("sizes", "uniform:100..200"),
            ("entropy", "0.5"),
            ("keys", "uniform:9"),
            ("producers", "4"),
            ("consumers", "5"),
            ("consume-rate", "9"),
            ("partitions", "6"),
            ("partitioner", "keyed"),
            ("route", "any"),
            ("pin", "none"),
            ("duration", "1s"),
            ("warmup", "1s"),
            ("busy-poll", "on"),
            ("anatomy", "on"),
            ("seed", "9"),
            ("preload", "1MiB"),
            ("beside-reader", "1MiB"),
            ("cold", "true"),
            ("fetch-path", "sendfile"),
            ("mode", "queue"),
            ("prefetch", "5"),
            ("ack-mode", "each"),
            ("nack-share", "0.5"),
            ("persistent-share", "0"),
            ("delivery-limit", "3"),
            ("backlog", "1000"),
            ("data-dir", "there"),
            ("broker-binary", "./pelton"),
        ] {
            let (before, after) = (RunArgs::defaults(), set_one(key, value).expect(key));
            assert_ne!(format!("{before:?}"), format!("{after:?}"), "{key}");
        }
        let args = set_one("broker.spin-us", "5").expect("a flag of serve");
        assert_eq!(args.broker_flags, ["spin-us=5"]);
    }

    #[test]
    fn wrong_names_and_values_are_told_with_the_right_ones() {
        let error = |key, value| set_one(key, value).expect_err("wrong");
        assert!(error("partition", "1").contains("did you mean \"partitions\"?"));
        assert!(error("broker.spin_us", "1").contains("did you mean \"broker.spin-us\"?"));
        assert!(error("json", "x").contains("no knob \"json\""));
        assert!(error("zzz", "1").contains("there are target, rate"));
        assert!(error("size", "39").contains("40 bytes"), "{}", error("size", "39"));
        assert!(error("acks", "all").contains("durable"), "{}", error("acks", "all"));
        assert!(error("cold", "5").contains("on or off"));
    }
}
