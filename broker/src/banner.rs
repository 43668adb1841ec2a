//! What a broker says when it comes up: what it found, and what it makes of it. Then the line
//! that programs wait for.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::device::{Calibration, Device};
use crate::io::uring::SyncMethod;

/// Everything the banner tells. `R` is the engine's report on recovery.
#[derive(Debug)]
pub struct Banner<'a, R> {
    /// What the backend says of itself: names and values.
    pub backend: &'a [(&'static str, String)],
    /// What the data directory stands on.
    pub device: &'a Device,
    /// How commits are made durable.
    pub calibration: &'a Calibration,
    /// By which method.
    pub sync: SyncMethod,
    /// Where the data is.
    pub data_dir: &'a Path,
    /// Knobs that were changed.
    pub knobs: &'a [String],
    /// All buffers of one shard.
    pub memory_bytes: u64,
    /// The CPU of each shard.
    pub cores: &'a [usize],
    /// The port of each shard, if they have their own.
    pub shard_ports: &'a [u16],
    /// What recovery found.
    pub recovery: &'a R,
    /// Where clients connect.
    pub address: SocketAddr,
}

impl<R: fmt::Display> Banner<'_, R> {
    /// Prints it, and that the broker is ready, on stderr.
    pub fn print(&self) {
        // A closed stderr must not keep a broker from serving.
        let _ = writeln!(std::io::stderr().lock(), "{self}ready listen={}", self.address);
    }
}

impl<R: fmt::Display> fmt::Display for Banner<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = rustix::system::uname();
        let kernel = kernel.release().to_string_lossy().into_owned();
        writeln!(f, "pelton {} on Linux {kernel}", env!("CARGO_PKG_VERSION"))?;
        for (name, value) in self.backend {
            writeln!(f, "  {name:<9} {value}")?;
        }
        let Device { file_system, alignment } = self.device;
        write!(f, "  data      {} on {file_system}", self.data_dir.display())?;
        match alignment {
            Some(0) => writeln!(
                f,
                ", without direct I/O (ext4 with data=journal?): all goes through the page cache, \
                 which is as durable, but slower"
            )?,
            Some(bytes) => writeln!(f, ", aligned to {bytes} bytes")?,
            None => writeln!(f, ", alignment unknown, 4096 bytes used")?,
        }
        let method = match self.sync {
            SyncMethod::Dsync => "RWF_DSYNC",
            SyncMethod::Fsync => "write and flush",
        };
        writeln!(f, "  commits   {method} ({})", self.calibration)?;
        if let Some(hint) = self.calibration.hint() {
            writeln!(f, "            {hint}")?;
        }
        if !self.knobs.is_empty() {
            writeln!(f, "  tuning    {}", self.knobs.join(", "))?;
        }
        self.shards(f)?;
        writeln!(f, "  recovery  {}", self.recovery)
    }
}

impl<R> Banner<'_, R> {
    fn shards(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shards, mib) = (self.cores.len(), self.memory_bytes >> 20);
        let [core] = self.cores else {
            let total = u64::try_from(shards).unwrap_or(u64::MAX).saturating_mul(mib);
            writeln!(f, "  memory    {total} MiB, {mib} MiB for each shard")?;
            writeln!(f, "  shards    {shards}, on CPUs {}", list(self.cores))?;
            let mut cpus = self.cores.to_vec();
            cpus.sort_unstable();
            cpus.dedup();
            if cpus.len() < shards {
                let cpus = cpus.len();
                writeln!(
                    f,
                    "            more than the {cpus} CPUs they run on, so they hold each other \
                     up: start fewer shards, or give them more CPUs"
                )?;
            }
            return self.ports(f);
        };
        writeln!(f, "  memory    {mib} MiB")?;
        writeln!(f, "  shards    1, on CPU {core}")?;
        self.ports(f)
    }

    fn ports(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shard_ports.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "  ports     {} for all shards, then {}",
            self.address.port(),
            list(self.shard_ports)
        )
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_says_what_was_found_and_what_to_do() {
        let us = Duration::from_micros;
        let banner = Banner {
            backend: &[("io", "uring".to_owned()), ("buffers", "registered".to_owned())],
            device: &Device { file_system: "ext4", alignment: Some(512) },
            calibration: &Calibration { dsync: us(200), flush: us(100) },
            sync: SyncMethod::Fsync,
            data_dir: Path::new("/data"),
            knobs: &["read-bytes 4096".to_owned()],
            memory_bytes: 256 << 20,
            cores: &[1],
            shard_ports: &[],
            recovery: &"boot epoch 1",
            address: SocketAddr::from(([127, 0, 0, 1], 9600)),
        };
        let text = banner.to_string();
        for part in [
            "on Linux",
            "  io        uring\n",
            "  buffers   registered\n",
            "/data on ext4, aligned to 512 bytes",
            "200 µs",
            "commits   write and flush",
            "read-bytes 4096",
            "256 MiB",
            "CPU 1",
            "boot epoch 1",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("ports") && !text.contains("each shard"), "{text}");
        let crowded = Banner { cores: &[1, 0, 1], shard_ports: &[9601, 9602, 9603], ..banner };
        let text = crowded.to_string();
        for part in [
            "768 MiB, 256 MiB for each shard",
            "3, on CPUs 1, 0, 1",
            "more than the 2 CPUs",
            "9600 for all shards, then 9601, 9602, 9603",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!Banner { cores: &[0, 1], ..crowded }.to_string().contains("fewer shards"));
    }
}
