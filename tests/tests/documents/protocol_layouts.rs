//! The protocol's structures: offset, size, type and name of each field.

use wire::{
    batch, delete_records, fetch, frame, hello, list_offsets, metadata, produce, queue, topic,
};

use crate::document::PROTOCOL;
use crate::drawing::{self, Layout, layout};

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
    all.extend(queues());
    all.extend(queue_transfers());
    all
}

fn queues() -> [Layout; 7] {
    [
        layout!(queue::Settings {
            flags,
            overflow,
            reserved,
            max_messages,
            max_bytes,
            message_ttl_ms,
            expires_ms,
            delivery_limit,
            lease_ms,
            consumer_timeout_ms,
            dead_letter_partition,
            dead_letter
        }),
        layout!(queue::QueueCounts {
            ready,
            leased,
            dying,
            bytes,
            next_sequence,
            consumers,
            pulls,
            accepted,
            redelivered,
            dead_lettered,
            dropped,
            unreadable
        }),
        layout!(queue::MessageHead {
            body_bytes,
            properties_bytes,
            flags,
            priority,
            ttl_ms,
            reserved,
            published_ms
        }),
        layout!(queue::DeathNote {
            origin,
            origin_sequence,
            died_ms,
            first_published_ms,
            deaths,
            deliveries,
            reason,
            reserved
        }),
        layout!(queue::SettleHead { queue, consumer, flags, reserved, row_count }),
        layout!(queue::SettleRow { first, last, lease, verb, flags, reserved, delay_ms }),
        layout!(queue::SettledRow { error, reserved, settled }),
    ]
}

fn queue_transfers() -> [Layout; 18] {
    [
        layout!(queue::PublishHead { queue, count, acks, flags, reserved }),
        layout!(queue::PublishReplyHead { first, count, flags, reserved }),
        layout!(queue::ConsumeRequest { queue, prefetch, priority, flags, reserved }),
        layout!(queue::ConsumeReply { consumer }),
        layout!(queue::RouteHead { count, acks, reserved, target_count }),
        layout!(queue::RouteTarget { id, kind, partition }),
        layout!(queue::RoutedRow { error, reserved, reserved_end, first }),
        layout!(queue::CreditRequest { messages }),
        layout!(queue::CancelRequest { queue, consumer }),
        layout!(queue::DeliverHead { queue, lease, consumer, row_count, reserved }),
        layout!(queue::DeliveredRow { first, count, deliveries, flags, bytes }),
        layout!(queue::PullRequest { queue, max_messages, max_bytes, wait_ms, lease_ms }),
        layout!(queue::PeekRequest { queue, from, max_messages, max_bytes }),
        layout!(queue::PurgeReply { removed }),
        layout!(queue::RedriveRequest { queue, max_messages }),
        layout!(queue::RedriveJobRequest { queue, verb, reserved, rate, max_messages }),
        layout!(queue::RedriveJobReply { state, rate, moved, kept, left }),
        layout!(queue::RedriveReply { moved, kept, left }),
    ]
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

fn topics() -> [Layout; 8] {
    [
        layout!(topic::Settings {
            partitions,
            visibility,
            reserved,
            flush_ms,
            segment_bytes,
            retention_ms,
            retention_bytes,
        }),
        layout!(topic::CreateReply { topic_id }),
        layout!(topic::DescribeHead { topic_id, settings }),
        layout!(topic::PartitionState {
            partition,
            shard,
            damaged_ranges,
            log_start_offset,
            high_watermark,
            log_end_offset,
            segment_bytes,
            segments,
            leader_epoch,
            damaged_from,
            damaged_to,
        }),
        layout!(delete_records::RequestEntry { topic_id, partition, reserved, before_offset }),
        layout!(delete_records::ReplyEntry {
            topic_id,
            partition,
            error,
            reserved,
            log_start_offset,
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
    drawing::compare(&PROTOCOL, &layouts());
}
