//! Knobs that change how fast a broker is and never what it promises. `docs/TUNING.md` says when
//! each helps, with what was measured.

use engine::settings::Settings;

pub use engine::settings::FetchPath;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The knobs. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// Where fetches get what they ask for.
    pub fetch_path: FetchPath,
    /// Bytes read from disk at once for a fetch.
    pub read_bytes: u64,
    /// Bytes read ahead of a sequential reader; 0: none.
    pub read_ahead_bytes: u64,
    /// Disk reads of one shard's fetches that may be under way at once.
    pub reads_in_flight: u32,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            fetch_path: FetchPath::Auto,
            read_bytes: 256 * KIB,
            read_ahead_bytes: 2 * MIB,
            reads_in_flight: 16,
        }
    }
}

impl Tuning {
    /// Name, value, least and greatest of each knob that is a number.
    pub(crate) fn bounds(&self) -> [(&'static str, u64, u64, u64); 3] {
        [
            ("read-bytes", self.read_bytes, 4 * KIB, 2 * MIB),
            ("read-ahead-bytes", self.read_ahead_bytes, 0, 64 * MIB),
            ("reads-in-flight", u64::from(self.reads_in_flight), 1, 256),
        ]
    }

    /// Name and value of every knob, as its flag has them.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let numbers = self.bounds().map(|(name, value, ..)| (name, value.to_string()));
        let words = [("fetch-path", self.fetch_path.name().to_owned())];
        words.into_iter().chain(numbers).collect()
    }

    /// What a shard makes of them.
    pub(crate) fn apply(&self, settings: &mut Settings) {
        let bytes = |value: u64| usize::try_from(value).expect("bounded");
        settings.fetch_path = self.fetch_path;
        settings.read_bytes = bytes(self.read_bytes);
        settings.read_ahead_bytes = bytes(self.read_ahead_bytes);
        settings.reads_in_flight_max = bytes(u64::from(self.reads_in_flight));
    }
}
