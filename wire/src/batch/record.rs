//! Records inside a batch that is not compressed.
//!
//! ```text
//! length varint │ attributes i8 │ timestamp delta varint │ offset delta varint │
//! key length varint (-1: none) │ key │ value length varint (-1: none) │ value │
//! header count varint │ { key length varint │ key │ value length varint │ value } …
//! ```

use super::varint::read_varint;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its time in ms since 1970.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl Headers<'_> {
    /// How many there are.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        let mut fields = Fields { bytes: self.bytes };
        let key = fields.blob().ok()??;
        let value = fields.blob().ok()?;
        self.bytes = fields.bytes;
        Some(Header { key, value })
    }
}

/// The records of a batch, in order. Ends early, with an error, at one that is malformed.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    left: u32,
    base_offset: u64,
    base_timestamp_ms: i64,
}

impl<'a> Records<'a> {
    pub(super) const fn new(bytes: &'a [u8], count: u32, base_offset: u64, base_time: i64) -> Self {
        Records { bytes, left: count, base_offset, base_timestamp_ms: base_time }
    }

    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let mut outer = Fields { bytes: self.bytes };
        let length =
            usize::try_from(outer.varint()?).map_err(|_| "a record's length is negative")?;
        let (body, rest) =
            outer.bytes.split_at_checked(length).ok_or("a record reaches past its batch")?;
        self.bytes = rest;
        let mut fields = Fields { bytes: body };
        fields.byte()?;
        let timestamp_delta = fields.varint()?;
        let offset_delta = fields.varint()?;
        let offset_delta =
            u64::try_from(offset_delta).map_err(|_| "a record's offset delta is negative")?;
        let key = fields.blob()?;
        let value = fields.blob()?;
        let count = u32::try_from(fields.varint()?).map_err(|_| "a header count is negative")?;
        Ok(Record {
            offset: self.base_offset.saturating_add(offset_delta),
            timestamp_ms: self.base_timestamp_ms.saturating_add(timestamp_delta),
            key,
            value,
            headers: Headers { count, bytes: fields.bytes },
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// Walks `count` records: each extent fits, offset deltas count up from 0, all fields lie inside
/// their record, and nothing is left over.
pub(super) fn walk_records(bytes: &[u8], count: u32) -> Result<(), &'static str> {
    let mut rest = bytes;
    for index in 0..count {
        let mut outer = Fields { bytes: rest };
        let length =
            usize::try_from(outer.varint()?).map_err(|_| "a record's length is negative")?;
        let (body, tail) =
            outer.bytes.split_at_checked(length).ok_or("a record reaches past its batch")?;
        rest = tail;
        let mut fields = Fields { bytes: body };
        fields.byte()?;
        fields.varint()?;
        if fields.varint()? != i64::from(index) {
            return Err("offset deltas do not count up from 0");
        }
        fields.blob()?;
        fields.blob()?;
        let headers = fields.varint()?;
        if headers < 0 {
            return Err("a header count is negative");
        }
        for _ in 0..headers {
            fields.blob()?.ok_or("a record header has no key")?;
            fields.blob()?;
        }
        if !fields.bytes.is_empty() {
            return Err("a record is longer than its fields");
        }
    }
    if rest.is_empty() { Ok(()) } else { Err("the batch holds more than its record count says") }
}

struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (&first, rest) = self.bytes.split_first().ok_or("a record is cut short")?;
        self.bytes = rest;
        Ok(first)
    }

    #[inline]
    fn varint(&mut self) -> Result<i64, &'static str> {
        let (value, length) = read_varint(self.bytes).ok_or("a varint is malformed")?;
        self.bytes = &self.bytes[length..];
        Ok(value)
    }

    /// Bytes with their length before them; -1 is none, anything below is malformed.
    #[inline]
    fn blob(&mut self) -> Result<Option<&'a [u8]>, &'static str> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "a field's length is negative")?;
        let (blob, rest) =
            self.bytes.split_at_checked(length).ok_or("a field reaches past its record")?;
        self.bytes = rest;
        Ok(Some(blob))
    }
}
