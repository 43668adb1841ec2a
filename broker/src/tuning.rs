//! Knobs that change how fast a broker is and never what it promises. `docs/TUNING.md` says when
//! each helps, with what was measured.

use engine::settings::Settings;

use crate::device::Calibration;
use crate::io::uring::{SyncMethod, Ways};

pub use crate::io::uring::{Buffers, Receive};
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
    /// Whether the buffer memory is registered with the kernel.
    pub registered_buffers: Buffers,
    /// How small frames are received.
    pub multishot: Receive,
    /// How commits are made durable.
    pub sync_method: SyncChoice,
}

/// How commits are made durable: by what, or by what was faster when the broker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncChoice {
    /// What the calibration found to be faster.
    #[default]
    Auto,
    /// One write with `RWF_DSYNC`.
    Dsync,
    /// A plain write, then a flush.
    Fsync,
}

impl SyncChoice {
    /// Every choice.
    pub const ALL: [SyncChoice; 3] = [SyncChoice::Auto, SyncChoice::Dsync, SyncChoice::Fsync];

    /// Its name, as flags have it.
    pub const fn name(self) -> &'static str {
        match self {
            SyncChoice::Auto => "auto",
            SyncChoice::Dsync => "dsync",
            SyncChoice::Fsync => "fsync",
        }
    }
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            fetch_path: FetchPath::Auto,
            read_bytes: 256 * KIB,
            read_ahead_bytes: 2 * MIB,
            reads_in_flight: 16,
            registered_buffers: Buffers::Registered,
            multishot: Receive::Multishot,
            sync_method: SyncChoice::Auto,
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
        let on_off = |is_on| if is_on { "on" } else { "off" };
        let words = [
            ("fetch-path", self.fetch_path.name()),
            ("registered-buffers", on_off(self.registered_buffers == Buffers::Registered)),
            ("multishot", on_off(self.multishot == Receive::Multishot)),
            ("sync-method", self.sync_method.name()),
        ];
        let words = words.map(|(name, word)| (name, word.to_owned()));
        words.into_iter().chain(numbers).collect()
    }

    /// Whether a knob of the ring was changed.
    pub(crate) fn has_ring_knobs(&self) -> bool {
        let usual = Tuning::default();
        self.registered_buffers != usual.registered_buffers
            || self.multishot != usual.multishot
            || self.sync_method != usual.sync_method
    }

    /// How a ring uses the kernel, on a device that was measured.
    pub(crate) fn ways(&self, calibration: &Calibration) -> Ways {
        let sync = match self.sync_method {
            SyncChoice::Auto => calibration.faster(),
            SyncChoice::Dsync => SyncMethod::Dsync,
            SyncChoice::Fsync => SyncMethod::Fsync,
        };
        Ways { buffers: self.registered_buffers, receive: self.multishot, sync }
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
