//! The records of a batch whose length and checksum are right, so that the fuzzer gets behind
//! them: what validates can be read to its end.

use pelton_wire::batch::{BATCH_HEADER_BYTES, Batch, CRC_FROM, LENGTH_FROM};
use pelton_wire::crc::crc32c;

/// Feeds it.
pub fn run(input: &[u8]) {
    if input.len() < BATCH_HEADER_BYTES {
        return;
    }
    let mut bytes = input.to_vec();
    let length = u32::try_from(bytes.len() - LENGTH_FROM).expect("inputs are small");
    bytes[8..LENGTH_FROM].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let sum = crc32c(&bytes[CRC_FROM..]);
    bytes[17..CRC_FROM].copy_from_slice(&sum.to_be_bytes());
    if let Ok(batch) = Batch::validate(&bytes)
        && !batch.is_compressed()
    {
        for record in batch.records() {
            let record = record.expect("validate walked every record");
            assert_eq!(record.headers.count(), record.headers.len() as usize);
        }
    }
}
