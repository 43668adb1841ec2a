//! Stats: every counter of the broker, self-describing.

use zerocopy::little_endian::{U16, U64};

use crate::{Malformed, Reader, put_str16};

/// Longest counter name.
pub const COUNTER_NAME_BYTES_MAX: usize = 128;

/// The answer: names and values. The request has an empty body.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    count: u16,
    rows: Reader<'a>,
}

impl<'a> Reply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let count = reader.get::<U16>("counter count")?.get();
        let rows = reader;
        for _ in 0..count {
            read_row(&mut reader)?;
        }
        reader.end("bytes after stats")?;
        Ok(Reply { count, rows })
    }

    /// Name and value of every counter.
    pub fn counters(&self) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        let mut reader = self.rows;
        (0..self.count).map(move |_| read_row(&mut reader).expect("walked by decode"))
    }
}

fn read_row<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, u64), Malformed> {
    let name = reader.str16(COUNTER_NAME_BYTES_MAX, "counter name")?;
    let value = reader.get::<U64>("counter value")?.get();
    Ok((name, value))
}

/// Appends the body of a reply.
pub fn encode_reply<'a>(
    out: &mut Vec<u8>,
    counters: impl ExactSizeIterator<Item = (&'a str, u64)>,
) {
    let count = u16::try_from(counters.len()).expect("a few hundred counters");
    out.extend_from_slice(&count.to_le_bytes());
    for (name, value) in counters {
        put_str16(out, name);
        out.extend_from_slice(&value.to_le_bytes());
    }
}
