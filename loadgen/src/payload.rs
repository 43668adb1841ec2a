//! What a record's value holds: a 40-byte header that makes every record accountable, then filler.
//!
//! ```text
//! offset  0  magic         u32   "PBEN"
//!         4  run           u32   the run that produced it
//!         8  producer      u16
//!        10  partition     u16
//!        12  delay         u32   from intended_ns to the beginning of its request, in 64 ns
//!        16  sequence      u64   dense per (producer, partition), from 0
//!        24  intended_ns   u64   CLOCK_MONOTONIC time at which the schedule wanted it sent
//!        32  length        u32   bytes of the whole value
//!        36  crc           u32   CRC32C of bytes 0..36 and 40..length
//!        40  filler              the same seeded bytes in every record of a run
//! ```
//! All integers are little-endian. The filler never changes, so its share of the CRC is computed
//! once: encoding costs a CRC of 36 bytes, whatever the size of the record.

use std::fmt;

/// Bytes of the header; the smallest record value that can carry one.
pub const HEADER_LEN: usize = 40;
const CRC_AT: usize = 36;
const MAGIC: u32 = u32::from_le_bytes(*b"PBEN");

/// The identity of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The run that produced the record.
    pub run: u32,
    /// Index of the producer within the run.
    pub producer: u32,
    /// Index of the partition.
    pub partition: u32,
    /// Position within (producer, partition), dense from 0.
    pub sequence: u64,
    /// `CLOCK_MONOTONIC` nanoseconds at which the schedule wanted the record sent.
    pub intended_ns: u64,
    /// When the request that carries it was begun, to the nearest 64 ns below; not before
    /// `intended_ns`, and at most 274 s after it.
    pub sent_ns: u64,
}

/// Unit of the delay.
const DELAY_UNIT_NS: u64 = 64;

/// Why a value is not a record of this load generator, or is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// Shorter than the header.
    TooShort,
    /// The magic does not match.
    BadMagic,
    /// The length in the header is not the length of the value.
    BadLength,
    /// The CRC does not match.
    BadCrc,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "value is shorter than its 40-byte header",
            Self::BadMagic => "value does not begin with the magic of a benchmark record",
            Self::BadLength => "length in the header is not that of the value",
            Self::BadCrc => "CRC of the value does not match",
        })
    }
}

impl std::error::Error for PayloadError {}

/// Encodes values of one size: holds the filler, its CRC, and the table that joins the two CRCs.
pub struct Encoder {
    len: u32,
    filler: Box<[u8]>,
    filler_crc: u32,
    shift: Box<ShiftTable>,
}

impl Encoder {
    /// An encoder of values of `len` bytes (at least [`HEADER_LEN`]), with filler from `seed`.
    #[must_use]
    pub fn new(len: u32, seed: u64) -> Self {
        let filler_len = (len as usize).checked_sub(HEADER_LEN).expect("a value holds its header");
        let filler = filler(filler_len, seed);
        let filler_crc = wire::crc::crc32c(&filler);
        Self { len, shift: Box::new(ShiftTable::new(filler_len)), filler, filler_crc }
    }

