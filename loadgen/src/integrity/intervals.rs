//! Sets of sequences that mostly arrive in order.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of u64 as disjoint, non-touching ranges. The range that grew last is kept apart, so that
/// in-order insertion is one comparison; everything else is O(log ranges).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalSet {
    /// The range with the highest values; empty only if the whole set is.
    last: Span,
    /// All lower ranges: start → end.
    lower: BTreeMap<u64, u64>,
    lower_len: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

impl IntervalSet {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lower_len + (self.last.end - self.last.start)
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.start == self.last.end
    }

    /// One more than the highest value; 0 if there is none.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.last.end
    }

    /// Whether `value` is in the set.
    #[must_use]
    pub fn contains(&self, value: u64) -> bool {
        if value >= self.last.start {
            return value < self.last.end;
        }
        self.lower.range(..=value).next_back().is_some_and(|(_, &end)| value < end)
    }

    /// Adds `value` if it continues the highest range (or starts an empty set at 0).
    #[inline]
    pub fn append(&mut self, value: u64) -> bool {
        let continues = value == self.last.end;
        if continues {
            self.last.end += 1;
        }
        continues
    }

    /// Adds `value`; false if it was there already.
    pub fn insert(&mut self, value: u64) -> bool {
        let new = !self.contains(value);
        if new {
            self.insert_range(value..value + 1);
        }
        new
    }

    /// Adds all values of `range`; those that are there already stay.
    pub fn insert_range(&mut self, range: Range<u64>) {
        let mut span = Span { start: range.start, end: range.end };
        if span.start >= span.end {
            return;
        }
        if self.is_empty() {
            self.last = span;
            return;
        }
        if span.start > self.last.end {
            self.push_lower(self.last);
            self.last = span;
            return;
        }
        // The span begins at or below the end of the last range: absorb every lower range that
        // it touches, then join it to the last one or put it below.
        while let Some((&start, &end)) = self.lower.range(..=span.end).next_back() {
            if end < span.start {
                break;
            }
            self.lower.remove(&start);
            self.lower_len -= end - start;
            span = Span { start: span.start.min(start), end: span.end.max(end) };
        }
        if span.end >= self.last.start {
            self.last.start = self.last.start.min(span.start);
            self.last.end = self.last.end.max(span.end);
        } else {
            self.push_lower(span);
        }
    }

    /// The ranges, in rising order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let last = (!self.is_empty()).then_some(self.last.start..self.last.end);
        self.lower.iter().map(|(&start, &end)| start..end).chain(last)
    }

    /// Values of this set below `horizon` that `other` lacks.
    #[must_use]
    pub fn count_missing_from(&self, other: &Self, horizon: u64) -> u64 {
        let below: u64 =
            self.ranges().map(|range| range.end.min(horizon).saturating_sub(range.start)).sum();
        let common: u64 = common(self.ranges(), other.ranges())
            .map(|range| range.end.min(horizon).saturating_sub(range.start))
            .sum();
        below - common
    }

    /// Values that both sets hold.
    #[must_use]
    pub fn count_common(&self, other: &Self) -> u64 {
        common(self.ranges(), other.ranges()).map(|range| range.end - range.start).sum()
    }

    /// Values that all three sets hold.
    #[must_use]
    pub fn count_common_of_three(&self, second: &Self, third: &Self) -> u64 {
        common(common(self.ranges(), second.ranges()), third.ranges())
            .map(|range| range.end - range.start)
            .sum()
    }

    fn push_lower(&mut self, span: Span) {
        self.lower_len += span.end - span.start;
        self.lower.insert(span.start, span.end);
    }
}

/// The overlaps of two rising sequences of ranges.
fn common(
    left: impl Iterator<Item = Range<u64>>,
    right: impl Iterator<Item = Range<u64>>,
) -> impl Iterator<Item = Range<u64>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        loop {
            let (one, two) = (left.peek()?.clone(), right.peek()?.clone());
            if one.end <= two.end {
                left.next();
            }
            if two.end <= one.end {
                right.next();
            }
            let overlap = one.start.max(two.start)..one.end.min(two.end);
            if !overlap.is_empty() {
                return Some(overlap);
            }
        }
    })
}
