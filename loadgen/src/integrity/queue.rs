//! Proves what queues promise: each confirmed message is delivered until it is settled, again only
//! with the redelivered mark, and never after its acknowledgement.
//!
//! Every message of a run has a number of its own. What became of it is a handful of bits that all
//! generator threads share, so whichever consumer gets a message knows what any other had done
//! with it. A message costs two atomic operations; memory is taken for a million numbers at once.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Counts;

/// Numbers of one word.
const WORD: u64 = 64;
/// Words of one page.
const PAGE_WORDS: u64 = 1 << 14;
/// Numbers of one page.
const PAGE: u64 = PAGE_WORDS * WORD;
/// Most pages: a run has at most 2^36 messages.
const PAGES_MAX: u64 = 1 << 16;

/// What became of 64 messages.
#[derive(Debug, Default)]
struct Word {
    /// Confirmed: must be there.
    confirmed: AtomicU64,
    /// Published, and never answered: may be there.
    doubtful: AtomicU64,
    /// Came to a consumer.
    delivered: AtomicU64,
    /// A consumer has acknowledged it, or it was settled by being sent.
    accepted: AtomicU64,
    /// Found among the dead letters.
    buried: AtomicU64,
    /// Seen in a queue when all was over, and left there.
    kept: AtomicU64,
}

/// What a run knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was confirmed.
    Confirmed,
    /// It was published, and never confirmed.
    Doubtful,
    /// It was acknowledged.
    Settled,
}

/// Whether a delivery says that there may have been one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It says so.
    Redelivered,
    /// It does not.
    None,
}

/// Which delivery of a message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The first one.
    First,
    /// There was one before.
    Again,
    /// Nobody has published it: it is not to be settled twice.
    Unknown,
}

/// What became of every message of a run.
#[derive(Debug)]
pub struct QueueLedger {
    pages: Box<[OnceLock<Box<[Word]>>]>,
    next: AtomicU64,
    deliveries: AtomicU64,
    redelivered: AtomicU64,
    duplicated: AtomicU64,
    after_ack: AtomicU64,
    corrupted: AtomicU64,
    unknown: AtomicU64,
    settled: AtomicU64,
    to_settle: AtomicU64,
    last_ns: AtomicU64,
    came_again: AtomicU64,
    /// Acknowledgements may have been lost on their way.
    is_forgiving: AtomicBool,
}

/// What the proof found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// The promises that were broken.
    pub counts: Counts,
    /// Messages that were confirmed.
    pub confirmed: u64,
    /// Messages of which it is not known whether they were taken.
    pub in_doubt: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Deliveries that bore the mark.
    pub redelivered: u64,
    /// Messages found among the dead letters.
    pub dead_lettered: u64,
    /// Marked deliveries of messages whose acknowledgement may have been lost on its way.
    pub came_again: u64,
    /// Confirmed messages that were neither settled nor found, but may still be in their queue.
    pub left: u64,
}