    /// Bytes of each value.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.len as usize
    }

    /// Writes the filler into `value`; once per slot of a batch template is enough.
    ///
    /// # Panics
    /// If `value` has another length than [`Self::value_len`].
    pub fn fill(&self, value: &mut [u8]) {
        value[HEADER_LEN..].copy_from_slice(&self.filler);
    }

    /// Writes `header` and the CRC in front of filler that [`Self::fill`] has put there.
    ///
    /// # Panics
    /// If `value` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn encode(&self, value: &mut [u8], header: &Header) {
        let value: &mut [u8; HEADER_LEN] =
            value.first_chunk_mut().expect("the value holds its header");
        header.write(self.len, value);
        let crc = self.shift.apply(wire::crc::crc32c(&value[..CRC_AT])) ^ self.filler_crc;
        value[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Writes `header` and the CRC in front of filler of any kind; costs a CRC of the whole value.
///
/// # Panics
/// If `value` is shorter than [`HEADER_LEN`] or longer than a u32 counts.
pub fn encode_over(value: &mut [u8], header: &Header) {
    let len = u32::try_from(value.len()).expect("values are far below 4 GiB");
    let (head, filler) = value.split_first_chunk_mut().expect("the value holds its header");
    header.write(len, head);
    let crc = wire::crc::crc32c_append(wire::crc::crc32c(&head[..CRC_AT]), filler);
    head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

impl Header {
    /// Writes all but the CRC.
    #[inline]
    fn write(&self, len: u32, value: &mut [u8; HEADER_LEN]) {
        value[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        value[4..8].copy_from_slice(&self.run.to_le_bytes());
        let number = |number: u32| u16::try_from(number).expect("limits are far below 2^16");
        value[8..10].copy_from_slice(&number(self.producer).to_le_bytes());
        value[10..12].copy_from_slice(&number(self.partition).to_le_bytes());
        let delay = self.sent_ns.saturating_sub(self.intended_ns) / DELAY_UNIT_NS;
        let delay = u32::try_from(delay).unwrap_or(u32::MAX);
        value[12..16].copy_from_slice(&delay.to_le_bytes());
        value[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        value[24..32].copy_from_slice(&self.intended_ns.to_le_bytes());
        value[32..36].copy_from_slice(&len.to_le_bytes());
    }
}

/// Reads the header of `value` and proves that no byte of it has changed.
#[inline]
pub fn verify(value: &[u8]) -> Result<Header, PayloadError> {
    let (head, filler) = value.split_first_chunk::<HEADER_LEN>().ok_or(PayloadError::TooShort)?;
    if u32_at(head, 0) != MAGIC {
        return Err(PayloadError::BadMagic);
    }
    if u32_at(head, 32) as usize != value.len() {
        return Err(PayloadError::BadLength);
    }
    let crc = wire::crc::crc32c_append(wire::crc::crc32c(&head[..CRC_AT]), filler);
    if crc != u32_at(head, CRC_AT) {
        return Err(PayloadError::BadCrc);
    }
    let intended_ns = u64_at(head, 24);
    Ok(Header {
        run: u32_at(head, 4),
        producer: u32_at(head, 8) & 0xFFFF,
        partition: u32_at(head, 8) >> 16,
        sequence: u64_at(head, 16),
        intended_ns,
        sent_ns: intended_ns.saturating_add(u64::from(u32_at(head, 12)) * DELAY_UNIT_NS),
    })
}

#[inline]
fn u32_at(head: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
fn u64_at(head: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"))
}

/// Seeded bytes (splitmix64), which no device can compress.
fn filler(len: usize, seed: u64) -> Box<[u8]> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into_boxed_slice()
}

/// The linear map that turns the CRC of A into its share of the CRC of A then B, for one fixed
/// length of B: one table of 256 entries per byte of the CRC.
struct ShiftTable([[u32; 256]; 4]);

impl ShiftTable {
    fn new(len: usize) -> Self {
        let mut basis = [0u32; 32];
        for (bit, column) in basis.iter_mut().enumerate() {
            *column = wire::crc::crc32c_combine(1 << bit, 0, len);
        }
        let mut table = [[0u32; 256]; 4];
        for (byte, entries) in table.iter_mut().enumerate() {
            for (value, entry) in entries.iter_mut().enumerate() {
                *entry = (0..8)
                    .filter(|bit| value >> bit & 1 == 1)
                    .fold(0, |sum, bit| sum ^ basis[byte * 8 + bit]);
            }
        }
        Self(table)
    }

    #[inline]
    fn apply(&self, crc: u32) -> u32 {
        let [a, b, c, d] = crc.to_le_bytes();
        self.0[0][usize::from(a)]
            ^ self.0[1][usize::from(b)]
            ^ self.0[2][usize::from(c)]
            ^ self.0[3][usize::from(d)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(len: u32, header: &Header) -> Vec<u8> {
        let encoder = Encoder::new(len, 7);
        let mut value = vec![0; encoder.value_len()];
        encoder.fill(&mut value);
        encoder.encode(&mut value, header);
        value
    }

    proptest! {
        #[test]
        fn round_trip_and_every_flip_is_seen(
            len in 40u32..3000, run: u32, producer: u16, partition: u16, sequence: u64,
            intended_ns in 0u64..1 << 60, delay: u32, flip: usize,
        ) {
            let (producer, partition) = (u32::from(producer), u32::from(partition));
            let sent_ns = intended_ns + u64::from(delay) * DELAY_UNIT_NS;
            let header = Header { run, producer, partition, sequence, intended_ns, sent_ns };
            let mut value = encoded(len, &header);
            prop_assert_eq!(verify(&value), Ok(header));
            let bit = flip % (value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify(&value).is_err());
        }

        #[test]
        fn verify_never_panics(value in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = verify(&value);
        }
    }

    #[test]
    fn truncated_and_extended_values_are_refused() {
        let header =
            Header { run: 1, producer: 2, partition: 3, sequence: 4, intended_ns: 5, sent_ns: 5 };
        let mut value = encoded(100, &header);
        assert_eq!(verify(&value[..39]), Err(PayloadError::TooShort));
        assert_eq!(verify(&value[..99]), Err(PayloadError::BadLength));
        value.push(0);
        assert_eq!(verify(&value), Err(PayloadError::BadLength));
    }

    #[test]
    fn seeds_give_different_filler() {
        assert_ne!(filler(64, 1), filler(64, 2));
        assert_eq!(filler(64, 1)[..13], *filler(13, 1));
    }
}
