//! Which of a queue's messages are in which state: sequence numbers in ranges, each range with a
//! value. A backlog of ten million messages is one range.

use std::collections::BTreeMap;
use std::ops::Range;

/// Values by ranges of sequence numbers. Ranges are half open and do not overlap. A queue has many
/// of these, and an idle one never used most of them: until then each is a pointer.
#[derive(Debug, Clone)]
pub struct RangeMap<T>(Option<Box<Ranges<T>>>);

/// A set of sequence numbers.
pub type RangeSet = RangeMap<()>;

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        RangeMap(None)
    }
}

impl<T: Copy + PartialEq> PartialEq for RangeMap<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Copy + Eq> Eq for RangeMap<T> {}

impl<T: Copy + PartialEq> RangeMap<T> {
    /// Gives its memory back, if nothing is in it.
    pub fn shrink(&mut self) {
        self.0.take_if(|ranges| ranges.len == 0);
    }

    /// How many sequence numbers have a value.
    pub const fn len(&self) -> u64 {
        match &self.0 {
            Some(ranges) => ranges.len,
            None => 0,
        }
    }

    /// Whether none has.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many ranges there are: what it costs.
    pub fn ranges(&self) -> usize {
        self.0.as_ref().map_or(0, |ranges| ranges.by_start.len())
    }

    /// The first range, with its value.
    pub fn first(&self) -> Option<(Range<u64>, T)> {
        self.0.as_ref()?.first()
    }

    /// The first range that ends behind `at`, cut off at `at`.
    pub fn from(&self, at: u64) -> Option<(Range<u64>, T)> {
        self.0.as_ref()?.from(at)
    }

    /// The value of one sequence number.
    pub fn get(&self, at: u64) -> Option<T> {
        self.around(at).map(|(_, value)| value)
    }

    /// The range around one sequence number, with its value.
    pub fn around(&self, at: u64) -> Option<(Range<u64>, T)> {
        self.0.as_ref()?.around(at)
    }

    /// Every range in order.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, T)> {
        self.0.iter().flat_map(|ranges| ranges.iter())
    }

    /// The parts of ranges that lie within `range`, in order.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, T)> {
        self.0.iter().flat_map(move |ranges| ranges.within(range.clone()))
    }

    /// Gives a range a value, whatever it had before; ranges side by side that have the same
    /// value become one.
    pub fn insert(&mut self, range: Range<u64>, value: T) {
        if !range.is_empty() {
            self.0.get_or_insert_default().insert(range, value);
        }
    }

    /// Takes the values of a range away; gives how many sequence numbers had one.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        self.0.as_mut().map_or(0, |ranges| ranges.remove(range))
    }
}

impl RangeSet {
    /// Adds a range.
    pub fn add(&mut self, range: Range<u64>) {
        self.insert(range, ());
    }

    /// Whether a sequence number is in it.
    pub fn contains(&self, at: u64) -> bool {
        self.around(at).is_some()
    }
}

/// The ranges that there are.
#[derive(Debug, Clone)]
struct Ranges<T> {
    by_start: BTreeMap<u64, (u64, T)>,
    len: u64,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Ranges { by_start: BTreeMap::new(), len: 0 }
    }
}

impl<T: Copy + PartialEq> Ranges<T> {
    fn first(&self) -> Option<(Range<u64>, T)> {
        self.by_start.first_key_value().map(|(&from, &(to, value))| (from..to, value))
    }

    fn from(&self, at: u64) -> Option<(Range<u64>, T)> {
        if let Some((range, value)) = self.around(at) {
            return Some((at..range.end, value));
        }
        let next = self.by_start.range(at..).next();
        next.map(|(&from, &(to, value))| (from..to, value))
    }

    fn around(&self, at: u64) -> Option<(Range<u64>, T)> {
        let (&from, &(to, value)) = self.by_start.range(..=at).next_back()?;
        (at < to).then_some((from..to, value))
    }

    fn iter(&self) -> impl Iterator<Item = (Range<u64>, T)> {
        self.by_start.iter().map(|(&from, &(to, value))| (from..to, value))
    }

    fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, T)> {
        let first = self.around(range.start).map_or(range.start, |(around, _)| around.start);
        let parts = self.by_start.range(first..range.end.max(first));
        parts.map(move |(&from, &(to, value))| (from.max(range.start)..to.min(range.end), value))
    }

    fn insert(&mut self, range: Range<u64>, value: T) {
        self.remove(range.clone());
        let (mut from, mut to) = (range.start, range.end);
        self.len += to - from;
        let before = self.by_start.range(..from).next_back();
        if let Some((&start, &(end, other))) = before
            && end == from
            && other == value
        {
            self.by_start.remove(&start);
            from = start;
        }
        if let Some(&(end, other)) = self.by_start.get(&to)
            && other == value
        {
            self.by_start.remove(&to);
            to = end;
        }
        self.by_start.insert(from, (to, value));
    }

    fn remove(&mut self, range: Range<u64>) -> u64 {
        let before = self.len;
        while let Some((part, value)) = self.next_within(&range) {
            let (whole, _) = self.around(part.start).expect("just found");
            self.by_start.remove(&whole.start);
            self.len -= whole.end - whole.start;
            self.put(whole.start..part.start, value);
            self.put(part.end..whole.end, value);
        }
        before - self.len
    }

    fn next_within(&self, range: &Range<u64>) -> Option<(Range<u64>, T)> {
        if range.is_empty() {
            return None;
        }
        let (found, value) = self.from(range.start)?;
        (found.start < range.end).then(|| (found.start..found.end.min(range.end), value))
    }

    fn put(&mut self, range: Range<u64>, value: T) {
        if !range.is_empty() {
            self.len += range.end - range.start;
            self.by_start.insert(range.start, (range.end, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, the same each time.
    fn next(state: &mut u64) -> u64 {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn it_is_a_map_of_single_numbers() {
        let mut state = 7;
        let mut map: RangeMap<u64> = RangeMap::default();
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..20_000 {
            let from = next(&mut state) % 64;
            let range = from..from + next(&mut state) % 12;
            match next(&mut state) % 3 {
                0 => {
                    let removed = map.remove(range.clone());
                    let had = range.filter(|at| model.remove(at).is_some()).count();
                    assert_eq!(removed, u64::try_from(had).expect("small"));
                }
                _ => {
                    let value = next(&mut state) % 3;
                    map.insert(range.clone(), value);
                    model.extend(range.map(|at| (at, value)));
                }
            }
            assert_eq!(map.len(), u64::try_from(model.len()).expect("small"));
            let flat = |(range, value): (Range<u64>, u64)| range.map(move |at| (at, value));
            assert!(map.iter().flat_map(flat).eq(model.iter().map(|(&at, &value)| (at, value))));
            let at = next(&mut state) % 80;
            assert_eq!(map.get(at), model.get(&at).copied());
            let following = map.from(at).map(|(range, value)| (range.start, value));
            assert_eq!(following, model.range(at..).next().map(|(&at, &value)| (at, value)));
            let some = at..at + 9;
            let model = model.range(some.clone()).map(|(&at, &value)| (at, value));
            assert!(map.within(some).flat_map(flat).eq(model));
        }
    }

    #[test]
    fn neighbours_with_one_value_are_one_range() {
        let mut set = RangeSet::default();
        set.add(0..5);
        set.add(10..15);
        assert_eq!(set.ranges(), 2);
        set.add(5..10);
        assert_eq!((set.ranges(), set.len()), (1, 15));
        set.remove(7..8);
        assert_eq!((set.ranges(), set.contains(7), set.contains(8)), (2, false, true));
    }
}
