//! The glommio backend as a user meets it: it keeps what it acknowledges, and says what it is.

use pelton_tests::broker::Broker;
use pelton_tests::program;
use tempfile::tempdir;

const FLAG: &str = "--io=glommio";

#[test]
fn glommio_delivers_at_every_level_and_keeps_it_over_a_restart() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::try_start(dir.path(), &[FLAG]).expect("glommio is in the default build");
    assert!(broker.log().contains("io        glommio"), "{}", broker.log());
    broker.run(&["topic", "create", "t"], b"").expect_success();
    let mut input = String::new();
    for acks in ["none", "memory", "written", "durable"] {
        let line = format!("{acks}\n");
        broker.run(&["produce", "t", "--acks", acks], line.as_bytes()).expect_success();
        input += &line;
    }
    // Lines that take the direct path, and are read back from the disk after the restart.
    let letters = ('a'..='z').map(|letter| letter.to_string().repeat(200_000) + "\n");
    let large: String = letters.collect();
    broker.run(&["produce", "t", "--batch", "512KiB"], large.as_bytes()).expect_success();
    input += &large;
    assert_eq!(broker.stop().code, Some(0));

    // What one backend wrote, the other reads.
    for flags in [&[FLAG][..], &[]] {
        let broker = Broker::try_start(dir.path(), flags).expect("it starts again");
        let read = broker.run(&["consume", "t", "--exit-at-end"], b"").expect_success();
        assert!(read == input, "the same bytes in the same order with {flags:?}");
    }
}

#[test]
fn several_cores_and_unknown_backends_are_refused() {
    let dir = tempdir().expect("a folder");
    let data_dir = format!("--data-dir={}", dir.path().display());
    for (flags, sentence) in [
        (&[FLAG, "--cores=0,1"][..], "one shard only"),
        (&["--io=epoll"], "expected uring or glommio"),
    ] {
        let finished = program::run(&[&["serve", &data_dir], flags].concat(), b"");
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(sentence), "{}", finished.stderr);
    }
}
