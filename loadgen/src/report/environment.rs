//! The fingerprint of the machine that measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// What a figure depends on besides the code. Null is unknown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Kernel release.
    pub kernel: Option<String>,
    /// Machine architecture.
    pub architecture: String,
    /// Model name of the first CPU.
    pub cpu_model: Option<String>,
    /// CPUs that this process may use.
    pub cores: Option<usize>,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// File system of the data directory.
    pub file_system: Option<String>,
    /// Block device under it.
    pub device: Option<String>,
    /// "write back" or "write through".
    pub device_write_cache: Option<String>,
    /// Whether the device has forced unit access.
    pub device_fua: Option<bool>,
    /// 1 / `CONFIG_HZ`.
    pub scheduler_tick_ns: u64,
    /// Locked memory that an unprivileged process may have.
    pub locked_memory_bytes_max: Option<u64>,
}

impl Environment {
    /// Reads it from the kernel; `dir` is the data directory, where one is known.
    #[must_use]
    pub fn read(dir: Option<&Path>) -> Self {
        let mount = dir.and_then(Mount::of);
        let queue = mount.as_ref().and_then(|mount| {
            // A partition has its queue in the directory of its whole device, one up.
            let block = fs::canonicalize(format!("/sys/dev/block/{}", mount.device_number)).ok()?;
            let own = block.join("queue");
            if own.exists() { Some(own) } else { Some(block.parent()?.join("queue")) }
        });
        let attribute = |name: &str| queue.as_ref().and_then(|queue| line_of(&queue.join(name)));
        let system = rustix::system::uname();
        Self {
            kernel: Some(system.release().to_string_lossy().into_owned()),
            architecture: system.machine().to_string_lossy().into_owned(),
            cpu_model: field_of("/proc/cpuinfo", "model name"),
            cores: crate::cores::allowed().ok().map(|cores| cores.len()),
            memory_bytes: field_of("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)),
            file_system: mount.as_ref().map(|mount| mount.file_system.clone()),
            device: mount.as_ref().map(|mount| mount.source.clone()),
            device_write_cache: attribute("write_cache"),
            device_fua: attribute("fua").map(|flag| flag != "0"),
            scheduler_tick_ns: crate::clock::tick_ns(),
            locked_memory_bytes_max: rustix::process::getrlimit(rustix::process::Resource::Memlock)
                .current,
        }
    }

    /// Whether the data directory is on a file system that lives in memory.
    #[must_use]
    pub fn memory_file_system(&self) -> Option<bool> {
        self.file_system.as_deref().map(|name| matches!(name, "tmpfs" | "ramfs" | "devtmpfs"))
    }
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: String,
    device_number: String,
    file_system: String,
    source: String,
}

impl Mount {
    /// The mount that holds `path`.
    fn of(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
        // A later mount hides an earlier one at the same point, hence the last of the longest.
        table
            .lines()
            .filter_map(Self::parse)
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.len())
    }

    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let device_number = place.next()?.to_owned();
        let point = place.nth(1)?.to_owned();
        let mut kind = kind.split(' ');
        let file_system = kind.next()?.to_owned();
        Some(Self { point, device_number, file_system, source: kind.next()?.to_owned() })
    }
}

fn line_of(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The value of the first `name: value` line of a kernel table.
fn field_of(path: &str, name: &str) -> Option<String> {
    let table = fs::read_to_string(path).ok()?;
    table.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|number| number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::read(Some(Path::new("/proc")));
        assert_eq!(environment.file_system.as_deref(), Some("proc"));
        assert!(environment.kernel.is_some() && environment.memory_bytes > Some(1 << 20));
        assert!(environment.cores > Some(0));
    }

    #[test]
    fn mount_lines_with_and_without_optional_fields() {
        let line = "36 35 98:0 / /mnt2 rw,noatime master:1 - ext4 /dev/root rw";
        let mount = Mount::parse(line).expect("a good line");
        assert_eq!((mount.point.as_str(), mount.device_number.as_str()), ("/mnt2", "98:0"));
        assert_eq!((mount.file_system.as_str(), mount.source.as_str()), ("ext4", "/dev/root"));
        assert!(Mount::parse("36 35 98:0 / / rw - ext4 /dev/root rw").is_some());
        assert_eq!(Mount::parse("nonsense"), None);
    }
}
