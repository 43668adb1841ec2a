//! Bugs of the catalog's recovery.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use pelton_tests::inspection::frame_key;
use pelton_tests::life::Life;
use pelton_tests::model::Model;
use pelton_tests::world::World;

#[path = "../../../fuzz/bodies/recovery.rs"]
mod recovery;

/// Fuzzing found it. A journal held an entry of the catalog's topic, but of a partition that the
/// catalog does not have. The start took it for a change of the catalog and served the topic that
/// it created; the replay, which knows streams by topic and partition, left it out, and the journal
/// was drained. The next start knew no topic, found segments of it, and was refused. No broker
/// writes such an entry; but what a start applies must be what it stores, or the next one has
/// another catalog.
#[test]
fn what_a_start_takes_for_the_catalog_it_stores() {
    recovery::run(include_bytes!("../../../fuzz/corpus/recovery/catalog_elsewhere"));
}

/// Fuzzing found it. Frames of a segment were gone, of the next one the first was there, and behind
/// the gap lay void ones: of offsets that the next segment has as well. They claimed that all
/// before them had been durable, but nobody asked void frames. So the gap was a torn end, and the
/// next segment, behind it, was deleted. Then nothing made those frames void any more: the next
/// start believed them, and was refused. What a frame says of those before it is true, void or not;
/// the gap is damage, and nothing is deleted.
#[test]
fn void_frames_tell_what_was_durable() {
    recovery::run(include_bytes!("../../../fuzz/corpus/recovery/void_claims"));
}

/// Two changes of the catalog, in two frames of a segment that is not the newest.
fn two_frames() -> SimDisk {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let place = life.create("first", 1)[0];
    for lap in 1..=2 {
        // Around the ring of three files: the catalog's run must leave for its segment.
        while life.world.shard(0).counters().journal_bytes < lap * 4 * 64 * 1024 {
            life.produce(place, &[3_000]);
        }
        life.create(["second", "third"][usize::try_from(lap - 1).expect("small")], 1);
    }
    let mut life = Life::begin(&Settings::tiny(), life.end(), Model::default());
    life.create("fourth", 1);
    life.end()
}

/// A block of an older segment of the catalog was blank: a write that got lost. The start took it
/// for the segment's end and served without the topics that had been created there; those without
/// a segment of records were gone without a word. The catalog is read whole now, or the start is
/// refused.
#[test]
fn a_blank_block_of_the_catalog_is_no_end_of_it() {
    let disk = two_frames();
    let key = frame_key(&disk);
    let mut tried = 0;
    for sequence in 0..2 {
        let path = FilePath::Segment { topic: [0; 16], partition: 0, sequence };
        let found = disk.files().find(|(other, _)| **other == path).map(|(_, bytes)| bytes);
        let blocks = found.expect("two lives, two segments").len() / BLOCK_BYTES;
        for block in 0..blocks {
            let mut disk = disk.clone();
            let mut is_frame = false;
            disk.edit(&path, |bytes| {
                let at = block * BLOCK_BYTES;
                is_frame = engine::frame::FrameView::read(&bytes[at..], key).is_ok();
                bytes[at..at + BLOCK_BYTES].fill(0);
            });
            if !is_frame {
                continue;
            }
            tried += 1;
            let error = World::boot(&Settings::tiny(), disk, 5).err().map(|failed| failed.1);
            let error = error.unwrap_or_else(|| panic!("segment {sequence}, block {block}"));
            assert!(error.to_string().contains("acknowledged data is damaged"), "{error}");
        }
    }
    assert!(tried >= 3, "an older segment with several frames: {tried}");
}
