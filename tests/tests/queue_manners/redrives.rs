//! Jobs that send dead letters back.

use engine::Settings as Bounds;
use pelton_tests::queue_scene::{Reply, Scene};
use wire::ErrorCode;
use wire::queue::{
    QueueId, RedriveJobReply, RedriveJobRequest, RedriveState, RedriveVerb, Settings, Verb,
};

use super::{bodies, tell};

/// Queues with so many dead letters: jobs and dead.
fn dead_letters(scene: &mut Scene, client: usize, count: usize) -> (QueueId, QueueId) {
    let dead = scene.create(client, "dead", &Settings::new(), "");
    let jobs = scene.create(client, "jobs", &Settings::new(), "dead");
    let texts: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    scene.publish(client, &jobs, &texts);
    for parcel in scene.pull(client, &jobs, 1000, 1000, 0) {
        scene.settle(client, &jobs, &parcel, Verb::Reject, 0);
    }
    scene.pass(100);
    assert_eq!(scene.counts(client, "dead").ready.get(), u64::try_from(count).expect("small"));
    (jobs, dead)
}

fn job(
    scene: &mut Scene,
    client: usize,
    queue: &QueueId,
    verb: RedriveVerb,
    rate: u32,
) -> Result<RedriveJobReply, Reply> {
    let request = RedriveJobRequest {
        queue: *queue,
        verb: verb as u8,
        reserved: [0; 3],
        rate: rate.into(),
        max_messages: 0.into(),
    };
    match scene.ask(client, |session| session.redrive_job(&request)) {
        Reply::Job(job) => Ok(job),
        other => Err(other),
    }
}

#[test]
fn a_job_keeps_to_its_rate_and_tells_how_far_it_is() {
    tell(|scene| {
        let client = scene.join();
        let (jobs, dead) = dead_letters(scene, client, 50);
        scene.publish(client, &dead, &["never died"]);
        let none = job(scene, client, &dead, RedriveVerb::Show, 0).expect("it is shown");
        assert_eq!(none.state.get(), RedriveState::None as u32);
        job(scene, client, &dead, RedriveVerb::Start, 10).expect("it begins");
        let twice = job(scene, client, &dead, RedriveVerb::Start, 10);
        assert!(matches!(twice, Err(Reply::Refused(ErrorCode::QueueInUse, _))), "{twice:?}");
        // Whoever started it may go away.
        let other = scene.join();
        scene.leave(client);
        scene.pass(2000);
        let some = job(scene, other, &dead, RedriveVerb::Show, 0).expect("it is shown");
        assert_eq!((some.state.get(), some.rate.get()), (RedriveState::Running as u32, 10));
        assert!((15..30).contains(&some.moved.get()), "{some:?}");
        scene.pass(5000);
        let done = job(scene, other, &dead, RedriveVerb::Show, 0).expect("it is shown");
        let counts = (done.state.get(), done.moved.get(), done.kept.get(), done.left.get());
        assert_eq!(counts, (RedriveState::Done as u32, 50, 1, 1));
        let back = scene.pull(other, &jobs, 1000, 0, 0);
        assert_eq!(back.len(), 50);
        assert!(back.iter().all(|parcel| parcel.death.is_none()));
    });
}

#[test]
fn a_job_can_be_stopped_and_does_not_outlive_the_broker() {
    let mut scene = Scene::first(2);
    let client = scene.join();
    let (jobs, dead) = dead_letters(&mut scene, client, 40);
    job(&mut scene, client, &dead, RedriveVerb::Start, 10).expect("it begins");
    scene.pass(1000);
    let stopped = job(&mut scene, client, &dead, RedriveVerb::Stop, 0).expect("it ends");
    assert_ne!(stopped.state.get(), RedriveState::None as u32);
    let before = stopped.moved.get();
    scene.pass(2000);
    let later = job(&mut scene, client, &dead, RedriveVerb::Show, 0).expect("it is shown");
    assert_eq!((later.state.get(), later.moved.get()), (RedriveState::Stopped as u32, before));
    job(&mut scene, client, &dead, RedriveVerb::Start, 10).expect("it begins again");
    scene.pass(1000);
    let settings = Bounds { shards: 2, ..Bounds::tiny() };
    let mut scene = Scene::begin(&settings, scene.die());
    let client = scene.join();
    let none = job(&mut scene, client, &dead, RedriveVerb::Show, 0).expect("it is shown");
    assert_eq!(none.state.get(), RedriveState::None as u32);
    // Each is in one of the two queues, and in one only.
    let mut all = Vec::new();
    let mut back = 0;
    for queue in [&jobs, &dead] {
        back = all.len();
        // A pull is answered with what is at hand; bodies come from the disk.
        loop {
            let some = scene.pull(client, queue, 1000, 100, 0);
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
    }
    let mut texts = bodies(&all);
    texts.sort_unstable();
    texts.dedup();
    assert_eq!((all.len(), texts.len()), (40, 40));
    assert!(back >= 15, "{back} had gone back");
    assert!(scene.is_served(client));
}
