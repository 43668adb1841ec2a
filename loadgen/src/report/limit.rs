//! What binds a run: the best that this machine could do for such a load, and how near it came.

use super::Run;

/// The limit that binds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The median latency cannot be below this.
    P50Ns(u64),
    /// No more value bytes can move.
    BytesPerS(u64),
}

impl Limit {
    /// The limit of `run`; none where its floor was not measured.
    ///
    /// Single records with one in flight, and loads at a fixed rate, are bound by latency: an
    /// echo, and for written and durable records a disk write. Everything else is bound by the
    /// slower of the stream and the disk.
    #[must_use]
    pub fn of(run: &Run) -> Option<Self> {
        let floor = &run.floor;
        let options = &run.options;
        let consumes_alone =
            run.load.acked_records.is_none() && run.load.consumed_records.is_some();
        let single = options.batch_records == Some(1) && options.inflight == 1;
        if !consumes_alone && (single || !options.closed_loop) {
            let disk = match run.durability.acks.as_str() {
                "durable" => floor.durable_write_p50_ns(),
                "written" => floor.write_p50_ns(),
                _ => Some(0),
            };
            return disk.zip(floor.echo_p50_ns()).map(|(disk, echo)| Self::P50Ns(disk + echo));
        }
        let disk = match run.durability.acks.as_str() {
            // What is read again and again may come from memory; only a cold read must come
            // from the disk.
            _ if consumes_alone && options.cold => floor.disk_read_bytes_per_s,
            _ if consumes_alone => Some(u64::MAX),
            "durable" => floor.disk_durable_write_bytes_per_s,
            "written" => floor.disk_write_bytes_per_s,
            _ => Some(u64::MAX),
        };
        let stream = floor.loopback_bytes_per_s;
        disk.zip(stream).map(|(disk, stream)| Self::BytesPerS(disk.min(stream)))
    }

    /// The bare figure, without its unit.
    #[must_use]
    pub fn figure(self) -> u64 {
        match self {
            Self::P50Ns(figure) | Self::BytesPerS(figure) => figure,
        }
    }

    /// What `run` reached, as hundredths of this limit: a rate at best 100, a latency at best 100
    /// and more the slower it is.
    #[must_use]
    pub fn hundredths(self, run: &Run) -> Option<u64> {
        let reached = match self {
            Self::P50Ns(_) => run.latency_ns.response.as_ref()?.p50?,
            Self::BytesPerS(_) => run.load.bytes_per_s?,
        };
        let ratio = u128::from(reached) * 100 / u128::from(self.figure()).max(1);
        u64::try_from(ratio).ok()
    }
}

/// A ratio in hundredths as text.
pub(crate) fn ratio_text(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
