//! Which offsets of a partition are damaged: they were acknowledged, and what the disk has of them
//! is not what was written. They are answered with an error of their own; the records before and
//! behind them are served.

use std::ops::Range;

/// The end of a range whose end nobody knows: the partition's newest records are damaged, and
/// nothing that is left says how many there were.
pub const END_UNKNOWN: u64 = u64::MAX;

/// The damaged offsets of one partition: ranges in order that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damaged {
    ranges: Vec<Range<u64>>,
}

impl Damaged {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The range that `offset` lies in.
    pub fn at(&self, offset: u64) -> Option<&Range<u64>> {
        let behind = self.ranges.partition_point(|range| range.end <= offset);
        self.ranges.get(behind).filter(|range| range.contains(&offset))
    }

    /// The first damaged offset at or behind `offset`.
    pub fn next(&self, offset: u64) -> Option<u64> {
        let behind = self.ranges.partition_point(|range| range.end <= offset);
        self.ranges.get(behind).map(|range| range.start.max(offset))
    }

    /// Whether a range ends at `offset`.
    pub fn ends_at(&self, offset: u64) -> bool {
        self.ranges.iter().any(|range| range.end == offset)
    }

    /// Whether nobody knows where the partition ends.
    pub fn is_end_unknown(&self) -> bool {
        self.ranges.last().is_some_and(|last| last.end == END_UNKNOWN)
    }

    /// Adds a range, joined with those that it touches. False if all of it was there.
    pub fn add(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() || self.at(range.start).is_some_and(|at| at.end >= range.end) {
            return false;
        }
        let first = self.ranges.partition_point(|other| other.end < range.start);
        let last = self.ranges.partition_point(|other| other.start <= range.end);
        let touched = &self.ranges[first..last];
        let start = touched.first().map_or(range.start, |other| other.start.min(range.start));
        let end = touched.last().map_or(range.end, |other| other.end.max(range.end));
        let joined = std::iter::once(start..end);
        self.ranges.splice(first..last, joined);
        true
    }

    /// Forgets what lies below `offset`, where the partition begins now.
    pub fn begin_at(&mut self, offset: u64) {
        self.ranges.retain(|range| range.end > offset);
        if let Some(first) = self.ranges.first_mut() {
            first.start = first.start.max(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_found() {
        let mut damaged = Damaged::default();
        assert!(damaged.is_empty() && damaged.at(0).is_none());
        assert!(damaged.add(10..20) && damaged.add(40..50) && damaged.add(30..35));
        assert!(!damaged.add(12..15) && !damaged.add(5..5), "nothing new");
        assert_eq!(damaged.ranges(), [10..20, 30..35, 40..50]);
        assert!(damaged.add(20..30), "it joins both sides");
        assert_eq!(damaged.ranges(), [10..35, 40..50]);
        let all = [(9, None, Some(10)), (10, Some(10..35), Some(10)), (34, Some(10..35), Some(34))];
        for (offset, at, next) in all {
            assert_eq!((damaged.at(offset), damaged.next(offset)), (at.as_ref(), next), "{offset}");
        }
        assert_eq!((damaged.at(35), damaged.next(35), damaged.next(50)), (None, Some(40), None));
        assert!(!damaged.is_end_unknown() && damaged.add(60..END_UNKNOWN));
        assert!(damaged.is_end_unknown() && damaged.at(u64::MAX - 1).is_some());
        damaged.begin_at(45);
        assert_eq!(damaged.ranges(), [45..50, 60..END_UNKNOWN]);
        assert!(damaged.add(0..END_UNKNOWN));
        let all = 0..END_UNKNOWN;
        assert_eq!(damaged.ranges(), std::slice::from_ref(&all));
    }
}
