//! The receive buffer: a transport reads into it, frames are served from where they lie.

use wire::FrameHeader;
use wire::limits::FRAME_HEADER_BYTES;

use super::violation::Violation;
use crate::limits::{FRAME_BYTES_MAX, READ_AHEAD_BYTES_MAX, RECEIVE_BYTES_INITIAL};

/// Bytes `start..end` of `bytes` have arrived; the first `taken` of them are a frame that was
/// given out and is dropped by the next [`Incoming::advance`].
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    taken: usize,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Incoming { bytes: vec![0; RECEIVE_BYTES_INITIAL], start: 0, end: 0, taken: 0 }
    }

    /// Room for at least one more byte. Never offers much beyond the end of a long frame, so
    /// that hardly anything has to be moved when the next one arrives.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.advance();
        let mut wanted =
            (self.frame_len_expected() + READ_AHEAD_BYTES_MAX).max(RECEIVE_BYTES_INITIAL);
        if self.start + wanted <= self.end {
            wanted = self.end - self.start + READ_AHEAD_BYTES_MAX;
        }
        if self.start + wanted > self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if wanted > self.bytes.len() {
                self.bytes.resize(wanted, 0);
            }
        }
        &mut self.bytes[self.end..self.start + wanted]
    }

    pub(super) fn filled(&mut self, count: usize) {
        assert!(self.end + count <= self.bytes.len(), "a read fits the space it was given");
        self.end += count;
    }

    /// Drops the frame given out last.
    pub(super) fn advance(&mut self) {
        self.start += self.taken;
        self.taken = 0;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// The header of the next frame once all of that frame is there, with its checksum checked.
    /// [`Incoming::body`] then gives its body.
    pub(super) fn take_frame(&mut self) -> Result<Option<FrameHeader>, Violation> {
        self.advance();
        let arrived = &self.bytes[self.start..self.end];
        let Some(&header) = FrameHeader::peek(arrived) else { return Ok(None) };
        if let Some((code, reason)) = header.invalid() {
            return Err(Violation::Frame { code, reason });
        }
        let Some(body) = arrived.get(FRAME_HEADER_BYTES..header.frame_len()) else {
            return Ok(None);
        };
        header
            .verify(body)
            .map_err(|malformed| Violation::Body { kind: header.kind.get(), malformed })?;
        self.taken = header.frame_len();
        Ok(Some(header))
    }

    /// The body of the frame that [`Incoming::take_frame`] gave; empty once it is dropped.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes[self.start..self.start + self.taken].get(FRAME_HEADER_BYTES..).unwrap_or(&[])
    }

    /// Length of the frame that is arriving, as far as it is known and can be true.
    fn frame_len_expected(&self) -> usize {
        match FrameHeader::peek(&self.bytes[self.start..self.end]) {
            Some(header) if header.invalid().is_none() => header.frame_len().min(FRAME_BYTES_MAX),
            _ => FRAME_HEADER_BYTES,
        }
    }
}
