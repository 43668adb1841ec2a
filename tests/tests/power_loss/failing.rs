//! A write or a flush that fails ends its file and nothing else: what it did not take goes to
//! another file, is read back, and is acknowledged then. A failure of that is the second one, and
//! from there on nothing is taken, and everything is served.

use broker::io::sim::Failure;
use engine::Settings;
use engine::port::Fault;
use pelton_tests::model::Fate;
use pelton_tests::sim_client::State;
use wire::Acks;

use crate::life::Life;

const FAILURES: [Failure; 2] = [Failure::Fault(Fault::EIO), Failure::Short];

/// A journal of short files, so that its ring turns around.
fn settings() -> Settings {
    Settings { journal_files: 3, journal_file_bytes: 32 * 1024, ..Settings::tiny() }
}

/// Records of all lengths, for all levels of acknowledgement, some in flight together.
fn work(life: &mut Life) {
    let small = [60, 900, 3_000, 200];
    let large = [9_000, 9_500, 14_000, 30_000];
    for round in 0..20 {
        let lengths = if round % 3 == 1 { large } else { small };
        for (place, length) in lengths.into_iter().enumerate() {
            let acks = if place == 1 { Acks::Written } else { Acks::Durable };
            life.send(length, acks);
        }
        if !life.goes_on(|life| life.client.in_flight() == 0) {
            return;
        }
    }
    // Long enough to publish what is durable.
    let idle = life.world.now().plus_ns(300_000_000);
    life.goes_on(|life| life.world.now() >= idle);
}

/// How many mutations of the disk the work makes, and how many were made before it.
fn mutations() -> (u64, u64) {
    let mut life = Life::begin(settings());
    let before = life.world.disk().mutations();
    work(&mut life);
    (before, life.world.disk().mutations() - before)
}

fn failing(at: u64, failure: Failure) -> Life {
    let mut life = Life::begin(settings());
    life.world.disk().plan().mutations.insert(at, failure);
    life
}

fn assert_lawful(life: Life, what: &str) {
    let violations = life.judge();
    assert!(violations.is_empty(), "{what}: {}", violations.join("\n  "));
}

#[test]
fn after_one_failure_everything_is_acknowledged_all_the_same() {
    let (before, all) = mutations();
    assert!(all > 60, "the work does something: {all}");
    let (mut ended, mut proven) = (0, 0);
    for failure in FAILURES {
        for at in before + 1..=before + all {
            let mut life = failing(at, failure);
            work(&mut life);
            let what = format!("{failure:?} at {at}");
            assert_eq!(life.fates().1, 0, "{what}: {:?}", life.world.errors());
            assert_eq!(life.count("read_only"), 0, "{what}: {:?}", life.world.errors());
            ended += life.count("files_failed");
            proven += life.count("runs_proven");
            assert_lawful(life, &what);
        }
    }
    assert!(ended > 60 && proven > 30, "{ended} files failed, {proven} runs were read back");
}

#[test]
fn after_one_failure_a_crash_at_any_later_point_loses_nothing_acknowledged() {
    let (before, all) = mutations();
    for at in (before + 1..=before + all).step_by(5) {
        let mut later = at + 1;
        loop {
            let mut life = failing(at, FAILURES[usize::from(at % 2 == 0)]);
            life.world.disk().plan().power_loss_at = Some(later);
            work(&mut life);
            let has_ended = !life.world.disk().is_off();
            assert_lawful(life, &format!("failure at {at}, power loss at {later}"));
            if has_ended {
                break;
            }
            later += 1 + (at + later) % 3;
        }
    }
}

#[test]
fn a_second_failure_makes_the_shard_read_only_and_takes_nothing_back() {
    let (before, all) = mutations();
    let mut ended = 0;
    for at in before + 1..=before + all {
        let mut life = Life::begin(settings());
        let fault = [Fault::EIO, Fault::EROFS][usize::from(at % 2 == 0)];
        let plan = (at..at + 10_000).map(|at| (at, Failure::Fault(fault)));
        life.world.disk().plan().mutations.extend(plan);
        work(&mut life);
        let what = format!("{fault:?} from {at} on");
        if life.count("read_only") == 1 {
            ended += 1;
            let errors = life.world.errors();
            let told = errors.iter().filter(|error| error.contains("read-only until")).count();
            assert_eq!(told, 1, "{what}: {errors:?}");
            assert_eq!(life.client.state, State::Open, "{what}: the connection lives");
            let now = life.world.now();
            let code = wire::ErrorCode::ReadOnly.number();
            assert_eq!(life.produce(100), Some(Fate::Refused(code)), "{what}");
            assert!(life.world.now().since(now) < 10_000_000, "{what}: at once");
        }
        assert_lawful(life, &what);
    }
    assert!(ended > all * 3 / 4, "{ended} of {all} lives ended read-only");
}

#[test]
fn what_cannot_be_read_back_is_a_second_failure() {
    let (before, all) = mutations();
    let mut ended = 0;
    for at in before + 1..=before + all {
        let mut life = failing(at, Failure::Fault(Fault::EIO));
        let reads = life.world.disk().reads();
        life.world.disk().plan().reads.insert(reads + 1, Fault::EIO);
        work(&mut life);
        ended += life.count("read_only");
        assert_lawful(life, &format!("failure at {at}, and of the first read"));
    }
    assert!(ended > all / 2, "{ended} of {all} lives ended read-only");
}

#[test]
fn a_stalled_device_is_named_once_and_loses_nobody() {
    const STALL_NS: u64 = 25_000_000_000;
    let mut life = Life::begin(settings());
    work(&mut life);
    let begins = life.world.now();
    life.world.io(0).hold_files(begins.plus_ns(STALL_NS));
    for length in [100, 9_000, 300, 14_000] {
        life.send(length, Acks::Durable);
    }
    life.until(|life| life.client.in_flight() == 0);
    assert!(life.world.now().since(begins) >= STALL_NS, "everything waited for the device");
    assert_eq!((life.fates().1, life.count("device_stalls")), (0, 1));
    assert_eq!(life.client.state, State::Open, "nobody was thrown out");
    let told = |text: &str| {
        let named = life.world.notices.iter().filter(|notice| notice.text.contains(text));
        named.map(|notice| notice.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("has completed nothing for 10 s").len(), 1, "{:?}", life.world.notices);
    let ends = told("completes again, after");
    assert_eq!(ends.len(), 1, "{:?}", life.world.notices);
    let seconds: Vec<u64> = ends[0].split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(matches!(seconds[..], [25..=60]), "{ends:?}");
    assert_lawful(life, "a stall");
}
