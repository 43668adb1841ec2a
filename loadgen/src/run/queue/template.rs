//! Messages that are built once and published many times.
//!
//! Between two frames only the 40-byte headers of the bodies and the messages' flags differ. Where
//! bodies differ in size, there are several templates, which take turns.

use wire::limits::{BATCH_BYTES_MAX, PUBLISH_MESSAGES_MAX};
use wire::queue::{MESSAGE_HEAD_BYTES, MESSAGE_TRANSIENT, MessageHead, put_message};
use zerocopy::FromBytes;

use super::super::choices::BatchSize;
use super::super::template::{Filling, Shape, rotation};
use crate::payload::Header;
use crate::random::Random;

/// What becomes of messages when the broker starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// They are there.
    Persistent,
    /// They may be gone.
    Transient,
}

/// The messages of one frame of the largest size that a run sends.
pub(super) struct MessageTemplate {
    filling: Filling,
    bytes: Vec<u8>,
    /// Behind each message: bytes, and those of the bodies so far.
    ends: Vec<(usize, u64)>,
}

impl MessageTemplate {
    /// Templates that take turns.
    pub(super) fn rotation(shape: &Shape, size: BatchSize) -> Vec<Self> {
        let measure = |template: &Self| (template.ends.len(), template.bytes.len());
        rotation(shape, |random| Self::new(shape, size, random), measure)
    }

    /// A template of bodies of a shape, whatever of them is drawn from `random`.
    pub(super) fn new(shape: &Shape, size: BatchSize, random: &mut Random) -> Self {
        let filling = Filling::of(shape);
        let (count_max, bytes_max) = match size {
            BatchSize::Records(count) => (count, BATCH_BYTES_MAX),
            BatchSize::Bytes(bytes) => (PUBLISH_MESSAGES_MAX, bytes as usize),
        };
        let (mut bytes, mut ends, mut body_bytes) = (Vec::new(), Vec::new(), 0);
        while ends.len() < count_max as usize {
            let body = filling.value(shape, random);
            let len = bytes.len() + MESSAGE_HEAD_BYTES + body.len();
            if len > bytes_max && !ends.is_empty() {
                break;
            }
            put_message(&mut bytes, 0, 0, b"", &body);
            body_bytes += body.len() as u64;
            ends.push((bytes.len(), body_bytes));
        }
        Self { filling, bytes, ends }
    }

    /// Messages of a full frame.
    pub(super) fn count_max(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("at most PUBLISH_MESSAGES_MAX")
    }

    /// Writes message `index`.
    #[inline]
    pub(super) fn put(&mut self, index: u32, keeping: Keeping, header: &Header) {
        let index = index as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let message = &mut self.bytes[start..self.ends[index].0];
        let (head, body) =
            MessageHead::mut_from_prefix(message).expect("a message is longer than its head");
        head.flags = match keeping {
            Keeping::Persistent => 0,
            Keeping::Transient => MESSAGE_TRANSIENT,
        };
        self.filling.put(body, header);
    }

    /// The first `count` messages, which are at least one.
    pub(super) fn messages(&self, count: u32) -> &[u8] {
        &self.bytes[..self.ends[count as usize - 1].0]
    }

    /// Bytes of their bodies.
    pub(super) fn body_bytes(&self, count: u32) -> u64 {
        self.ends[count as usize - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::records::Sizes;
    use super::*;
    use crate::payload::verify;
    use wire::queue::Messages;

    #[test]
    fn messages_are_what_the_broker_takes() {
        let plain = Shape { value_len: 100, sizes: None, entropy: None, keys: None, seed: 3 };
        let sizes = Some(Sizes::Uniform { from: 40, to: 900 });
        for shape in [plain, Shape { entropy: Some(0.5), ..plain }, Shape { sizes, ..plain }] {
            for mut template in MessageTemplate::rotation(&shape, BatchSize::Records(100)) {
                prove(&mut template);
            }
        }
    }

    fn prove(template: &mut MessageTemplate) {
        for (round, count) in [100u32, 1, 99].into_iter().enumerate() {
            let keeping = if round == 1 { Keeping::Transient } else { Keeping::Persistent };
            for index in 0..count {
                let sequence = round as u64 * 1000 + u64::from(index);
                let header = Header {
                    run: 9,
                    producer: 1,
                    partition: 0,
                    sequence,
                    intended_ns: sequence,
                    sent_ns: sequence,
                };
                template.put(index, keeping, &header);
            }
            let messages: Vec<_> = Messages::new(template.messages(count))
                .map(|message| message.expect("whole"))
                .collect();
            assert_eq!(messages.len(), count as usize);
            let body_bytes: u64 = messages.iter().map(|message| message.body.len() as u64).sum();
            assert_eq!(template.body_bytes(count), body_bytes);
            for (index, message) in messages.iter().enumerate() {
                let header = verify(message.body).expect("intact");
                assert_eq!(header.sequence, round as u64 * 1000 + index as u64);
                assert_eq!(message.head.flags == MESSAGE_TRANSIENT, round == 1);
            }
        }
    }

    #[test]
    fn sizes_in_bytes_are_kept() {
        let shape = Shape { value_len: 100, sizes: None, entropy: None, keys: None, seed: 3 };
        let full = |shape: &Shape, bytes: u32| {
            MessageTemplate::new(shape, BatchSize::Bytes(bytes), &mut Random::new(1)).count_max()
        };
        assert_eq!(full(&shape, 65_536), 65_536 / 124);
        assert_eq!(full(&Shape { value_len: 1_000, ..shape }, 10), 1);
        let sizes = Some(Sizes::Uniform { from: 40, to: 900 });
        let drawn = MessageTemplate::rotation(&Shape { sizes, ..shape }, BatchSize::Records(1));
        assert!(drawn.len() > 1_000, "{}", drawn.len());
    }
}
