//! Records of many partitions in the order of their times.
//!
//! Each partition has a lane of printed records that wait for their turn. The oldest head of all
//! lanes goes next, so each partition keeps its own order. An empty lane whose partition has more
//! to come holds the others up, but not for ever:
//!
//! | the empty lane's partition | the others |
//! | --- | --- |
//! | has reached its end, or all that is wanted of it was read | go on |
//! | has more, which is on its way | wait, for `patience` at most |
//! | has more, and [`MERGE_BYTES_MAX`] wait already | go on |

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Most bytes of printed records that wait, besides the replies that were asked for before.
pub const MERGE_BYTES_MAX: usize = 64 << 20;

/// What a partition has for its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// More records, which are on their way or can be asked for.
    Coming,
    /// Nothing now.
    AtEnd,
    /// Nothing any more.
    Done,
}

/// Whether a partition is to be asked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Resume,
    Pause,
}

#[derive(Debug)]
struct Lane {
    /// Printed records back to back, from `start`; each with its time and length in `records`.
    text: Vec<u8>,
    start: usize,
    records: VecDeque<(i64, usize)>,
    supply: Supply,
    /// Since when it is empty and holds the others up.
    waits_since: Option<Instant>,
    flow: Flow,
}

/// The lanes, by slot.
#[derive(Debug)]
pub struct Merge {
    lanes: Vec<Lane>,
    /// Time and slot of the head of each lane that has one.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    bytes: usize,
    lane_bytes_max: usize,
    patience: Duration,
}

impl Merge {
    /// So many lanes, none of which has told what it has.
    pub fn new(lanes: usize, patience: Duration, now: Instant) -> Merge {
        let lane = || Lane {
            text: Vec::new(),
            start: 0,
            records: VecDeque::new(),
            supply: Supply::Coming,
            waits_since: Some(now),
            flow: Flow::Resume,
        };
        Merge {
            lanes: (0..lanes).map(|_| lane()).collect(),
            heads: BinaryHeap::new(),
            bytes: 0,
            lane_bytes_max: lane_bytes_max(lanes),
            patience,
        }
    }

    /// Puts a record behind its lane; `print` appends it.
    pub fn push(
        &mut self,
        slot: usize,
        time_ms: i64,
        print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let lane = &mut self.lanes[slot];
        let before = lane.text.len();
        print(&mut lane.text)?;
        let bytes = lane.text.len() - before;
        if lane.records.is_empty() {
            self.heads.push(Reverse((time_ms, slot)));
            lane.waits_since = None;
        }
        lane.records.push_back((time_ms, bytes));
        self.bytes += bytes;
        Ok(())
    }

    /// Notes what a partition has.
    pub fn supply(&mut self, slot: usize, supply: Supply, now: Instant) {
        let lane = &mut self.lanes[slot];
        lane.supply = supply;
        lane.waits_since = match lane.records.is_empty() && supply == Supply::Coming {
            true => Some(lane.waits_since.unwrap_or(now)),
            false => None,
        };
    }

    /// Writes the records whose turn it is, `most` at most; gives how many.
    pub fn write(&mut self, out: &mut impl Write, most: u64, now: Instant) -> io::Result<u64> {
        let mut written = 0;
        if self.is_held_up(now) {
            return Ok(0);
        }
        while written < most {
            let was_full = self.bytes > MERGE_BYTES_MAX;
            let Some(slot) = self.write_head(out)? else { break };
            written += 1;
            let lane = &mut self.lanes[slot];
            let is_wanting = lane.records.is_empty() && lane.supply == Supply::Coming;
            if is_wanting {
                lane.waits_since = Some(now);
            }
            // Nothing else can hold up what was not held up before.
            if (is_wanting || was_full) && self.is_held_up(now) {
                break;
            }
        }
        Ok(written)
    }

    /// Writes everything, oldest heads first, whatever is still to come.
    pub fn drain(&mut self, out: &mut impl Write, most: u64) -> io::Result<()> {
        let mut written = 0;
        while written < most && self.write_head(out)?.is_some() {
            written += 1;
        }
        Ok(())
    }

    /// Whether no record waits.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Until when records wait for a lane, if they do.
    pub fn patience_ends(&self) -> Option<Instant> {
        let since = self.lanes.iter().filter_map(|lane| lane.waits_since).max();
        since.filter(|_| !self.is_empty()).map(|since| since + self.patience)
    }

    /// Tells which partitions to ask for more, and which not, where that has changed.
    pub fn regulate(&mut self, mut tell: impl FnMut(usize, Flow)) {
        for (slot, lane) in self.lanes.iter_mut().enumerate() {
            let bytes = lane.text.len() - lane.start;
            let flow = match lane.flow {
                _ if lane.supply == Supply::Done => Flow::Pause,
                Flow::Resume if bytes > self.lane_bytes_max => Flow::Pause,
                Flow::Pause if bytes <= self.lane_bytes_max / 2 => Flow::Resume,
                flow => flow,
            };
            if flow != lane.flow {
                lane.flow = flow;
                tell(slot, flow);
            }
        }
    }

