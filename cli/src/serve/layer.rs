//! What one source (flags and environment, or a file) says about the configuration.

use std::path::PathBuf;
use std::time::Duration;

use broker::backend::Backend;
use broker::config::Config;
use broker::listen::ShardPorts;
use clap::Args;

use super::tuning::TuningLayer;
use crate::size;

/// Settings that may be given or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Layer {
    /// Where everything that must last is kept [default: pelton-data]
    #[arg(long, env = "PELTON_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:9600]
    #[arg(long, env = "PELTON_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The host that clients are told to connect to [default: that of --listen]
    #[arg(long, env = "PELTON_ADVERTISED_HOST", value_name = "HOST")]
    advertised_host: Option<String>,
    /// Listen where other machines can reach it, though nobody is authenticated
    #[arg(
        long,
        env = "PELTON_INSECURE_BIND",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "true|false"
    )]
    insecure_bind: Option<bool>,
    /// What runs input and output: our io_uring loop, or a glommio executor [default: uring]
    #[arg(long, env = "PELTON_IO", value_name = "uring|glommio")]
    io: Option<Backend>,
    /// CPUs to run shards on, as in 0 or 0,2-3 [default: those allowed]
    #[arg(long, env = "PELTON_CORES", value_name = "LIST", value_parser = cores)]
    cores: Option<Cores>,
    /// Shards, each a thread with its own part of the data, on the CPUs of --cores in turn
    /// [default: as many as --cores names, or 1]
    #[arg(long, env = "PELTON_SHARDS", value_name = "N")]
    shards: Option<u16>,
    /// Whether each shard listens on a port of its own behind that of --listen, besides the
    /// shared one [default: off]
    #[arg(long, env = "PELTON_SHARD_PORTS", value_name = "on|off")]
    shard_ports: Option<ShardPorts>,
    /// How long a shard looks for more work after traffic before it parks, in µs or with a unit
    /// [default: 50]
    #[arg(long, env = "PELTON_SPIN_US", value_name = "US", value_parser = microseconds)]
    spin_us: Option<u64>,
    /// Write zeros into this much segment space before being ready [default: 0]
    #[arg(
        long,
        alias = "prepare-bytes",
        env = "PELTON_PREPARE",
        value_name = "BYTES",
        value_parser = size::bytes
    )]
    prepare: Option<u64>,
    /// Space of each shard that retired segments keep for the next ones; 0 deletes them
    /// [default: 1GiB]
    #[arg(long, env = "PELTON_RECYCLE_BYTES", value_name = "BYTES", value_parser = size::bytes)]
    recycle_bytes: Option<u64>,
    /// Bytes of sealed segments that are read per second, to see that they are whole; 0 reads none
    /// [default: 4MiB]
    #[arg(long, env = "PELTON_SCRUB_RATE", value_name = "BYTES", value_parser = size::bytes)]
    scrub_rate: Option<u64>,
    /// While fewer bytes are free on the device, producing is refused: what was taken in before,
    /// deleting, and the next start may need them [default: 256MiB]
    #[arg(long, env = "PELTON_FREE_BYTES_MIN", value_name = "BYTES", value_parser = size::bytes)]
    free_bytes_min: Option<u64>,
    /// Size of each shard's journal [default: 128MiB]
    #[arg(long, env = "PELTON_JOURNAL_BYTES", value_name = "BYTES", value_parser = size::bytes)]
    journal_bytes: Option<u64>,
    /// Size at which a new segment is begun [default: 256MiB]
    #[arg(long, env = "PELTON_SEGMENT_BYTES", value_name = "BYTES", value_parser = size::bytes)]
    segment_bytes: Option<u64>,
    /// Memory of each shard's buffers [default: 256MiB]
    #[arg(long, env = "PELTON_MEMORY_BYTES", value_name = "BYTES", value_parser = size::bytes)]
    memory_bytes: Option<u64>,
    /// Most connections of each shard at a time [default: 16384]
    #[arg(long, env = "PELTON_CONNECTIONS_MAX", value_name = "N")]
    connections_max: Option<u32>,
    /// Journal writes of each shard that may be under way at once [default: 4]
    #[arg(long, env = "PELTON_COMMITS_IN_FLIGHT", value_name = "N")]
    commits_in_flight: Option<u32>,
    /// What a partition gathers at this size goes straight to its segment [default: 192KiB]
    #[arg(
        long,
        env = "PELTON_DIRECT_RUN_BYTES_MIN",
        value_name = "BYTES",
        value_parser = size::bytes
    )]
    direct_run_bytes_min: Option<u64>,
    #[command(flatten)]
    tuning: TuningLayer,
}

/// CPU numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

