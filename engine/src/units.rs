//! Conversions between lengths in memory and lengths on disk and wire. Lengths in memory are
//! bounded by `limits.rs`, so a failure here is a programmer's error.

/// A bounded length as u32.
pub fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("lengths in memory are bounded by limits.rs")
}

/// A length as u64.
pub fn u64_of(value: usize) -> u64 {
    u64::try_from(value).expect("usize fits u64")
}

/// A u32 as a length.
pub fn usize_of(value: u32) -> usize {
    usize::try_from(value).expect("u32 fits usize on 64-bit Linux")
}

/// A position within something that lies in memory, as a length.
pub fn usize_of_u64(value: u64) -> usize {
    usize::try_from(value).expect("u64 fits usize on 64-bit Linux")
}
