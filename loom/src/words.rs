//! The model checker's words, and a knob that takes the order away from one place of the source:
//! a checker that cannot fail checks nothing.

use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::{Mutex, MutexGuard};

use loom::sync::atomic as words;
pub use loom::sync::atomic::Ordering;

/// A place in the source that asks for more than a relaxed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// File.
    pub file: &'static str,
    /// Line.
    pub line: u32,
    /// What it does there.
    pub what: &'static str,
}

struct Knob {
    seen: BTreeSet<Site>,
    relaxed: Option<Site>,
}

static KNOB: Mutex<Knob> = Mutex::new(Knob { seen: BTreeSet::new(), relaxed: None });

fn knob() -> MutexGuard<'static, Knob> {
    KNOB.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Every place that was passed so far.
pub fn sites() -> Vec<Site> {
    knob().seen.iter().copied().collect()
}

/// From now on this place has no order.
pub fn relax(site: Option<Site>) {
    knob().relaxed = site;
}

#[track_caller]
fn is_relaxed(what: &'static str) -> bool {
    let caller = Location::caller();
    let site = Site { file: caller.file(), line: caller.line(), what };
    let mut knob = knob();
    knob.seen.insert(site);
    knob.relaxed == Some(site)
}

#[track_caller]
fn order(order: Ordering, what: &'static str) -> Ordering {
    let asks = !matches!(order, Ordering::Relaxed);
    if asks && is_relaxed(what) { Ordering::Relaxed } else { order }
}

/// A fence, unless it is the place that has no order.
#[track_caller]
pub fn fence(order: Ordering) {
    if !is_relaxed("fence") {
        words::fence(order);
    }
}

macro_rules! word {
    ($name:ident, $value:ty) => {
        /// As the standard library's.
        #[derive(Debug, Default)]
        pub struct $name(words::$name);

        impl $name {
            #[track_caller]
            pub fn load(&self, how: Ordering) -> $value {
                self.0.load(order(how, "load"))
            }

            #[track_caller]
            pub fn store(&self, value: $value, how: Ordering) {
                self.0.store(value, order(how, "store"));
            }
        }
    };
}

word!(AtomicU32, u32);
word!(AtomicU64, u64);

/// As the standard library's; who writes it is more than one thread.
#[derive(Debug, Default)]
pub struct AtomicBool(words::AtomicBool);

impl AtomicBool {
    #[track_caller]
    pub fn load(&self, how: Ordering) -> bool {
        self.0.load(order(how, "load"))
    }

    /// The checker knows only such an order of writes as follows from what threads have seen, and
    /// not that a swap comes right behind the write it read. Writing by a swap tells it.
    #[track_caller]
    pub fn store(&self, value: bool, how: Ordering) {
        self.0.swap(value, order(how, "store"));
    }

    #[track_caller]
    pub fn swap(&self, value: bool, how: Ordering) -> bool {
        self.0.swap(value, order(how, "swap"))
    }
}
