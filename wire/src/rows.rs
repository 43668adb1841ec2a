//! A count, then rows of one length: the body of requests and replies that ask and answer by
//! partition.

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::REQUEST_PARTITIONS_MAX;
use crate::{Malformed, Reader};

/// Decodes a body of rows.
pub fn decode<T>(body: &[u8]) -> Result<&[T], Malformed>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    let mut reader = Reader::new(body);
    let count = usize::from(reader.get::<U16>("row count")?.get());
    if count > REQUEST_PARTITIONS_MAX {
        return Err(Malformed("more partitions are named than one request may"));
    }
    let rows = reader.slice(count, "rows")?;
    reader.end("bytes after the rows")?;
    Ok(rows)
}

/// Appends a body of rows.
pub fn encode<T: IntoBytes + Immutable>(out: &mut Vec<u8>, rows: &[T]) {
    let count = u16::try_from(rows.len()).expect("rows are bounded");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(rows.as_bytes());
}
