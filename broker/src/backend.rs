//! Which backend a broker runs on, and what the process asks of any of them besides the contract
//! of [`Io`].

use std::fmt;
use std::io;
use std::str::FromStr;

use engine::counters::IoCounters;

use crate::io::Io;
use crate::io::uring::{Registration, Uring};

/// A backend by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The broker's own io_uring loop.
    #[default]
    Uring,
    /// The same contract over a glommio executor, for one shard.
    Glommio,
}

impl Backend {
    /// Why this build has no such backend: one sentence with the fix.
    pub const fn missing(self) -> Option<&'static str> {
        match self {
            Backend::Glommio if !cfg!(feature = "glommio") => Some(
                "this program was built without glommio: use --io uring, or build it with the \
                 feature glommio",
            ),
            Backend::Uring | Backend::Glommio => None,
        }
    }

    /// Descriptors of the process that an open file takes.
    pub const fn descriptors_per_file(self) -> usize {
        match self {
            Backend::Uring => 1,
            Backend::Glommio => 3,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Uring => "uring",
            Backend::Glommio => "glommio",
        })
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Backend, String> {
        match text {
            "uring" => Ok(Backend::Uring),
            "glommio" => Ok(Backend::Glommio),
            _ => Err(format!("{text:?} is no backend: expected uring or glommio")),
        }
    }
}

/// A backend that tells about itself.
pub trait Reporting: Io {
    /// What it is and what it found, for the banner: names and values.
    fn describe(&self) -> Vec<(&'static str, String)>;
    /// What it counted; what is not a backend's to count is 0.
    fn count(&self) -> IoCounters;
    /// Makes every other shard of the process come back from its wait.
    fn call_peers(&mut self) -> io::Result<()>;
}

impl Reporting for Uring {
    fn describe(&self) -> Vec<(&'static str, String)> {
        let features = self.features();
        let buffers = match features.buffers {
            Registration::Registered => "registered".to_owned(),
            Registration::Refused(errno) => unregistered(errno),
            Registration::Off => "not registered, as asked".to_owned(),
        };
        vec![
            ("io", Backend::Uring.to_string()),
            ("ring", features.to_string()),
            ("buffers", buffers),
        ]
    }

    fn count(&self) -> IoCounters {
        let ring = self.counters();
        IoCounters {
            kernel_entries: ring.enters,
            operations_submitted: ring.submissions,
            bytes_zeroed: ring.bytes_zeroed,
            buffers_registered: match self.features().buffers {
                Registration::Registered => 1,
                Registration::Refused(_) | Registration::Off => 0,
            },
            doorbells_rung: ring.mesh.doorbells,
            mesh_bytes_received: ring.mesh.bytes_received,
            ..IoCounters::default()
        }
    }

    fn call_peers(&mut self) -> io::Result<()> {
        Uring::call_peers(self)
    }
}

fn unregistered(errno: i32) -> String {
    format!("not registered (errno {errno}): slower; raise the limit on locked memory (ulimit -l)")
}

#[cfg(feature = "glommio")]
impl Reporting for crate::io::glommio::Glommio {
    fn describe(&self) -> Vec<(&'static str, String)> {
        let mib = crate::io::glommio::IO_MEMORY_BYTES >> 20;
        vec![
            ("io", format!("{} 0.9", Backend::Glommio)),
            ("buffers", format!("{mib} MiB of glommio's own; bytes are copied once each way")),
        ]
    }

    fn count(&self) -> IoCounters {
        let own = self.counters();
        IoCounters {
            operations_submitted: own.submissions,
            bytes_zeroed: own.bytes_zeroed,
            bytes_copied: own.bytes_copied,
            ..IoCounters::default()
        }
    }

    /// It is alone.
    fn call_peers(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for backend in [Backend::Uring, Backend::Glommio] {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        assert!("epoll".parse::<Backend>().expect_err("none").contains("uring or glommio"));
    }

    #[test]
    fn unregistered_memory_is_told_with_its_fix() {
        assert!(unregistered(12).contains("ulimit -l"));
    }
}
