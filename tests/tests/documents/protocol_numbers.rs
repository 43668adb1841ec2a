//! The protocol's kinds, error codes, flags, levels and limits.

use wire::topic::Visibility;
use wire::{Acks, ErrorCode, Kind, frame, limits, list_offsets, queue, topic};

use crate::document::{self, PROTOCOL};

#[test]
fn kinds_are_the_ones_listed() {
    let row = |kind: Kind| {
        let versions = kind.served().map_or("reserved".to_owned(), |range| {
            format!("{} to {}", range.version_min, range.version_max)
        });
        format!("{} | {kind:?} | {versions}", kind.number())
    };
    let code: Vec<String> = Kind::ALL.into_iter().map(row).collect();
    document::assert_lines("kinds", &PROTOCOL.columns("Kinds", 3), &code);
}

#[test]
fn error_codes_are_the_ones_listed() {
    let row = |code: &ErrorCode| {
        let number = match code.is_retriable() {
            true => format!("{:#06x}", code.number()),
            false => code.number().to_string(),
        };
        let class = if code.is_retriable() { "retriable" } else { "fatal" };
        let sqs = if code.sqs().is_empty() { "–" } else { code.sqs() };
        let (name, kafka, amqp) = (code.name(), code.kafka(), code.amqp());
        format!("{number} | {name} | {class} | {kafka} | {amqp} | {sqs}")
    };
    let code: Vec<String> = ErrorCode::ALL.iter().map(row).collect();
    document::assert_lines("error codes", &PROTOCOL.columns("Error codes", 6), &code);
}

#[test]
fn flags_and_levels_are_the_ones_listed() {
    let flags = [
        format!("{} | FLAG_REPLY", frame::FLAG_REPLY),
        format!("{} | FLAG_ERROR", frame::FLAG_ERROR),
        format!("{} | FLAG_BATCHES", frame::FLAG_BATCHES),
    ];
    document::assert_lines("flags", &PROTOCOL.columns("Frame flags", 2), &flags);
    assert_eq!(frame::FLAGS_KNOWN.count_ones(), 3, "every known flag is listed");

    let acks: Vec<String> = (0..=u8::MAX)
        .filter_map(|byte| Some(format!("{byte} | {}", Acks::from_u8(byte)?.name())))
        .collect();
    document::assert_lines("acks", &PROTOCOL.columns("Acks", 2), &acks);

    let visibility: Vec<String> = (0..=u8::MAX)
        .filter_map(|byte| Some(format!("{byte} | {}", Visibility::from_u8(byte)?.name())))
        .collect();
    document::assert_lines("visibility", &PROTOCOL.columns("Visibility", 2), &visibility);

    let changes = [
        format!("{} | CHANGE_FLUSH", topic::CHANGE_FLUSH),
        format!("{} | CHANGE_SEGMENT_BYTES", topic::CHANGE_SEGMENT_BYTES),
        format!("{} | CHANGE_RETENTION", topic::CHANGE_RETENTION),
        format!("{} | CHANGE_RETENTION_BYTES", topic::CHANGE_RETENTION_BYTES),
    ];
    document::assert_lines("changes", &PROTOCOL.columns("Changes", 2), &changes);
    assert_eq!(topic::CHANGES_ALL.count_ones(), 4, "every change is listed");

    let timestamps = [
        format!("{} | TIMESTAMP_LATEST", list_offsets::TIMESTAMP_LATEST),
        format!("{} | TIMESTAMP_EARLIEST", list_offsets::TIMESTAMP_EARLIEST),
    ];
    let listed = PROTOCOL.columns("Timestamps with a meaning", 2);
    document::assert_lines("timestamps", &listed, &timestamps);
}

#[test]
fn what_queues_can_be_told_is_listed() {
    let flags = [
        format!("{} | QUEUE_TRANSIENT", queue::QUEUE_TRANSIENT),
        format!("{} | QUEUE_EXCLUSIVE", queue::QUEUE_EXCLUSIVE),
        format!("{} | QUEUE_AUTO_DELETE", queue::QUEUE_AUTO_DELETE),
        format!("{} | QUEUE_SINGLE_ACTIVE", queue::QUEUE_SINGLE_ACTIVE),
        format!("{} | QUEUE_DEAD_LETTER_TOPIC", queue::QUEUE_DEAD_LETTER_TOPIC),
    ];
    document::assert_lines("queue flags", &PROTOCOL.columns("Queue flags", 2), &flags);
    assert_eq!(queue::QUEUE_FLAGS_ALL.count_ones(), 5, "every flag is listed");
    let overflow =
        queue::Overflow::ALL.map(|choice| format!("{} | {}", choice as u8, choice.name()));
    document::assert_lines("overflow", &PROTOCOL.columns("Overflow", 2), &overflow);
    let reasons = queue::Reason::ALL.map(|reason| format!("{} | {}", reason as u8, reason.name()));
    document::assert_lines("reasons", &PROTOCOL.columns("Reasons of death", 2), &reasons);
    let verbs = queue::Verb::ALL.map(|verb| format!("{} | {verb:?}", verb as u8));
    document::assert_lines("verbs", &PROTOCOL.columns("Verbs", 2), &verbs);
}

macro_rules! limit_rows {
    ($($name:ident),* $(,)?) => {
        vec![$(format!("{} | {}", stringify!($name), limits::$name)),*]
    };
}

#[test]
fn limits_are_the_ones_listed() {
    let code = limit_rows![
        FRAME_MAGIC,
        FRAME_VERSION,
        FRAME_HEADER_BYTES,
        HELLO_FRAME_BYTES_MAX,
        FRAME_BODY_BYTES_MAX,
        CONTROL_BYTES_MAX,
        BATCH_BYTES_MAX,
        BATCH_RECORDS_MAX,
        REQUEST_PARTITIONS_MAX,
        TOPIC_NAME_BYTES_MAX,
        TOPIC_PARTITIONS_MAX,
        CLIENT_NAME_BYTES_MAX,
        ERROR_DETAIL_BYTES_MAX,
        DEAD_LETTER_BYTES_MAX,
        MESSAGE_BYTES_MAX,
        PUBLISH_MESSAGES_MAX,
        ROUTE_TARGETS_MAX,
        SETTLE_ROWS_MAX,
    ];
    document::assert_lines("limits", &PROTOCOL.columns("Limits", 2), &code);
    let source = include_str!("../../../wire/src/limits.rs");
    let names =
        source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    for name in names {
        assert!(code.iter().any(|row| row.starts_with(&format!("{name} |"))), "{name} is listed");
    }
}
