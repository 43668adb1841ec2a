//! Structures of fixed layout: offset, size, type and name of each field.

use std::mem::offset_of;

use wire::{batch, fetch, frame, hello, list_offsets, metadata, produce, topic};
use zerocopy::{big_endian as be, little_endian as le};

use crate::document;

/// A field's type as the document names it.
trait Drawn {
    fn name() -> String;
}

macro_rules! drawn {
    ($($ty:ty = $name:literal),* $(,)?) => {
        $(impl Drawn for $ty { fn name() -> String { $name.to_owned() } })*
    };
}

drawn! {
    u8 = "u8", i8 = "i8",
    le::U16 = "u16", le::U32 = "u32", le::U64 = "u64", le::I64 = "i64",
    be::I16 = "i16", be::I32 = "i32", be::I64 = "i64", be::U32 = "u32",
    topic::Settings = "settings",
}

impl<const N: usize> Drawn for [u8; N] {
    fn name() -> String {
        format!("bytes{N}")
    }
}

/// Type and size of the field that the closure points at; it is never called.
fn drawn<T, F: Drawn>(_: impl Fn(&T) -> &F) -> (usize, String) {
    (size_of::<F>(), F::name())
}

/// Draws a structure. The pattern without `..` makes a field that is missing here an error.
macro_rules! layout {
    ($module:ident::$name:ident { $($field:ident),* $(,)? }) => {{
        let _ = |value: &$module::$name| { let $module::$name { $($field: _),* } = *value; };
        let rows = vec![$({
            let (bytes, ty) = drawn(|value: &$module::$name| &value.$field);
            let offset = offset_of!($module::$name, $field);
            format!("{offset} | {bytes} | {ty} | {}", stringify!($field))
        }),*];
        let name = concat!(stringify!($module), "::", stringify!($name));
        Layout { name, bytes: size_of::<$module::$name>(), rows }
    }};
}

struct Layout {
    name: &'static str,
    bytes: usize,
    rows: Vec<String>,
}

fn layouts() -> Vec<Layout> {
    let header = layout!(frame::FrameHeader {
        magic,
        version,
        flags,
        kind,
        stream_id,
        correlation_id,
        body_bytes,
        kind_version,
        reserved,
        crc,
    });
    let mut all = vec![header];
    all.extend(connection());
    all.extend(topics());
    all.extend(data());
    all
}

fn connection() -> [Layout; 3] {
    [
        layout!(hello::ReplyHead {
            broker_id,
            boot_epoch,
            frame_body_bytes_max,
            batch_bytes_max,
            requests_in_flight_max,
            credit_bytes,
            version,
            reserved,
            kind_count,
            features,
        }),
        layout!(hello::KindVersions { kind, version_min, version_max }),
        layout!(metadata::PartitionOwner { shard, reserved, leader_epoch }),
    ]
}

fn topics() -> [Layout; 6] {
    [
        layout!(topic::Settings { partitions, visibility, reserved, flush_ms, segment_bytes }),
        layout!(topic::CreateReply { topic_id }),
        layout!(topic::DescribeHead { topic_id, settings }),
        layout!(topic::PartitionState {
            partition,
            shard,
            reserved,
            log_start_offset,
            high_watermark,
            log_end_offset,
            segment_bytes,
            segments,
            leader_epoch,
        }),
        layout!(list_offsets::RequestEntry { topic_id, partition, timestamp_ms }),
        layout!(list_offsets::ReplyEntry {
            topic_id,
            partition,
            error,
            reserved,
            offset,
            timestamp_ms,
        }),
    ]
}

fn data() -> [Layout; 10] {
    [
        layout!(produce::RequestHead {
            control_bytes,
            acks,
            flags,
            partition_count,
            timeout_ms,
            transactional_id_bytes,
            reserved,
        }),
        layout!(produce::RequestEntry { topic_id, partition, batch_bytes }),
        layout!(produce::ReplyHead { partition_count, flags, reserved }),
        layout!(produce::ReplyEntry {
            topic_id,
            partition,
            error,
            reserved,
            base_offset,
            log_start_offset,
        }),
        layout!(produce::Timing { queue_ns, append_ns, commit_ns }),
        layout!(fetch::RequestHead {
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation,
            flags,
            partition_count,
        }),
        layout!(fetch::RequestEntry {
            topic_id,
            partition,
            leader_epoch,
            offset,
            partition_max_bytes,
            reserved,
        }),
        layout!(fetch::ReplyHead { control_bytes, partition_count, reserved }),
        layout!(fetch::ReplyEntry {
            topic_id,
            partition,
            error,
            aborted_count,
            high_watermark,
            last_stable_offset,
            log_start_offset,
            batches_bytes,
            leader_epoch,
        }),
        layout!(batch::BatchHeader {
            base_offset,
            length,
            leader_epoch,
            magic,
            crc,
            attributes,
            last_offset_delta,
            base_timestamp,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count,
        }),
    ]
}

#[test]
fn every_layout_is_drawn_as_it_is() {
    for layout in layouts() {
        let heading = format!("`{}`: {} bytes", layout.name, layout.bytes);
        document::assert_lines(layout.name, &document::columns(&heading, 4), &layout.rows);
    }
}

#[test]
fn no_layout_is_drawn_that_is_not_compared() {
    let compared: Vec<&str> = layouts().into_iter().map(|layout| layout.name).collect();
    for heading in document::headings("`") {
        let name = heading.split('`').nth(1).expect("a name between backticks");
        assert!(compared.contains(&name), "`{name}` is not compared");
    }
    assert_eq!(document::headings("`").len(), compared.len(), "each is drawn once");
}
