//! Zigzag varints, as Kafka's records use them.

/// Appends `value`.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(low_byte(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_byte(rest));
}

/// How many bytes `value` takes, 1 to 10.
pub const fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Reads a value off the front of `bytes`; gives it and how many bytes it took. `None` if the
/// bytes end first or it does not end within ten.
#[inline]
pub fn read_varint(bytes: &[u8]) -> Option<(i64, usize)> {
    // Nearly all of a record's numbers have one byte or two.
    let first = u64::from(*bytes.first()?);
    if first < 0x80 {
        return Some((unzigzag(first), 1));
    }
    let second = u64::from(*bytes.get(1)?);
    if second < 0x80 {
        return Some((unzigzag(first & 0x7f | second << 7), 2));
    }
    read_long_varint(bytes)
}

fn read_long_varint(bytes: &[u8]) -> Option<(i64, usize)> {
    let (mut value, mut shift) = (0, 0);
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // The tenth byte holds one bit only; more would have been shifted out silently.
            return (index < 9 || byte <= 1).then_some((unzigzag(value), index + 1));
        }
        shift += 7;
    }
    None
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_length_agree() {
        for shift in 0..64 {
            for value in [1i64 << shift, (1i64 << shift).wrapping_sub(1), -(1i64 << shift.min(62))]
            {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                assert_eq!(read_varint(&out), Some((value, out.len())));
                assert_eq!(read_varint(&out[..out.len() - 1]), None);
            }
        }
    }

    #[test]
    fn overlong_is_refused() {
        assert_eq!(read_varint(&[0xff; 11]), None);
        assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]), None);
    }
}
