//! Decoders meet arbitrary, mutated and lying bytes: they refuse or accept, and never panic.

mod every_decoder;
mod samples;

use every_decoder::decode_as_everything;
use pelton_wire::FrameHeader;
use pelton_wire::batch::{Batch, CRC_FROM};
use pelton_wire::crc;
use pelton_wire::limits::FRAME_HEADER_BYTES;
use proptest::prelude::*;
use proptest::sample::Index;
use samples::{batch, samples};
use zerocopy::FromBytes;

/// One way to spoil bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    /// A number where a count or length may stand.
    Number(Index, u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![Just(u32::MAX), Just(0x7fff_ffff), Just(0), 0..1025u32, any::<u32>()];
    prop_oneof![
        (any::<Index>(), 1..=u8::MAX).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Remove(from, to)),
        (any::<Index>(), number).prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, damage: &Damage) {
    let end = bytes.len();
    if end == 0 {
        return;
    }
    match damage {
        Damage::Flip(at, bits) => bytes[at.index(end)] ^= bits,
        Damage::Cut(at) => bytes.truncate(at.index(end)),
        Damage::Insert(at, more) => {
            let at = at.index(end);
            bytes.splice(at..at, more.iter().copied());
        }
        Damage::Remove(from, to) => {
            let (from, to) = (from.index(end), to.index(end));
            bytes.drain(from.min(to)..from.max(to));
        }
        Damage::Number(at, number) => {
            let at = at.index(end);
            let room = (end - at).min(4);
            bytes[at..at + room].copy_from_slice(&number.to_le_bytes()[..room]);
        }
    }
}

/// Puts the right checksum on a frame, so that damage behind it is reached.
fn seal_frame(bytes: &mut [u8]) {
    let Some((head, body)) = bytes.split_at_mut_checked(FRAME_HEADER_BYTES) else { return };
    let header = FrameHeader::mut_from_bytes(head).expect("exactly a header");
    let covered = header.covered(body).unwrap_or(body);
    let sum = crc::crc32c(&[&zerocopy::IntoBytes::as_bytes(header)[..28], covered].concat());
    header.crc = sum.into();
}

/// Puts the right length and checksum on a batch.
fn seal_batch(bytes: &mut [u8]) {
    if bytes.len() > CRC_FROM {
        let length = u32::try_from(bytes.len() - 12).expect("small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let sum = crc::crc32c(&bytes[CRC_FROM..]);
        bytes[17..CRC_FROM].copy_from_slice(&sum.to_be_bytes());
    }
}

#[test]
fn every_sample_is_accepted_by_a_decoder() {
    for sample in samples() {
        assert!(decode_as_everything(&sample) > 0, "{sample:02x?}");
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_survived() {
    for sample in samples() {
        for end in 0..sample.len() {
            decode_as_everything(&sample[..end]);
        }
        for bit in 0..sample.len() * 8 {
            let mut bytes = sample.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            decode_as_everything(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn small_numbers_never_panic(bytes in prop::collection::vec(0..4u8, 0..256)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn damaged_bodies_and_frames_never_panic(
        sample in prop::sample::select(samples()),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut bytes = sample;
        damages.iter().for_each(|damage| spoil(&mut bytes, damage));
        decode_as_everything(&bytes);
        seal_frame(&mut bytes);
        decode_as_everything(&bytes);
    }

    /// Behind a right checksum stand lies about lengths and counts: what validates can be read.
    #[test]
    fn sealed_lies_are_refused_or_readable(damages in prop::collection::vec(damage(), 1..4)) {
        let mut bytes = batch();
        damages.iter().for_each(|damage| spoil(&mut bytes, damage));
        seal_batch(&mut bytes);
        if let Ok(batch) = Batch::validate(&bytes) && !batch.is_compressed() {
            let records: Result<Vec<_>, _> = batch.records().collect();
            let records = records.map_err(TestCaseError::fail)?;
            prop_assert_eq!(u32::try_from(records.len()).ok(), Some(batch.record_count()));
            for record in records {
                let headers = u32::try_from(record.headers.count()).ok();
                prop_assert_eq!(headers, Some(record.headers.len()));
            }
        }
    }

    /// The implementation in use and the other one agree, whole and in pieces.
    #[test]
    fn checksums_agree(bytes in prop::collection::vec(any::<u8>(), 0..4096), at in any::<Index>()) {
        let rival = crc32c::crc32c(&bytes);
        prop_assert_eq!(crc::crc32c(&bytes), rival);
        let (head, tail) = bytes.split_at(if bytes.is_empty() { 0 } else { at.index(bytes.len()) });
        let (first, second) = (crc::crc32c(head), crc::crc32c(tail));
        prop_assert_eq!(crc::crc32c_append(first, tail), rival);
        prop_assert_eq!(crc::crc32c_combine(first, second, tail.len()), rival);
    }
}
