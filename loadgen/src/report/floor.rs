//! The machine's limits as they stand in results.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::floor::{DiskOperation, Floor};
use crate::latency::Latencies;

/// Two percentiles of a limit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are named after what they hold")]
pub struct Percentiles {
    pub p50: Option<u64>,
    pub p99: Option<u64>,
    pub count: u64,
}

/// The best cell of a disk operation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DiskCell {
    /// Bytes of each operation.
    pub size_bytes: u64,
    /// Operations in flight.
    pub depth: u32,
}

/// The limits of the machine. All null where they were not asked for or could not be measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct FloorFigures {
    /// 4 KiB `RWF_DSYNC` write at depth 1.
    pub durable_write_ns: Option<Percentiles>,
    /// 4 KiB plain O_DIRECT write at depth 1.
    pub write_ns: Option<Percentiles>,
    /// 128-byte loopback round trip.
    pub echo_rtt_ns: Option<Percentiles>,
    /// Best plain O_DIRECT write bandwidth.
    pub disk_write_bytes_per_s: Option<u64>,
    /// Best `RWF_DSYNC` write bandwidth.
    pub disk_durable_write_bytes_per_s: Option<u64>,
    /// Best O_DIRECT read bandwidth.
    pub disk_read_bytes_per_s: Option<u64>,
    /// How late a thread on the generator's core was that only looked at the clock, for 200,000
    /// moments a second: no schedule is kept better.
    #[serde(default)]
    pub clock_lateness_ns: Option<Percentiles>,
    /// One loopback TCP stream.
    pub loopback_bytes_per_s: Option<u64>,
    /// Where the plain write bandwidth was reached.
    pub disk_write_cell: Option<DiskCell>,
    /// Where the durable write bandwidth was reached.
    pub disk_durable_write_cell: Option<DiskCell>,
    /// Where the read bandwidth was reached.
    pub disk_read_cell: Option<DiskCell>,
}

impl FloorFigures {
    /// What `floor` has gathered so far.
    #[must_use]
    pub fn of(floor: &Floor) -> Self {
        let percentiles = |latencies: &Latencies| Percentiles {
            p50: latencies.p50(),
            p99: latencies.p99(),
            count: latencies.count(),
        };
        let rate = |operation| floor.disk(operation).map(|(_, rate)| rate);
        let cell = |operation| {
            floor.disk(operation).map(|(cell, _)| DiskCell {
                size_bytes: cell.size as u64,
                depth: u32::from(cell.depth),
            })
        };
        Self {
            durable_write_ns: floor.durable_write().map(percentiles),
            write_ns: floor.plain_write().map(percentiles),
            echo_rtt_ns: floor.echo().map(percentiles),
            disk_write_bytes_per_s: rate(DiskOperation::Write),
            disk_durable_write_bytes_per_s: rate(DiskOperation::DurableWrite),
            disk_read_bytes_per_s: rate(DiskOperation::Read),
            clock_lateness_ns: floor.lateness().map(percentiles),
            loopback_bytes_per_s: floor.loopback_bytes_per_s(),
            disk_write_cell: cell(DiskOperation::Write),
            disk_durable_write_cell: cell(DiskOperation::DurableWrite),
            disk_read_cell: cell(DiskOperation::Read),
        }
    }

    /// The median of the durable write, if measured.
    #[must_use]
    pub fn durable_write_p50_ns(&self) -> Option<u64> {
        self.durable_write_ns.as_ref().and_then(|percentiles| percentiles.p50)
    }

    /// The median of the plain write, if measured.
    #[must_use]
    pub fn write_p50_ns(&self) -> Option<u64> {
        self.write_ns.as_ref().and_then(|percentiles| percentiles.p50)
    }

    /// The median of the echo, if measured.
    #[must_use]
    pub fn echo_p50_ns(&self) -> Option<u64> {
        self.echo_rtt_ns.as_ref().and_then(|percentiles| percentiles.p50)
    }
}
