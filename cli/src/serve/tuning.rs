//! What one source says about the knobs of `docs/TUNING.md`.

use broker::tuning::{FetchPath, Tuning};
use clap::Args;

use super::layer::{parsed, put};
use crate::size;

/// Knobs that may be given or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TuningLayer {
    /// Where fetches get what they ask for: what is in memory from there and the rest by direct
    /// reads (memory), or all that is stored from the device (direct) [default: auto]
    #[arg(long, env = "PELTON_FETCH_PATH", value_name = "PATH", value_parser = fetch_path)]
    fetch_path: Option<FetchPath>,
    /// Bytes read from disk at once for a fetch [default: 256KiB]
    #[arg(long, env = "PELTON_READ_BYTES", value_name = "BYTES", value_parser = size::bytes)]
    read_bytes: Option<u64>,
    /// Bytes read ahead of a sequential reader; 0 for none [default: 2MiB]
    #[arg(long, env = "PELTON_READ_AHEAD_BYTES", value_name = "BYTES", value_parser = size::bytes)]
    read_ahead_bytes: Option<u64>,
    /// Disk reads for fetches that may be under way at once [default: 16]
    #[arg(long, env = "PELTON_READS_IN_FLIGHT", value_name = "N")]
    reads_in_flight: Option<u32>,
}

impl TuningLayer {
    /// Every key, as a file spells it.
    pub const KEYS: [&'static str; 4] =
        ["fetch_path", "read_bytes", "read_ahead_bytes", "reads_in_flight"];

    /// Sets one of the keys from text, by the same rules as its flag.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "fetch_path" => self.fetch_path = Some(fetch_path(text)?),
            "read_bytes" => self.read_bytes = Some(size::bytes(text)?),
            "read_ahead_bytes" => self.read_ahead_bytes = Some(size::bytes(text)?),
            "reads_in_flight" => self.reads_in_flight = Some(parsed(text, "a number")?),
            _ => return Err(String::from("there is no such key")),
        }
        Ok(())
    }

    /// Puts what is given here over `tuning`.
    pub fn apply(self, tuning: &mut Tuning) {
        put(&mut tuning.fetch_path, self.fetch_path);
        put(&mut tuning.read_bytes, self.read_bytes);
        put(&mut tuning.read_ahead_bytes, self.read_ahead_bytes);
        put(&mut tuning.reads_in_flight, self.reads_in_flight);
    }
}

fn fetch_path(text: &str) -> Result<FetchPath, String> {
    let found = FetchPath::ALL.into_iter().find(|path| path.name() == text);
    let names = || FetchPath::ALL.map(FetchPath::name).join(", ");
    found.ok_or_else(|| format!("{text:?} is no fetch path: there are {}", names()))
}
