//! The truth table of recovery: what bad bytes mean, by where they are and what is known of them.
//! `docs/FORMAT.md` has the same table; recovery and `pelton log` ask this one and no other.
//!
//! Two rules stand behind it. A *watermark* is written only after what it names was durable, so
//! what lies at or below one was durable: if it is bad now, it was damaged later, and nothing is
//! ever cut off there. What no watermark covers may have been torn by the crash: it ends what it
//! belongs to, and was not acknowledged, but for the window that `docs/FORMAT.md` names.

use std::fmt;

/// Where bad bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A slot of the superblock.
    Superblock,
    /// A slot of a partition's start file or lost file.
    Slot,
    /// The first block of a journal file, which holds no records.
    JournalBegin,
    /// Any other frame of a journal.
    Journal,
    /// A frame of the catalog's segments, or of a queue store's.
    Catalog,
    /// A frame of a segment that no later one proves whole.
    NewestSegment,
    /// A frame of an older segment.
    OlderSegment,
}

/// What is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing shows that they had been durable.
    None,
    /// A watermark covers them.
    Proven,
    /// A watermark covers them; the frame's header and table are whole, and name its offsets.
    ProvenAndNamed,
    /// A watermark covers them, and a journal holds the records from there to the end.
    ProvenAndJournaled,
    /// They belong to an earlier life of the file: another lap of the ring, another epoch, the
    /// segment that the file was before.
    Stale,
    /// A later file begins with its number, or with its offset: a write had failed there, and what
    /// the failed file was given up for is in later ones.
    Void,
    /// The other slot is whole.
    OtherSlot,
}

/// What it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As if they were not there.
    Nothing,
    /// The same, whole or not; the file is not written to again.
    Void,
    /// A torn tail: the journal or the segment ends before it. It is never written to again.
    TornTail,
    /// Nothing is lost: the records behind it count.
    GoOn,
    /// The other slot counts.
    OtherSlot,
    /// The records are written anew from the journal.
    Heal,
    /// The offsets that its table names are damaged; all others are served.
    QuarantineNamed,
    /// The offsets up to the next record that is there are damaged. Where none is, the
    /// partition's end is unknown: it is not written to.
    QuarantineGap,
    /// The offsets are damaged, once they are read.
    QuarantineWhenRead,
    /// The partition begins with its first segment. Without one its end is unknown: it is not
    /// written to.
    FromSegments,
    /// The start is refused, and nothing is changed.
    Refuse,
}

/// The table.
pub const fn verdict(place: Place, evidence: Evidence) -> Verdict {
    match (place, evidence) {
        (Place::Superblock | Place::Slot, Evidence::OtherSlot) => Verdict::OtherSlot,
        (Place::Superblock, _) => Verdict::Refuse,
        (Place::Slot, _) => Verdict::FromSegments,
        (_, Evidence::Stale | Evidence::OtherSlot) => Verdict::Nothing,
        (_, Evidence::Void) => Verdict::Void,
        // Written alone, less than a sector, before anything else in the file.
        (Place::JournalBegin, _) => Verdict::GoOn,
        (Place::Journal, Evidence::None) => Verdict::TornTail,
        (Place::Journal, Evidence::ProvenAndNamed) => Verdict::QuarantineNamed,
        (Place::Journal, _) => Verdict::QuarantineGap,
        (Place::Catalog | Place::NewestSegment, Evidence::None) => Verdict::TornTail,
        (Place::Catalog, _) => Verdict::Refuse,
        (Place::NewestSegment, Evidence::ProvenAndJournaled) => Verdict::Heal,
        (Place::NewestSegment, _) => Verdict::QuarantineGap,
        (Place::OlderSegment, _) => Verdict::QuarantineWhenRead,
    }
}

/// The rows of the table that can come about, in the order of the document.
pub const ROWS: [(Place, Evidence); 19] = [
    (Place::Superblock, Evidence::OtherSlot),
    (Place::Superblock, Evidence::None),
    (Place::Slot, Evidence::OtherSlot),
    (Place::Slot, Evidence::None),
    (Place::JournalBegin, Evidence::Proven),
    (Place::Journal, Evidence::Stale),
    (Place::Journal, Evidence::Void),
    (Place::Journal, Evidence::None),
    (Place::Journal, Evidence::ProvenAndNamed),
    (Place::Journal, Evidence::Proven),
    (Place::Catalog, Evidence::None),
    (Place::Catalog, Evidence::Proven),
    (Place::NewestSegment, Evidence::Stale),
    (Place::NewestSegment, Evidence::Void),
    (Place::NewestSegment, Evidence::None),
    (Place::NewestSegment, Evidence::ProvenAndJournaled),
    (Place::NewestSegment, Evidence::Proven),
    (Place::OlderSegment, Evidence::Void),
    (Place::OlderSegment, Evidence::Proven),
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Superblock => "slot of the superblock",
            Place::Slot => "slot of a start or lost file",
            Place::JournalBegin => "first block of a journal file",
            Place::Journal => "journal",
            Place::Catalog => "segment of the catalog or a queue store",
            Place::NewestSegment => "newest segment",
            Place::OlderSegment => "older segment",
        })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Evidence::None => "none",
            Evidence::Proven => "a watermark covers it",
            Evidence::ProvenAndNamed => "a watermark covers it; header and table are whole",
            Evidence::ProvenAndJournaled => {
                "a watermark covers it; a journal holds all records from there on"
            }
            Evidence::Stale => "it belongs to an earlier life of its file",
            Evidence::Void => "a later file begins with its number or offset",
            Evidence::OtherSlot => "the other slot is whole",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Nothing => "nothing",
            Verdict::Void => "void: its file had failed",
            Verdict::TornTail => "torn tail: ends it, never rewritten",
            Verdict::GoOn => "it held no records: what follows counts",
            Verdict::OtherSlot => "the other slot counts",
            Verdict::Heal => "healed: written anew from the journal",
            Verdict::QuarantineNamed => "quarantined: the offsets that its table names",
            Verdict::QuarantineGap => "quarantined: the offsets up to the next record",
            Verdict::QuarantineWhenRead => {
                "quarantined when it is read, by a fetch or the scrubber"
            }
            Verdict::FromSegments => "the partition begins with its first segment",
            Verdict::Refuse => "start refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_watermark_covers_is_never_cut_off() {
        use {Evidence as E, Place as P};
        let places = [P::JournalBegin, P::Journal, P::Catalog, P::NewestSegment, P::OlderSegment];
        for place in places {
            for evidence in [E::Proven, E::ProvenAndNamed, E::ProvenAndJournaled] {
                let verdict = verdict(place, evidence);
                let is_cut = matches!(verdict, Verdict::TornTail | Verdict::Nothing);
                assert!(!is_cut, "{place}, {evidence}: {verdict}");
            }
        }
    }
}
