//! Messages that are built once and published many times.
//!
//! Between two frames only the 40-byte headers of the bodies and the messages' flags differ.

use wire::limits::PUBLISH_MESSAGES_MAX;
use wire::queue::{MESSAGE_HEAD_BYTES, MESSAGE_TRANSIENT, MessageHead, put_message};
use zerocopy::FromBytes;

use super::super::choices::BatchSize;
use crate::payload::{Encoder, Header};

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
    encoder: Encoder,
    bytes: Vec<u8>,
    message_bytes: usize,
    count_max: u32,
}

impl MessageTemplate {
    /// A template of bodies of `body_bytes` bytes.
    pub(super) fn new(body_bytes: u32, seed: u64, size: BatchSize) -> Self {
        let encoder = Encoder::new(body_bytes, seed);
        let mut body = vec![0; encoder.value_len()];
        encoder.fill(&mut body);
        let message_bytes = MESSAGE_HEAD_BYTES + body.len();
        let count_max = match size {
            BatchSize::Records(count) => count,
            BatchSize::Bytes(bytes) => {
                let fit = bytes as usize / message_bytes;
                u32::try_from(fit).expect("fewer than bytes").clamp(1, PUBLISH_MESSAGES_MAX)
            }
        };
        let mut bytes = Vec::with_capacity(count_max as usize * message_bytes);
        for _ in 0..count_max {
            put_message(&mut bytes, 0, 0, b"", &body);
        }
        Self { encoder, bytes, message_bytes, count_max }
    }

    /// Messages of a full frame.
    pub(super) fn count_max(&self) -> u32 {
        self.count_max
    }

    /// Writes message `index`.
    #[inline]
    pub(super) fn put(&mut self, index: u32, keeping: Keeping, header: &Header) {
        let start = index as usize * self.message_bytes;
        let message = &mut self.bytes[start..start + self.message_bytes];
        let (head, body) =
            MessageHead::mut_from_prefix(message).expect("a message is longer than its head");
        head.flags = match keeping {
            Keeping::Persistent => 0,
            Keeping::Transient => MESSAGE_TRANSIENT,
        };
        self.encoder.encode(body, header);
    }

    /// The first `count` messages.
    pub(super) fn messages(&self, count: u32) -> &[u8] {
        &self.bytes[..count as usize * self.message_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::verify;
    use wire::queue::Messages;

    #[test]
    fn messages_are_what_the_broker_takes() {
        let mut template = MessageTemplate::new(100, 3, BatchSize::Records(100));
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
            for (index, message) in messages.iter().enumerate() {
                let header = verify(message.body).expect("intact");
                assert_eq!(header.sequence, round as u64 * 1000 + index as u64);
                assert_eq!(message.head.flags == MESSAGE_TRANSIENT, round == 1);
            }
        }
    }

    #[test]
    fn sizes_in_bytes_are_kept() {
        let template = MessageTemplate::new(100, 3, BatchSize::Bytes(65_536));
        assert_eq!(template.count_max(), 65_536 / 124);
        assert_eq!(MessageTemplate::new(1000, 3, BatchSize::Bytes(10)).count_max(), 1);
    }
}
