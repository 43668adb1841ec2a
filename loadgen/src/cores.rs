//! Which CPU does what: the first half of the allowed cores serve, the rest generate load.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// The cores given to the broker and to the load generator. They overlap only on a machine that
/// allows this process a single core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSplit {
    /// Cores for the broker, lowest first.
    pub broker: Vec<usize>,
    /// Cores for generator threads.
    pub generator: Vec<usize>,
}

impl CoreSplit {
    /// Splits the cores that this process may use.
    pub fn detect() -> io::Result<Self> {
        Ok(Self::of(&allowed()?))
    }

    /// The first half of `cores` (at least one) and the rest; a single core serves both.
    #[must_use]
    pub fn of(cores: &[usize]) -> Self {
        if cores.len() < 2 {
            return Self { broker: cores.to_vec(), generator: cores.to_vec() };
        }
        let (broker, generator) = cores.split_at(cores.len() / 2);
        Self { broker: broker.to_vec(), generator: generator.to_vec() }
    }
}

/// The cores that the calling thread may run on, lowest first.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Restricts the calling thread (and what it spawns from now on) to `cores`.
pub fn pin_to(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_gives_each_side_its_cores() {
        let split = CoreSplit::of(&[0, 1, 2]);
        assert_eq!(split.broker, [0]);
        assert_eq!(split.generator, [1, 2]);
        let single = CoreSplit::of(&[5]);
        assert_eq!((single.broker, single.generator), (vec![5], vec![5]));
    }

    #[test]
    fn pinning_is_seen_by_the_thread() {
        let core = allowed().expect("affinity is readable")[0];
        std::thread::spawn(move || {
            pin_to(&[core]).expect("an allowed core");
            assert_eq!(allowed().expect("affinity is readable"), [core]);
        })
        .join()
        .expect("the pinned thread");
    }
}
