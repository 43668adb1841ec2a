//! Records of a queue store: arbitrary bytes, and records whose heads, rows and facts are of the
//! input's choice, with right lengths. Each is read in every way, and a recovery replays them.

use pelton_engine::port::Time;
use pelton_engine::queue::queues::Queue;
use pelton_engine::queue::record::{RECORD_HEAD_BYTES, Record, RecordHead, RecordKind, invalid};
use pelton_engine::queue::recover::Recovery;
use pelton_wire::queue::{QueueId, Settings};
use zerocopy::IntoBytes;

/// Bytes of the input that make one record.
const STEP_BYTES: usize = 24;
/// Queues that there are; records may name another one.
const QUEUES: u8 = 3;

/// Feeds it.
pub fn run(input: &[u8]) {
    let Some((&how, bytes)) = input.split_first() else { return };
    if how.is_multiple_of(2) {
        look(bytes);
    } else {
        let records = bytes.as_chunks::<STEP_BYTES>().0.iter().flat_map(record);
        look(&records.collect::<Vec<u8>>());
    }
}

fn look(bytes: &[u8]) {
    let id = |number: u8| -> QueueId { [number; 16] };
    let mut recovery = Recovery::default();
    for number in 0..QUEUES {
        let queue = Queue::new(id(number), Settings::new(), 0, Time(1));
        recovery.queues.insert(id(number), queue);
    }
    let (mut rest, mut count) = (bytes, 0);
    while let Some((record, tail)) = Record::split(rest) {
        assert_eq!(rest.len() - tail.len(), RECORD_HEAD_BYTES + record.data.len(), "dense");
        let rows = size_of_val(record.rows()).max(size_of_val(record.facts()));
        assert!(rows <= record.data.len(), "inside the record");
        for number in 0..=QUEUES {
            let messages = record.messages_of(&id(number)).map_or(0, |(_, bytes)| bytes.len());
            assert!(messages <= record.data.len(), "inside the record");
        }
        let _ = (record.reason(), record.moved());
        recovery.replay(count, &record);
        count += 1;
        rest = tail;
    }
    let told = u32::try_from(count).expect("few");
    assert_eq!(invalid(bytes, told).is_none(), rest.is_empty(), "as many as were read");
    recovery.finish(1);
    let _ = recovery.messages_alive();
}

/// A record with a right length.
fn record(step: &[u8; STEP_BYTES]) -> Vec<u8> {
    let [kind, flags, queue, first, count, bytes, cut, shift, numbers @ ..] = *step;
    let number = |byte: u8| u64::from(byte) << (shift % 40);
    let kinds = RecordKind::ALL;
    let mut data: Vec<u8> = Vec::new();
    for pair in numbers.as_chunks::<2>().0 {
        let row = [number(pair[0]), number(pair[0]) + number(pair[1] % 16)];
        if kinds[usize::from(kind) % kinds.len()] == RecordKind::CheckpointPart {
            data.extend_from_slice(&u32::from(pair[0] % 6).to_le_bytes());
            data.extend_from_slice(&u32::from(pair[1] % 7).to_le_bytes());
        }
        data.extend_from_slice(row.as_bytes());
    }
    data.truncate(data.len() - usize::from(cut) % 64);
    let kind = kinds[usize::from(kind) % kinds.len()];
    let mut head = RecordHead::new(kind, [queue % (QUEUES + 1); 16], data.len());
    head.flags = flags;
    head.reason = u16::from(bytes % 5).into();
    head.first = match kind {
        RecordKind::Shared => u64::from(first % 8).into(),
        _ => number(first).into(),
    };
    head.count = u32::from(count).into();
    head.bytes = u64::from(bytes).into();
    [head.as_bytes(), &data].concat()
}
