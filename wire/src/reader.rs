//! The bounded reader under every decoder.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Why some bytes are not what they should be. The sentence names the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads fields off the front of a byte slice; never reads past its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.bytes.split_at_checked(count).ok_or(Malformed(what))?;
        self.bytes = tail;
        Ok(head)
    }

    /// A fixed-layout struct.
    pub fn get<T>(&mut self, what: &'static str) -> Result<&'a T, Malformed>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let (value, tail) = T::ref_from_prefix(self.bytes).map_err(|_| Malformed(what))?;
        self.bytes = tail;
        Ok(value)
    }

    /// `count` fixed-layout structs in a row.
    pub fn slice<T>(&mut self, count: usize, what: &'static str) -> Result<&'a [T], Malformed>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let (values, tail) =
            <[T]>::ref_from_prefix_with_elems(self.bytes, count).map_err(|_| Malformed(what))?;
        self.bytes = tail;
        Ok(values)
    }

    /// A string with a 16-bit length before it.
    pub fn str16(&mut self, bytes_max: usize, what: &'static str) -> Result<&'a str, Malformed> {
        let length = self.get::<zerocopy::little_endian::U16>(what)?.get();
        let length = usize::from(length);
        if length > bytes_max {
            return Err(Malformed(what));
        }
        std::str::from_utf8(self.take(length, what)?).map_err(|_| Malformed(what))
    }

    /// Refuses bytes that no field accounts for.
    pub fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }
}

/// Appends a string with its 16-bit length. Strings are bounded far below 64 KiB by `limits`.
pub fn put_str16(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names are bounded by limits.rs");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
