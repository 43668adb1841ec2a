//! What one source says about the knobs of `docs/TUNING.md`.

use broker::tuning::{Buffers, FetchPath, Receive, SyncChoice, Tuning};
use clap::Args;

use super::layer::{parsed, put};
use crate::size;

/// Knobs that may be given or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TuningLayer {
    /// Where fetches get what they ask for: what is in memory from there and the rest by direct
    /// reads (memory), all that is stored from the device (direct), or sealed segments out of the
    /// page cache (sendfile) [default: auto]
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
    /// Whether the buffer memory is registered with the kernel [default: on]
    #[arg(long, env = "PELTON_REGISTERED_BUFFERS", value_name = "on|off", value_parser = buffers)]
    registered_buffers: Option<Buffers>,
    /// Whether one receive operation brings many buffers [default: on]
    #[arg(long, env = "PELTON_MULTISHOT", value_name = "on|off", value_parser = multishot)]
    multishot: Option<Receive>,
    /// How commits are made durable: by one write (dsync), a write and a flush (fsync), or what
    /// was faster at start (auto) [default: auto]
    #[arg(long, env = "PELTON_SYNC_METHOD", value_name = "METHOD", value_parser = sync_method)]
    sync_method: Option<SyncChoice>,
}

impl TuningLayer {
    /// Every key, as a file spells it.
    pub const KEYS: [&'static str; 7] = [
        "fetch_path",
        "read_bytes",
        "read_ahead_bytes",
        "reads_in_flight",
        "registered_buffers",
        "multishot",
        "sync_method",
    ];

    /// Sets one of the keys from text, by the same rules as its flag.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "fetch_path" => self.fetch_path = Some(fetch_path(text)?),
            "read_bytes" => self.read_bytes = Some(size::bytes(text)?),
            "read_ahead_bytes" => self.read_ahead_bytes = Some(size::bytes(text)?),
            "reads_in_flight" => self.reads_in_flight = Some(parsed(text, "a number")?),
            "registered_buffers" => self.registered_buffers = Some(buffers(text)?),
            "multishot" => self.multishot = Some(multishot(text)?),
            "sync_method" => self.sync_method = Some(sync_method(text)?),
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
        put(&mut tuning.registered_buffers, self.registered_buffers);
        put(&mut tuning.multishot, self.multishot);
        put(&mut tuning.sync_method, self.sync_method);
    }
}

fn fetch_path(text: &str) -> Result<FetchPath, String> {
    let found = FetchPath::ALL.into_iter().find(|path| path.name() == text);
    let names = || FetchPath::ALL.map(FetchPath::name).join(", ");
    found.ok_or_else(|| format!("{text:?} is no fetch path: there are {}", names()))
}

fn sync_method(text: &str) -> Result<SyncChoice, String> {
    let found = SyncChoice::ALL.into_iter().find(|choice| choice.name() == text);
    let names = || SyncChoice::ALL.map(SyncChoice::name).join(", ");
    found.ok_or_else(|| format!("{text:?} is no sync method: there are {}", names()))
}

fn buffers(text: &str) -> Result<Buffers, String> {
    one_of(text, Buffers::Registered, Buffers::Plain)
}

fn multishot(text: &str) -> Result<Receive, String> {
    one_of(text, Receive::Multishot, Receive::Single)
}

fn one_of<T>(text: &str, on: T, off: T) -> Result<T, String> {
    match text {
        "on" => Ok(on),
        "off" => Ok(off),
        _ => Err(format!("{text:?} is neither on nor off")),
    }
}
