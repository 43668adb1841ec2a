//! A queue store of which nobody knows where it ends: nothing can be recorded there, so nothing is
//! published and nothing delivered, and who asks is told so; after a repair it goes on.

use broker::io::sim::SimDisk;
use engine::Settings as Bounds;
use engine::inspect::{self, Directory};
use engine::layout::FilePath;
use engine::log::store::Store;
use pelton_tests::queue_scene::{Parcel, Reply, Scene, consume_request};
use wire::ErrorCode;
use wire::queue::{PeekRequest, PullRequest, QueueId, Settings, Verb};

use super::frames::frames;

fn bounds() -> Bounds {
    Bounds { shards: 1, ..Bounds::tiny() }
}

fn bodies(parcels: &[Parcel]) -> Vec<&str> {
    parcels.iter().map(|parcel| parcel.body.as_str()).collect()
}

/// The journal frame with the last message has lost its header, and a watermark shows that it was
/// durable.
fn headless() -> (SimDisk, QueueId) {
    let mut scene = Scene::first(1);
    let client = scene.join();
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    for body in ["1", "2", "3", "4"] {
        scene.publish(client, &queue, &[body]);
    }
    let first = scene.pull(client, &queue, 1, 100, 0).remove(0);
    assert_eq!(scene.settle(client, &queue, &first, Verb::Accept, 0), (0, 1));
    scene.publish(client, &queue, &["5"]);
    scene.pass(1000);
    let mut disk = scene.die();
    let journal = frames(&disk, |path| matches!(path, FilePath::Journal { .. }));
    let newest = journal.iter().rfind(|frame| frame.topic == Store::QUEUE_TOPIC);
    let newest = newest.expect("it was committed");
    disk.edit(&newest.path, |bytes| bytes[newest.position + 20] ^= 1);
    (disk, queue)
}

#[track_caller]
fn refused(reply: &Reply) {
    let Reply::Refused(code, detail) = reply else { panic!("it was served: {reply:?}") };
    assert_eq!(*code, ErrorCode::EndUnknown);
    assert!(detail.contains("where the queue's store ends, so"), "{detail}");
}

#[test]
fn a_store_without_a_known_end_is_shown_and_goes_on_after_a_repair() {
    let (mut disk, queue) = headless();
    for _ in 0..2 {
        let mut scene = Scene::begin(&bounds(), disk);
        let damaged = &scene.world.report.damaged;
        let told: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        let is_told =
            |told: &String| told.contains("queue store 0") && told.contains("end_unknown");
        assert!(told.iter().any(is_told), "{told:?}");
        let client = scene.join();
        refused(&scene.publish(client, &queue, &["6"]));
        let pull = PullRequest {
            queue,
            max_messages: 1.into(),
            max_bytes: u32::MAX.into(),
            wait_ms: 100.into(),
            lease_ms: 0.into(),
        };
        refused(&scene.ask(client, |session| session.pull(&pull)));
        let consume = consume_request(&queue, 10, 0);
        refused(&scene.ask(client, |session| session.consume(&consume)));
        refused(&scene.ask(client, |session| session.purge_queue("jobs")));
        let peek = PeekRequest {
            queue,
            from: 0.into(),
            max_messages: 10.into(),
            max_bytes: u32::MAX.into(),
        };
        let shown = scene.ask(client, |session| session.peek(&peek));
        let Reply::Messages(shown) = shown else { panic!("not shown: {shown:?}") };
        assert_eq!(bodies(&shown), ["2", "3", "4"]);
        // Other queues of the broker may be in other stores, and topics are; it also ends.
        assert!(scene.is_served(client));
        disk = scene.stop();
    }
    let mut directory = Directory::open(&mut disk).expect("a data directory");
    let plan = inspect::plan(&mut directory).expect("it can be read");
    assert_eq!(plan.refusal, None);
    directory.apply(&plan, 1).expect("it can be written");
    let mut scene = Scene::begin(&bounds(), disk);
    let client = scene.join();
    assert!(matches!(scene.publish(client, &queue, &["6"]), Reply::Published(_)));
    let mut come = scene.pull(client, &queue, 10, 1000, 0);
    // One pull gets what lies together.
    come.extend(scene.pull(client, &queue, 10, 1000, 0));
    assert_eq!(bodies(&come), ["2", "3", "4", "6"]);
    assert!(come[..3].iter().all(|parcel| parcel.is_again), "they may have been delivered");
    for parcel in &come {
        assert_eq!(scene.settle(client, &queue, parcel, Verb::Accept, 0), (0, 1));
    }
    let mut scene = Scene::begin(&bounds(), scene.stop());
    let client = scene.join();
    assert_eq!(scene.counts(client, "jobs").ready.get(), 0);
}