impl Default for QueueLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl QueueLedger {
    /// A ledger without messages.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pages: (0..PAGES_MAX).map(|_| OnceLock::new()).collect(),
            next: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            duplicated: AtomicU64::new(0),
            after_ack: AtomicU64::new(0),
            corrupted: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            to_settle: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            came_again: AtomicU64::new(0),
            is_forgiving: AtomicBool::new(false),
        }
    }

    /// From now on connections are lost on purpose, or the broker is, and acknowledgements that
    /// nobody waits for with them: what was acknowledged may come again, if it is marked.
    pub fn forgive(&self) {
        self.is_forgiving.store(true, Ordering::Relaxed);
    }

    /// Gives out numbers for `count` messages.
    ///
    /// # Panics
    /// If a run has more messages than a ledger has numbers.
    pub fn claim(&self, count: u64) -> Range<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let end = first + count;
        assert!(end <= PAGES_MAX * PAGE, "a run has at most 2^36 messages");
        for page in first / PAGE..=end.saturating_sub(1) / PAGE {
            self.pages[index(page)]
                .get_or_init(|| (0..PAGE_WORDS).map(|_| Word::default()).collect());
        }
        first..end
    }

    /// Messages were confirmed.
    pub fn confirmed(&self, numbers: Range<u64>) {
        self.to_settle.fetch_add(numbers.end - numbers.start, Ordering::Relaxed);
        self.each(numbers, |word, bits| {
            word.confirmed.fetch_or(bits, Ordering::Relaxed);
        });
    }

    /// Messages were published, and nobody knows what became of them.
    pub fn in_doubt(&self, numbers: Range<u64>) {
        self.each(numbers, |word, bits| {
            word.doubtful.fetch_or(bits, Ordering::Relaxed);
        });
    }

    /// Whether somebody was given this number.
    #[inline]
    fn word(&self, number: u64) -> Option<(&Word, u64)> {
        if number >= self.next.load(Ordering::Relaxed) {
            return None;
        }
        let page = self.pages[index(number / PAGE)].get()?;
        Some((&page[index(number % PAGE / WORD)], 1 << (number % WORD)))
    }

    /// A message came to a consumer, intact.
    #[inline]
    pub fn delivered(&self, number: u64, mark: Mark) -> Delivery {
        let Some((word, bit)) = self.word(number) else {
            self.unknown.fetch_add(1, Ordering::Relaxed);
            return Delivery::Unknown;
        };
        let before = word.delivered.fetch_or(bit, Ordering::Relaxed);
        if mark == Mark::Redelivered {
            self.redelivered.fetch_add(1, Ordering::Relaxed);
        }
        if before & bit == 0 {
            return Delivery::First;
        }
        if word.accepted.load(Ordering::Relaxed) & bit != 0 {
            let is_forgiven = mark == Mark::Redelivered && self.is_forgiving();
            let count = if is_forgiven { &self.came_again } else { &self.after_ack };
            count.fetch_add(1, Ordering::Relaxed);
        }
        if mark == Mark::None {
            self.duplicated.fetch_add(1, Ordering::Relaxed);
        }
        Delivery::Again
    }

    /// The consumer that has the message is about to acknowledge it, or need not.
    #[inline]
    pub fn accepted(&self, number: u64) {
        if let Some((word, bit)) = self.word(number) {
            word.accepted.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// A message was found among the dead letters.
    pub fn buried(&self, number: u64) {
        match self.word(number) {
            Some((word, bit)) if word.buried.fetch_or(bit, Ordering::Relaxed) & bit == 0 => {}
            Some(_) => drop(self.duplicated.fetch_add(1, Ordering::Relaxed)),
            None => drop(self.unknown.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// A message was seen in a queue, and left there.
    pub fn kept(&self, number: u64) {
        match self.word(number) {
            Some((word, bit)) if word.kept.fetch_or(bit, Ordering::Relaxed) & bit == 0 => {}
            Some(_) => drop(self.duplicated.fetch_add(1, Ordering::Relaxed)),
            None => drop(self.unknown.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Messages were acknowledged, as somebody else has noted.
    pub fn settle(&self, numbers: Range<u64>) {
        self.each(numbers, |word, bits| {
            word.accepted.fetch_or(bits, Ordering::Relaxed);
        });
    }

    /// Whether what was acknowledged may come again, if it is marked.
    #[must_use]
    pub fn is_forgiving(&self) -> bool {
        self.is_forgiving.load(Ordering::Relaxed)
    }

    /// All messages with this fate, as ranges in rising order: the first, and the one behind the
    /// last.
    #[must_use]
    pub fn ranges(&self, fate: Fate) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (page, words) in (0..).zip(&self.pages) {
            for (at, word) in (0..).zip(words.get().into_iter().flatten()) {
                let mut bits = match fate {
                    Fate::Confirmed => get(&word.confirmed),
                    Fate::Doubtful => get(&word.doubtful) & !get(&word.confirmed),
                    Fate::Settled => get(&word.accepted),
                };
                while bits != 0 {
                    let skipped = bits.trailing_zeros();
                    let length = (bits >> skipped).trailing_ones();
                    let first = page * PAGE + at * WORD + u64::from(skipped);
                    let end = first + u64::from(length);
                    match ranges.last_mut() {
                        Some(last) if last.1 == first => last.1 = end,
                        _ => ranges.push((first, end)),
                    }
                    bits &= !(u64::MAX >> (64 - length) << skipped);
                }
            }
        }
        ranges
    }

    /// A message came with other bytes than were sent.
    pub fn corrupt(&self) {
        self.corrupted.fetch_add(1, Ordering::Relaxed);
    }

    /// At `now_ns` a consumer has got `deliveries` more, and settles `settled` of them for good.
    pub fn count(&self, deliveries: u64, settled: u64, now_ns: u64) {
        self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
        self.deliveries.fetch_add(deliveries, Ordering::Relaxed);
        self.settled.fetch_add(settled, Ordering::Relaxed);
    }

    /// Messages that were settled for good so far.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// Messages that were confirmed so far.
    #[must_use]
    pub fn to_settle(&self) -> u64 {
        self.to_settle.load(Ordering::Relaxed)
    }

    /// When the last delivery came.
    #[must_use]
    pub fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }

    /// Compares what was confirmed with what became of it, once nobody adds to it any more.
    /// `still_there` is how many messages the broker says it still has: a drain that was cut
    /// short has not seen them.
    #[must_use]
    pub fn audit(&self, still_there: u64) -> QueueCounts {
        let mut found = QueueCounts {
            counts: Counts {
                duplicated: get(&self.duplicated),
                corrupted: get(&self.corrupted),
                unexpected: get(&self.unknown),
                delivered_after_ack: get(&self.after_ack),
                ..Counts::default()
            },
            deliveries: get(&self.deliveries),
            redelivered: get(&self.redelivered),
            came_again: get(&self.came_again),
            ..QueueCounts::default()
        };
        let mut missing = 0;
        for word in self.pages.iter().filter_map(OnceLock::get).flatten() {
            let [confirmed, doubtful, delivered, accepted] =
                [&word.confirmed, &word.doubtful, &word.delivered, &word.accepted].map(get);
            let [buried, kept] = [&word.buried, &word.kept].map(get);
            let found_at_last = buried | kept;
            let doubtful = doubtful & !confirmed;
            let count = |bits: u64| u64::from(bits.count_ones());
            found.confirmed += count(confirmed);
            found.in_doubt += count(doubtful);
            found.dead_lettered += count(buried);
            let seen = delivered | found_at_last;
            found.counts.in_doubt_found += count(doubtful & seen);
            found.counts.unexpected += count(seen & !confirmed & !doubtful);
            // Settled for good, and there once more.
            let twice = count(accepted & found_at_last);
            match self.is_forgiving() {
                true => found.came_again += twice,
                false => found.counts.duplicated += twice,
            }
            missing += count(confirmed & !accepted & !found_at_last);
        }
        found.left = missing.min(still_there);
        found.counts.lost = missing - found.left;
        found
    }

    fn each(&self, numbers: Range<u64>, change: impl Fn(&Word, u64)) {
        let mut at = numbers.start;
        while at < numbers.end {
            let end = numbers.end.min((at / WORD + 1) * WORD);
            let bits = (u64::MAX >> (WORD - (end - at))) << (at % WORD);
            let (word, _) = self.word(at).expect("only numbers that were given out");
            change(word, bits);
            at = end;
        }
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("pages and words are few")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::IntegrityVerdict;

    /// Numbers `0..count`, confirmed, each delivered once and accepted.
    fn good(count: u64) -> QueueLedger {
        let ledger = QueueLedger::new();
        assert_eq!(ledger.claim(count), 0..count);
        for number in 0..count {
            assert_eq!(ledger.delivered(number, Mark::None), Delivery::First);
            ledger.accepted(number);
        }
        ledger.count(count, count, 0);
        ledger.confirmed(0..count);
        ledger
    }

    #[test]
    fn what_is_right_is_called_right() {
        let found = good(1_000).audit(0);
        assert_eq!(found.counts, Counts::default());
        assert_eq!(found.counts.verdict(), IntegrityVerdict::Ok);
        assert_eq!((found.confirmed, found.deliveries, found.redelivered), (1_000, 1_000, 0));
    }

    #[test]
    fn loss_is_counted_message_by_message() {
        let ledger = QueueLedger::new();
        let numbers = ledger.claim(300);
        ledger.confirmed(numbers);
        for number in (0..300).filter(|number| ![0, 63, 64, 65, 299].contains(number)) {
            ledger.delivered(number, Mark::None);
            ledger.accepted(number);
        }
        assert_eq!(ledger.audit(0).counts, Counts { lost: 5, ..Counts::default() });
        // The broker says that it has three of them still: two are lost for certain.
        let cut_short = ledger.audit(3);
        assert_eq!((cut_short.counts.lost, cut_short.left), (2, 3));
        assert_eq!(ledger.audit(9).counts.verdict(), IntegrityVerdict::Ok);
    }

    #[test]
    fn a_message_that_was_only_given_back_is_lost() {
        let ledger = good(10);
        let numbers = ledger.claim(1);
        ledger.delivered(numbers.start, Mark::None);
        ledger.confirmed(numbers);
        assert_eq!(ledger.audit(0).counts, Counts { lost: 1, ..Counts::default() });
    }

    #[test]
    fn a_second_delivery_needs_the_mark() {
        let ledger = QueueLedger::new();
        ledger.claim(100);
        ledger.confirmed(0..100);
        for number in 0..100 {
            ledger.delivered(number, Mark::None);
        }
        for number in 10..20 {
            assert_eq!(ledger.delivered(number, Mark::Redelivered), Delivery::Again);
        }
        for number in [3, 4, 12] {
            ledger.delivered(number, Mark::None);
        }
        (0..100).for_each(|number| ledger.accepted(number));
        let found = ledger.audit(0);
        assert_eq!(found.counts, Counts { duplicated: 3, ..Counts::default() });
        assert_eq!(found.redelivered, 10);
        assert_eq!(found.counts.verdict(), IntegrityVerdict::Failed);
    }

    #[test]
    fn nothing_comes_after_its_acknowledgement() {
        let ledger = good(128);
        for number in [5, 5, 127] {
            ledger.delivered(number, Mark::Redelivered);
        }
        let found = ledger.audit(0).counts;
        assert_eq!(found, Counts { delivered_after_ack: 3, ..Counts::default() });
        assert_eq!(found.verdict(), IntegrityVerdict::Failed);
        // Without the mark it is both.
        ledger.delivered(6, Mark::None);
        let found = ledger.audit(0).counts;
        assert_eq!((found.delivered_after_ack, found.duplicated), (4, 1));
    }

    #[test]
    fn a_lost_acknowledgement_lets_a_message_come_again_marked() {
        let ledger = good(128);
        ledger.forgive();
        ledger.delivered(5, Mark::Redelivered);
        ledger.buried(6);
        let found = ledger.audit(0);
        assert_eq!((found.counts, found.came_again), (Counts::default(), 2));
        // Without the mark it is not forgiven.
        ledger.delivered(7, Mark::None);
        let found = ledger.audit(0).counts;
        assert_eq!((found.delivered_after_ack, found.duplicated), (1, 1));
    }

    #[test]
    fn doubt_is_allowed_and_what_was_refused_or_never_sent_is_not() {
        let ledger = good(10);
        let doubtful = ledger.claim(4);
        ledger.in_doubt(doubtful.clone());
        ledger.delivered(doubtful.start, Mark::None);
        ledger.accepted(doubtful.start);
        let refused = ledger.claim(3);
        ledger.delivered(refused.start, Mark::None);
        assert_eq!(ledger.delivered(refused.end, Mark::None), Delivery::Unknown);
        ledger.corrupt();
        let found = ledger.audit(0);
        let expected =
            Counts { in_doubt_found: 1, unexpected: 2, corrupted: 1, ..Counts::default() };
        assert_eq!((found.counts, found.in_doubt), (expected, 4));
    }

    #[test]
    fn dead_letters_stand_for_their_messages_once() {
        let ledger = good(10);
        let dead = ledger.claim(3);
        ledger.confirmed(dead.clone());
        dead.clone().for_each(|number| ledger.buried(number));
        let found = ledger.audit(0);
        assert_eq!((found.counts.clone(), found.dead_lettered), (Counts::default(), 3));
        ledger.buried(dead.start);
        ledger.buried(2);
        let found = ledger.audit(0).counts;
        assert_eq!(found, Counts { duplicated: 2, ..Counts::default() });
    }

    #[test]
    fn what_is_left_in_a_queue_is_there_and_not_what_was_acknowledged() {
        let ledger = good(10);
        let left = ledger.claim(5);
        ledger.confirmed(left.clone());
        let doubtful = ledger.claim(2);
        ledger.in_doubt(doubtful.clone());
        [10, 11, 12, 13, 15].into_iter().for_each(|number| ledger.kept(number));
        let found = ledger.audit(0);
        let expected = Counts { lost: 1, in_doubt_found: 1, ..Counts::default() };
        assert_eq!(found.counts, expected, "14 is not there");
        ledger.kept(14);
        ledger.kept(9);
        let found = ledger.audit(0).counts;
        assert_eq!((found.lost, found.duplicated), (0, 1), "9 was acknowledged");
    }

    #[test]
    fn fates_are_ranges() {
        let ledger = QueueLedger::new();
        ledger.claim(PAGE + 10);
        for range in [0..1, 63..65, 70..200, PAGE - 1..PAGE + 3] {
            ledger.confirmed(range);
        }
        ledger.in_doubt(60..70);
        ledger.settle(128..192);
        let confirmed = [(0, 1), (63, 65), (70, 200), (PAGE - 1, PAGE + 3)];
        assert_eq!(ledger.ranges(Fate::Confirmed), confirmed);
        assert_eq!(ledger.ranges(Fate::Doubtful), [(60, 63), (65, 70)]);
        assert_eq!(ledger.ranges(Fate::Settled), [(128, 192)]);
    }

    #[test]
    fn pages_are_taken_as_numbers_are_given_out() {
        let ledger = QueueLedger::new();
        ledger.claim(PAGE - 2);
        let numbers = ledger.claim(4);
        ledger.confirmed(numbers.clone());
        for number in numbers {
            ledger.delivered(number, Mark::None);
            ledger.accepted(number);
        }
        assert_eq!(ledger.pages.iter().filter(|page| page.get().is_some()).count(), 2);
        assert_eq!((ledger.audit(0).confirmed, ledger.audit(0).counts.lost), (4, 0));
    }
}