impl Layer {
    /// Every key, as a file spells it; a flag has dashes instead.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        Layer::OWN_KEYS.into_iter().chain(TuningLayer::KEYS)
    }

    const OWN_KEYS: [&'static str; 19] = [
        "data_dir",
        "listen",
        "advertised_host",
        "insecure_bind",
        "io",
        "cores",
        "shards",
        "shard_ports",
        "spin_us",
        "prepare",
        "recycle_bytes",
        "scrub_rate",
        "free_bytes_min",
        "journal_bytes",
        "segment_bytes",
        "memory_bytes",
        "connections_max",
        "commits_in_flight",
        "direct_run_bytes_min",
    ];

    /// Sets one of [`Layer::keys`] from text, by the same rules as its flag.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "data_dir" => self.data_dir = Some(PathBuf::from(text)),
            "listen" => self.listen = Some(text.to_owned()),
            "advertised_host" => self.advertised_host = Some(text.to_owned()),
            "insecure_bind" => self.insecure_bind = Some(parsed(text, "true or false")?),
            "io" => self.io = Some(text.parse()?),
            "cores" => self.cores = Some(cores(text)?),
            "shards" => self.shards = Some(parsed(text, "a number")?),
            "shard_ports" => self.shard_ports = Some(text.parse()?),
            "spin_us" => self.spin_us = Some(microseconds(text)?),
            "prepare" => self.prepare = Some(size::bytes(text)?),
            "recycle_bytes" => self.recycle_bytes = Some(size::bytes(text)?),
            "scrub_rate" => self.scrub_rate = Some(size::bytes(text)?),
            "free_bytes_min" => self.free_bytes_min = Some(size::bytes(text)?),
            "journal_bytes" => self.journal_bytes = Some(size::bytes(text)?),
            "segment_bytes" => self.segment_bytes = Some(size::bytes(text)?),
            "memory_bytes" => self.memory_bytes = Some(size::bytes(text)?),
            "connections_max" => self.connections_max = Some(parsed(text, "a number")?),
            "commits_in_flight" => self.commits_in_flight = Some(parsed(text, "a number")?),
            "direct_run_bytes_min" => self.direct_run_bytes_min = Some(size::bytes(text)?),
            _ => self.tuning.set(key, text)?,
        }
        Ok(())
    }

    /// Puts what is given here over `config`.
    pub fn apply(self, config: &mut Config) {
        put(&mut config.data_dir, self.data_dir);
        put(&mut config.listen, self.listen);
        put(&mut config.advertised_host, self.advertised_host.map(Some));
        put(&mut config.insecure_bind, self.insecure_bind);
        put(&mut config.io, self.io);
        put(&mut config.cores, self.cores.map(|cores| cores.0));
        put(&mut config.shards, self.shards.map(Some));
        put(&mut config.shard_ports, self.shard_ports);
        put(&mut config.spin_us, self.spin_us);
        put(&mut config.prepare_bytes, self.prepare);
        put(&mut config.recycle_bytes, self.recycle_bytes);
        put(&mut config.scrub_rate, self.scrub_rate);
        put(&mut config.free_bytes_min, self.free_bytes_min);
        put(&mut config.journal_bytes, self.journal_bytes);
        put(&mut config.segment_bytes, self.segment_bytes);
        put(&mut config.memory_bytes, self.memory_bytes);
        put(&mut config.connections_max, self.connections_max);
        put(&mut config.commits_in_flight, self.commits_in_flight);
        put(&mut config.direct_run_bytes_min, self.direct_run_bytes_min);
        self.tuning.apply(&mut config.tuning);
    }
}

/// Replaces what is there if something was given.
pub fn put<T>(target: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *target = value;
    }
}

/// What the text says, or what was expected.
pub fn parsed<T: std::str::FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not {expected}"))
}

/// Microseconds as a plain number, or a duration with its unit.
fn microseconds(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let duration: Duration = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is no time: expected e.g. 20, 20us or 1ms"))?;
    u64::try_from(duration.as_micros()).map_err(|_| String::from("that is too long"))
}

/// Most entries of a list of CPUs: more than any machine has.
const CORES_MAX: usize = 1 << 16;

/// CPU numbers and ranges, as in `0,2-3`.
fn cores(text: &str) -> Result<Cores, String> {
    let wrong = || format!("{text:?} is no list of CPUs: expected e.g. 0 or 0,2-3");
    let mut list = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = first.trim().parse().map_err(|_| wrong())?;
        let last: u16 = last.trim().parse().map_err(|_| wrong())?;
        list.extend((first..=last).map(usize::from));
        if list.len() > CORES_MAX {
            return Err(format!("that is a list of more than {CORES_MAX} CPUs: name each once"));
        }
    }
    if list.is_empty() { Err(wrong()) } else { Ok(Cores(list)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        layer: Layer,
    }

    #[test]
    fn every_key_is_a_flag_and_an_environment_variable() {
        let command = Line::command();
        for key in Layer::keys() {
            let arg = command.get_arguments().find(|arg| arg.get_id() == key).expect(key);
            assert_eq!(arg.get_long().expect(key), key.replace('_', "-"));
            let variable = arg.get_env().and_then(std::ffi::OsStr::to_str).expect(key);
            assert_eq!(variable, format!("PELTON_{}", key.to_uppercase()));
            let mut layer = Layer::default();
            let text = match key {
                "insecure_bind" => "true",
                "shard_ports" => "on",
                "fetch_path" => "direct",
                "registered_buffers" | "multishot" => "off",
                "sync_method" => "fsync",
                "io" => "glommio",
                _ => "1",
            };
            layer.set(key, text).expect(key);
            assert_ne!(layer, Layer::default(), "{key}");
            let mut config = Config::default();
            layer.apply(&mut config);
            assert_ne!(config, Config::default(), "{key}");
        }
        assert_eq!(command.get_arguments().count(), Layer::keys().count());
    }

    #[test]
    fn values_have_units() {
        let line = "serve --prepare=1GiB --spin-us=1ms --cores=0,2-3 --insecure-bind";
        let parsed = Line::try_parse_from(line.split(' ')).expect("good").layer;
        let mut config = Config::default();
        parsed.apply(&mut config);
        assert_eq!((config.prepare_bytes, config.spin_us), (1 << 30, 1000));
        assert_eq!(config.cores, [0, 2, 3]);
        assert!(config.insecure_bind);
        for bad in [
            "--cores=0-65535,0",
            "--cores=x",
            "--cores=",
            "--cores=3-1",
            "--spin-us=soon",
            "--prepare=1XB",
        ] {
            assert!(Line::try_parse_from(["serve", bad]).is_err(), "{bad}");
        }
    }
}
