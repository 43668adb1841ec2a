//! What a device that failed once had taken.

use broker::io::sim::{Failure, Lasting, SimDisk, Victims};
use engine::Settings;
use engine::pool::Arenas;
use engine::port::Fault;
use pelton_tests::life::Life;
use pelton_tests::model::Model;
use pelton_tests::reader::read_back;
use pelton_tests::world::{Surroundings, World};
use wire::Acks;

/// What is produced while one operation fails.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Bytes of a record.
    length: usize,
    rounds: u32,
    /// Requests to each partition in flight together.
    requests: u32,
}

/// Operations after which one fails, and after which the process is killed then.
const FAILURES: std::ops::Range<u64> = 1..20;
const KILLS: std::ops::Range<u64> = 1..30;

/// Records, most of them acknowledged as written; one operation fails, the process is killed
/// later. What of the laws is broken after the next start.
fn violations(arenas: &mut Arenas, load: Load, fail_at: u64, kill_at: u64) -> Vec<String> {
    let settings = Settings::tiny();
    let world = World::boot_within(arenas, &settings, SimDisk::new(7), 5, &Surroundings::default());
    let world = world.unwrap_or_else(|failed| panic!("{}", failed.1));
    let mut life = Life::on(world, Model::default());
    let places = life.create("t", 2);
    let from = life.world.disk().mutations();
    life.world.disk().plan().mutations.insert(from + fail_at, Failure::Fault(Fault::EIO));
    life.world.disk().plan().power_loss_at = Some(from + fail_at + kill_at);
    let Life { mut world, mut client, mut model } = life;
    let mut is_alive = true;
    for round in 0..load.rounds {
        let acks = if round % 3 == 2 { Acks::Durable } else { Acks::Written };
        for _ in 0..load.requests {
            for &place in &places {
                client.produce(world.now(), &mut model, &[place], acks, &[load.length]);
            }
        }
        while is_alive && client.in_flight() > 0 {
            client.pump(&mut world, &mut model);
            let soon = world.now().plus_ns(1_000_000);
            is_alive = world.turn(Some(soon)).is_ok();
        }
    }
    client.give_up(&mut model);
    model.nobody_answers();
    model.killed();
    let mut disk = world.into_disk();
    disk.plan().mutations.clear();
    disk.restart();
    match World::boot_within(arenas, &settings, disk, 8, &Surroundings::default()) {
        Ok(mut world) => read_back(&mut world, &mut model).expect("no power loss is planned"),
        Err(failed) => model.wrong(failed.1.to_string()),
    }
    model.violations().to_vec()
}

fn assert_survival(load: Load) {
    let arenas = &mut Arenas::default();
    for fail_at in FAILURES {
        for kill_at in KILLS {
            let found = violations(arenas, load, fail_at, kill_at);
            assert!(found.is_empty(), "failure at {fail_at}, kill at +{kill_at}: {found:#?}");
        }
    }
}

/// Frames of a journal that were written and acknowledged as that waited for a flush, which failed,
/// or for an earlier frame's. The journal went on in its next file at once, by which recovery takes
/// those frames for void; what they held was written again a moment later. A process that was
/// killed in between lost what no kill may take, and gave its offsets to others. Now the next file
/// begins when all of it is elsewhere.
#[test]
fn what_was_written_to_a_journal_that_failed_survives_a_kill() {
    assert_survival(Load { length: 300, rounds: 6, requests: 1 });
}

/// The same of runs that went straight to a segment: the file that failed was deleted, or the next
/// one's first frame made it void, while what followed was still to be written there. Now that
/// frame is written last.
#[test]
fn what_was_written_to_a_segment_that_failed_survives_a_kill() {
    assert_survival(Load { length: 10_000, rounds: 2, requests: 4 });
}

/// A load beside which two operations fail, one soon after the other. Requests that never end.
fn endless(arenas: &mut Arenas, fail_at: u64, again_at: u64) -> usize {
    let settings = Settings::tiny();
    let world = World::boot_within(arenas, &settings, SimDisk::new(7), 5, &Surroundings::default());
    let mut life =
        Life::on(world.unwrap_or_else(|failed| panic!("{}", failed.1)), Model::default());
    let places = life.create("t", 1);
    let from = life.world.disk().mutations();
    for at in [fail_at, fail_at + again_at] {
        life.world.disk().plan().mutations.insert(from + at, Failure::Fault(Fault::EIO));
    }
    let Life { mut world, mut client, mut model } = life;
    for round in 0..6 {
        let acks = if round % 3 == 2 { Acks::Durable } else { Acks::Written };
        (0..5).for_each(|_| client.produce(world.now(), &mut model, &places, acks, &[12_000]));
        for _ in 0..TURNS_MAX {
            client.pump(&mut world, &mut model);
            let soon = world.now().plus_ns(1_000_000);
            world.turn(Some(soon)).expect("no power loss is planned");
            if client.in_flight() == 0 {
                break;
            }
        }
    }
    client.in_flight()
}

/// Turns within which everything ends.
const TURNS_MAX: u32 = 3_000;

/// A segment failed; while what it had not taken was written to the next one, the file that was
/// opened ahead for the one after that failed as well. The rewriting was forgotten: its first run,
/// which is written last, never was, and nobody was ever answered again.
#[test]
fn a_file_that_fails_during_a_rewriting_stops_nobody() {
    let arenas = &mut Arenas::default();
    for fail_at in 1..40 {
        for again_at in 1..30 {
            let left = endless(arenas, fail_at, again_at);
            assert_eq!(left, 0, "failures at {fail_at} and {again_at} later: requests never end");
        }
    }
}

/// A partition's newest segment, closed for want of file numbers, was to be opened again for a
/// reader on a file system that had turned read-only. That failed the shard, and the reader waited
/// for ever. Then it was told that this failed, as were all others who wanted what lay in a closed
/// file: each was opened for reading and writing, which such a file system refuses. Now it is
/// opened for reading alone then, and everything is served, before and after the shard notices.
#[test]
fn everything_on_a_file_system_that_turned_read_only_is_served() {
    let settings = Settings { files_max: 16, ..Settings::tiny() };
    let mut life = Life::begin(&settings, SimDisk::new(7), Model::default());
    let places = life.create("t", 12);
    for &place in &places {
        (0..3).for_each(|_| life.produce(place, &[40_000]));
    }
    // Nothing of the others stays in memory, or open.
    let last = places[places.len() - 1];
    (0..250).for_each(|_| life.produce(last, &[40_000]));
    let from = life.world.disk().mutations() + 1;
    life.world.disk().plan().lasting =
        Some(Lasting { from, victims: Victims::All, fault: Fault::EROFS });
    for is_noticed in [false, true] {
        for &place in &places {
            let count = if place == last { 253 } else { 3 };
            assert_eq!(life.read(place, 0, 1 << 20).len(), count, "noticed: {is_noticed}");
        }
        // Refused, and the shard knows why.
        life.produce(places[0], &[100]);
        life.produce(last, &[100]);
    }
}
