//! Bugs that were, each with its story and the life that showed it.

extern crate engine as pelton_engine;
extern crate wire as pelton_wire;

mod after_a_failure;
mod catalog;
mod full_device;
mod long_batches;
mod queues;

use broker::io::sim::{Failure, SimDisk};
use engine::Settings;
use engine::pool::Arenas;
use engine::port::Fault;
use pelton_tests::check::{Bounds, Trial, live};
use pelton_tests::history::{self, Plan};
use pelton_tests::model::{Model, Topic};
use pelton_tests::sim_client::SimClient;
use pelton_tests::workload::Load;
use pelton_tests::world::World;
use wire::{Acks, topic};

fn assert_lawful(trial: &Trial) {
    let violations = live(trial).violations;
    assert!(violations.is_empty(), "{}\nagain: {}", violations.join("\n"), trial.command());
}

fn assert_lawful_history(seed: u64) {
    let plan = Plan::new(seed);
    let violations = history::live(&mut Arenas::default(), &plan).violations;
    assert!(violations.is_empty(), "{}\nagain: {}", violations.join("\n"), plan.command());
}

/// A process was killed while writes without a flush were under way, or had just ended. The next
/// one read them out of the device's cache, served them, built on them; then the power went, and
/// they had never been: records that had been seen were lost, a partition began earlier than it
/// had told, a start was refused because later segments proved what was no longer there. Now a
/// start makes durable what it finds before it reads it.
#[test]
fn what_a_killed_process_left_in_a_cache_is_durable_before_it_is_served() {
    for seed in [50, 52, 65, 69] {
        assert_lawful_history(seed);
    }
}

/// A fetch had read the headers of frames that were to be sent out of their segment's file. Before
/// it was served, another fetch in need of a file number had that file closed and the number given
/// to its own: the first one sent stretches of the other file. The kernel would have sent whatever
/// lay there, for the consumer's checks to find.
#[test]
fn what_is_sent_out_of_a_file_is_sent_out_of_its_own() {
    assert_lawful_history(20);
}

/// While a frame was in flight that more waited for than for the next one, or the first block of
/// a journal file, the commit of records that nobody waits for had a deadline in the past and
/// could not begin: the shard turned without end, for ten seconds and more if the device stalled.
/// The same happened to a device that was full and then failed.
#[test]
fn a_shard_does_not_spin_while_its_device_stalls() {
    for seed in [27, 41, 52, 67, 70] {
        assert_lawful_history(seed);
    }
}

/// After a journal write had failed, a frame that was written and waited for its flush kept its
/// deadline, which lay in the past, but no flush was ever submitted again: the shard turned for
/// ever without anything to do, at 100 % of a core.
#[test]
fn a_shard_whose_device_failed_does_not_spin() {
    for at in [18, 19, 20, 27, 29, 30, 32, 38, 43, 44] {
        let failure = Some((at, Failure::Fault(Fault::EIO)));
        for seed in 1..=4 {
            let load = Load { clients: 4, actions: 60 };
            assert_lawful(&Trial { failure, rebirths: 1, ..Trial::new(seed, load) });
        }
    }
}

/// The world took a client that went away with unread replies for one that might still read:
/// the broker's send then waited for ever, and its buffers with it. The laws called that a leak
/// of the broker's. A kernel answers with a reset, and so does the simulator now.
#[test]
fn a_client_that_leaves_unread_replies_frees_them() {
    for seed in [1007, 1011, 1016, 1017] {
        let load = Load { clients: 4, actions: 250 };
        assert_lawful(&Trial { rebirths: 0, ..Trial::new(seed, load) });
    }
}

/// Runs of three segments were in flight when the power went; the first was lost, the others were
/// not. Recovery asked only whether the newest segment continued the one before it, and took all
/// of them: behind the hole it found the records there already, and left out those that the
/// journal held for it. Now it walks back until a watermark shows that nothing is missing.
#[test]
fn a_hole_three_segments_back_is_noticed() {
    for (seed, at) in [(20_009, 200), (6004, 60)] {
        let load = Load { clients: 5, actions: 150 };
        let trial = Trial { power_loss_at: Some(at), rebirths: 2, ..Trial::new(seed, load) };
        assert_lawful(&Trial { bounds: Bounds::Varied, ..trial });
    }
}

/// Runs of many partitions stood open in every corner of the memory, none of them full, and no
/// free piece was long enough for a long batch: it waited for ever, for nothing else would have
/// sent the open runs on their way. They go now when a buffer is wanted that nothing else gives.
#[test]
fn a_long_batch_finds_room_between_open_runs() {
    let settings = Settings {
        journal_file_bytes: 1 << 20,
        journal_frame_bytes_max: 256 << 10,
        unstored_bytes_max: 8 << 20,
        ..Settings::tiny()
    };
    let mut model = Model::default();
    let mut world = World::boot(&settings, SimDisk::new(3), 3).expect("a first start");
    let mut client = SimClient::connect(&mut world, &mut model);
    until_idle(&mut world, &mut client, &mut model);
    client.create_topic(world.now(), &mut model, "t", topic::Settings::new(PARTITIONS));
    until_idle(&mut world, &mut client, &mut model);
    let Some(&Topic::Live(id, _)) = model.topics.get("t") else { panic!("created") };
    for partition in 1..PARTITIONS {
        for (to, length) in [(0, 200_000), (partition, 100)] {
            client.produce(world.now(), &mut model, &[(id, to)], Acks::Durable, &[length]);
            until_idle(&mut world, &mut client, &mut model);
        }
    }
    client.produce(world.now(), &mut model, &[(id, 0)], Acks::Durable, &[1_000_000]);
    until_idle(&mut world, &mut client, &mut model);
    assert!(model.violations().is_empty(), "{:?}", model.violations());
}

const PARTITIONS: u32 = 60;

/// Until the client is ready and has its answers.
fn until_idle(world: &mut World, client: &mut SimClient, model: &mut Model) {
    for _ in 0..60_000 {
        client.pump(world, model);
        if client.is_ready() && client.in_flight() == 0 {
            return;
        }
        let soon = world.now().plus_ns(1_000_000);
        world.turn(Some(soon)).expect("no power loss is planned");
    }
    panic!("it is never answered: {:?}", world.errors());
}

/// A segment's file that had been opened to be sent was closed for want of file numbers while a
/// reader waited, whose stream knew the next frames already. It then sent them out of a number
/// that was closed, or another file's by then, or the same segment's that was open to be read. Now
/// such a stream is given up, and its reader opens the file again.
///
/// The same seeds showed later that with few file numbers those who wait for files closed each
/// other's as soon as they were open, before anybody had used them, and so for ever. Now a file
/// that was opened stays open for the turn in which it is known.
#[test]
fn a_file_that_was_closed_while_its_reader_waited_is_opened_again() {
    for seed in [20, 1492] {
        assert_lawful_history(seed);
    }
}