    fn is_held_up(&self, now: Instant) -> bool {
        let waits = |since: Instant| now.saturating_duration_since(since) < self.patience;
        self.bytes <= MERGE_BYTES_MAX
            && self.lanes.iter().any(|lane| lane.waits_since.is_some_and(waits))
    }

    /// Writes the oldest head; gives its slot, if there was one.
    fn write_head(&mut self, out: &mut impl Write) -> io::Result<Option<usize>> {
        let Some(Reverse((_, slot))) = self.heads.pop() else { return Ok(None) };
        let lane = &mut self.lanes[slot];
        let (_, bytes) = lane.records.pop_front().expect("a lane with a head has a record");
        let end = lane.start + bytes;
        out.write_all(&lane.text[lane.start..end])?;
        self.bytes -= bytes;
        lane.start = end;
        if lane.records.is_empty() {
            lane.text.clear();
            lane.start = 0;
        } else if lane.start > lane.text.len() / 2 {
            lane.text.drain(..lane.start);
            lane.start = 0;
        }
        if let Some((time_ms, _)) = lane.records.front() {
            self.heads.push(Reverse((*time_ms, slot)));
        }
        Ok(Some(slot))
    }
}

/// A lane with more is not asked for more. Half of what may wait: a reply that is on its way comes
/// on top.
pub const fn lane_bytes_max(lanes: usize) -> usize {
    let lanes = if lanes == 0 { 1 } else { lanes };
    MERGE_BYTES_MAX / 2 / lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn push(merge: &mut Merge, slot: usize, time_ms: i64) {
        let print = |text: &mut Vec<u8>| write!(text, "{slot}@{time_ms} ");
        merge.push(slot, time_ms, print).expect("memory");
    }

    fn written(merge: &mut Merge, now: Instant) -> String {
        let mut out = Vec::new();
        merge.write(&mut out, u64::MAX, now).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn heads_go_in_the_order_of_their_times_and_lanes_keep_theirs() {
        let now = Instant::now();
        let mut merge = Merge::new(3, PATIENCE, now);
        for (slot, times) in [(0, [1, 4, 9]), (1, [2, 8, 3]), (2, [4, 5, 6])] {
            times.into_iter().for_each(|time| push(&mut merge, slot, time));
            merge.supply(slot, Supply::Done, now);
        }
        assert_eq!(written(&mut merge, now), "0@1 1@2 0@4 2@4 2@5 2@6 1@8 1@3 0@9 ");
        assert!(merge.is_empty() && merge.bytes == 0);
    }

    #[test]
    fn an_empty_lane_holds_others_up_until_it_has_something_or_patience_ends() {
        let now = Instant::now();
        let mut merge = Merge::new(2, PATIENCE, now);
        push(&mut merge, 0, 5);
        merge.supply(0, Supply::Coming, now);
        assert_eq!(written(&mut merge, now), "", "lane 1 has not told yet");
        assert_eq!(merge.patience_ends(), Some(now + PATIENCE));
        push(&mut merge, 1, 3);
        assert_eq!(written(&mut merge, now), "1@3 ", "then lane 1 is empty again");
        assert_eq!(written(&mut merge, now + PATIENCE / 2), "");
        assert_eq!(written(&mut merge, now + PATIENCE), "0@5 ");
        push(&mut merge, 0, 6);
        merge.supply(1, Supply::AtEnd, now + PATIENCE);
        assert_eq!(written(&mut merge, now + PATIENCE), "0@6 ", "its end holds nobody up");
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = Instant::now();
        let mut merge = Merge::new(2, PATIENCE, now);
        let long = vec![b'x'; lane_bytes_max(2) + 1];
        let print = |text: &mut Vec<u8>| text.write_all(&long);
        merge.push(0, 1, print).expect("memory");
        let mut told = Vec::new();
        merge.regulate(|slot, flow| told.push((slot, flow)));
        assert_eq!(told, [(0, Flow::Pause)]);
        for time in 2..6 {
            merge.push(0, time, print).expect("memory");
        }
        assert_eq!(merge.write(&mut io::sink(), 10, now).expect("a sink"), 2, "down to the bound");
        merge.push(1, 0, |text| text.write_all(b"y")).expect("memory");
        let count = merge.write(&mut io::sink(), 2, now).expect("a sink");
        assert_eq!(count, 1, "lane 1 is empty then and not at its end");
        merge.drain(&mut io::sink(), 10).expect("a sink");
        merge.regulate(|slot, flow| told.push((slot, flow)));
        assert_eq!(told[1..], [(0, Flow::Resume)]);
    }
}
