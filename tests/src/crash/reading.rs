//! Everything that a consumer is given.

use client::{ClientError, ConnectOptions, Consumer, ConsumerOptions, Position};

/// What one partition gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Offset of the first record.
    pub start: u64,
    /// The records' numbers; offsets are dense.
    pub numbers: Vec<u64>,
    /// Why reading ended before the end of the partition.
    pub failed: Option<String>,
}

/// A record's bytes: mostly small, at times large enough for the path that skips the journal.
pub fn bytes_of(number: u64) -> Vec<u8> {
    let length = match number {
        _ if number % 97 == 96 => 120_000,
        _ if number % 16 == 15 => 9_000,
        _ => 100,
    };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(length, bytes[0]);
    bytes
}

/// Reads every partition from its beginning to its end, or to the first error.
///
/// # Panics
/// If the broker does not answer, or what the client accepts is not what was sent.
pub fn read_all(address: &str, topic: &str, partitions: usize) -> Vec<Found> {
    let count = u32::try_from(partitions).expect("few");
    (0..count).map(|partition| read(address, topic, partition)).collect()
}

fn read(address: &str, topic: &str, partition: u32) -> Found {
    let connect = ConnectOptions::default();
    let options = ConsumerOptions::default();
    let mut consumer = Consumer::connect(address, &[topic], &connect, options).expect("it serves");
    let mut found = Found { start: 0, numbers: Vec::new(), failed: None };
    if let Err(error) = begin(&mut consumer, topic, partition, &mut found) {
        found.failed = Some(error.to_string());
        return found;
    }
    let end = consumer.end_offsets().expect("it answers")[0];
    while consumer.positions().any(|at| at.offset < end) {
        let records = match consumer.poll() {
            Ok(records) => records,
            Err(error) => {
                found.failed = Some(error.to_string());
                return found;
            }
        };
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    found.failed = Some(error.to_string());
                    return found;
                }
            };
            let expected = found.start + u64::try_from(found.numbers.len()).expect("fits");
            assert_eq!(record.offset, expected, "no hole");
            let value = record.value.expect("every record has a value");
            let number = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
            assert!(value == bytes_of(number), "record {number} has its bytes");
            found.numbers.push(number);
        }
    }
    found
}

fn begin(
    consumer: &mut Consumer,
    topic: &str,
    partition: u32,
    found: &mut Found,
) -> Result<(), ClientError> {
    consumer.assign(&[(topic, partition)], Position::Beginning)?;
    found.start = consumer.positions().next().map_or(0, |at| at.offset);
    Ok(())
}
