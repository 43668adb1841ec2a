//! Leases: extended, given back at once or after a while, ended.

use engine::Settings as Bounds;
use pelton_tests::queue_scene::{Reply, Scene, settle_row};
use wire::ErrorCode;
use wire::queue::{SETTLE_UP_TO, Settings, SettleRow, Verb};

use super::{bodies, tell};

#[test]
fn an_extended_lease_goes_on_and_then_ends() {
    tell(|scene| {
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        scene.publish(client, &queue, &["1"]);
        let first = scene.pull(client, &queue, 1, 0, 1000).remove(0);
        scene.pass(800);
        assert_eq!(scene.settle(client, &queue, &first, Verb::Extend, 2000), (0, 1));
        scene.pass(1500);
        assert!(scene.pull(client, &queue, 1, 0, 1000).is_empty(), "it is still leased");
        // A pull that waits gets it the moment that the lease ends.
        let again = scene.pull(client, &queue, 1, 5000, 1000).remove(0);
        assert_eq!((again.deliveries, again.is_again), (2, true));
        let ended = scene.settle(client, &queue, &first, Verb::Accept, 0);
        assert_eq!(ended, (ErrorCode::LeaseEnded.number(), 0), "another has it now");
        let ended = scene.settle(client, &queue, &first, Verb::Extend, 1000);
        assert_eq!(ended, (ErrorCode::LeaseEnded.number(), 0));
        assert_eq!(scene.settle(client, &queue, &again, Verb::Accept, 0), (0, 1));
        let unknown = scene.settle(client, &queue, &again, Verb::Accept, 0);
        assert_eq!(unknown, (ErrorCode::UnknownDelivery.number(), 0));
        assert!(scene.is_served(client));
    });
}

#[test]
fn what_is_released_comes_back_at_once_or_after_its_time() {
    tell(|scene| {
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        scene.publish(client, &queue, &["1", "2", "3"]);
        let some = scene.pull(client, &queue, 2, 0, 0);
        assert_eq!(scene.settle(client, &queue, &some[1], Verb::Release, 0), (0, 1));
        assert_eq!(scene.settle(client, &queue, &some[0], Verb::Release, 3000), (0, 1));
        scene.pass(20);
        let rest = scene.pull(client, &queue, 10, 0, 0);
        assert_eq!(bodies(&rest), ["2", "3"], "it has its place back");
        assert_eq!((rest[0].deliveries, rest[1].deliveries), (2, 1));
        assert_eq!(scene.counts(client, "jobs").ready.get(), 1, "the one that stays away counts");
        scene.pass(2000);
        assert!(scene.pull(client, &queue, 10, 0, 0).is_empty(), "its time has not come");
        let late = scene.pull(client, &queue, 10, 5000, 0);
        assert_eq!((bodies(&late), late[0].deliveries), (vec!["1"], 2));
    });
}

#[test]
fn many_are_settled_at_once_and_up_to_one() {
    tell(|scene| {
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        scene.publish(client, &queue, &["1", "2", "3", "4", "5"]);
        let consumer = scene.consume(client, &queue, 10, 0);
        scene.pass(50);
        assert_eq!(scene.bodies(client).len(), 5);
        let row = |first: u64, last: u64, flags| SettleRow {
            first: first.into(),
            last: last.into(),
            lease: 0.into(),
            verb: Verb::Accept as u8,
            flags,
            reserved: 0.into(),
            delay_ms: 0.into(),
        };
        let rows = [row(1, 1, 0), row(0, 3, SETTLE_UP_TO), row(3, 4, 0)];
        let reply = scene.ask(client, |session| session.settle(&queue, consumer, &rows));
        let partly = ErrorCode::LeaseEnded.number();
        let unknown = ErrorCode::UnknownDelivery.number();
        let Reply::Settled(rows) = reply else { panic!("{reply:?}") };
        assert_eq!(rows[..2], [(0, 1), (0, 3)]);
        assert!(rows[2].0 == partly || rows[2].0 == unknown, "one of them was gone: {rows:?}");
        assert_eq!(rows[2].1, 1, "and the other one is done");
        assert_eq!(scene.counts(client, "jobs").leased.get(), 0);
        assert_eq!(scene.counts(client, "jobs").bytes.get(), 0);
    });
}

#[test]
fn what_was_accepted_quietly_is_gone_for_good_once_a_settle_without_rows_is_answered() {
    for shards in [1, 2, 2] {
        let mut scene = Scene::first(shards);
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        scene.consume(client, &queue, 10, 0);
        scene.publish(client, &queue, &["1", "2"]);
        scene.pass(50);
        let parcels = scene.pushed(client);
        let rows: Vec<SettleRow> =
            parcels.iter().map(|parcel| settle_row(parcel, Verb::Accept, 0)).collect();
        let consumer = parcels[0].consumer;
        let answer = scene.ask(client, |session| {
            session.settle_quietly(&queue, consumer, &rows)?;
            session.settle(&queue, 0, &[])
        });
        assert_eq!(answer, Reply::Settled(Vec::new()));
        let settings = Bounds { shards, ..Bounds::tiny() };
        let mut scene = Scene::begin(&settings, scene.die());
        assert_eq!(scene.world.report.queue_messages, 0);
        let client = scene.join();
        assert!(scene.pull(client, &queue, 10, 100, 0).is_empty());
        let again = scene.ask(client, |session| session.settle(&queue, 0, &[]));
        assert_eq!(again, Reply::Settled(Vec::new()), "there is nothing to wait for");
    }
}
