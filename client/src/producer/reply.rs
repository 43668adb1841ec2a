//! Answers to produce requests, be they per partition or for the whole request.

use wire::{ErrorCode, Kind};

use crate::connection::Connection;
use crate::error::ClientError;
use crate::session::{Event, RequestId};
use crate::transport::Transport;

/// What the broker answered to one batch.
pub(super) struct BatchReply {
    pub(super) id: RequestId,
    pub(super) code: u16,
    pub(super) base_offset: u64,
    pub(super) retry_after_ms: u32,
    detail: String,
}

impl BatchReply {
    pub(super) fn error(&self) -> ClientError {
        let detail = self.detail.clone();
        ClientError::Refused { kind: Kind::Produce, code: self.code, detail }
    }

    pub(super) fn sentence(&self) -> String {
        let name = ErrorCode::from_u16(self.code).map_or("unknown error", ErrorCode::name);
        match self.detail.as_str() {
            "" => name.to_owned(),
            detail => format!("{name}: {detail}"),
        }
    }
}

/// The next answer to a produce request that has arrived.
pub(super) fn next_reply<T: Transport>(
    connection: &mut Connection<T>,
) -> Result<Option<BatchReply>, ClientError> {
    while let Some(event) = connection.session_mut().next_event()? {
        match event {
            Event::Produced(id, reply) => {
                let entry = reply.entries.first();
                return Ok(Some(BatchReply {
                    id,
                    code: entry.map_or(ErrorCode::Malformed.number(), |entry| entry.error.get()),
                    base_offset: entry.map_or(0, |entry| entry.base_offset.get()),
                    retry_after_ms: 0,
                    detail: String::new(),
                }));
            }
            Event::Refused(id, refusal) => {
                return Ok(Some(BatchReply {
                    id,
                    code: refusal.code,
                    base_offset: 0,
                    retry_after_ms: refusal.retry_after_ms,
                    detail: refusal.detail.to_owned(),
                }));
            }
            _ => {}
        }
    }
    Ok(None)
}
