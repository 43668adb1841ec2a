//! What a producer does when a connection is lost, its topic is gone, and at its end.

use std::time::Instant;

use wire::ErrorCode;
use wire::batch::BatchBuilder;

use super::delivery::Outcome;
use super::{Producer, index, partition_count};
use crate::error::ClientError;
use crate::network::Network;

impl<N: Network> Producer<N> {
    /// A connection failed: what it has not answered is in doubt, the rest waits for another.
    pub(super) fn link_failed(
        &mut self,
        route: usize,
        error: ClientError,
        now: Instant,
    ) -> Result<(), ClientError> {
        if error.is_of_connection()
            && let Some(link) = self.router.cut(route)
        {
            for &partition in &self.active {
                let queue = &mut self.queues[index(partition)];
                while let Some(sealed) = queue.take_lost(link.serial) {
                    self.sealed_count -= 1;
                    let outcome = Outcome::InDoubt { detail: error.to_string() };
                    self.deliveries.finish(&mut self.spares, partition, sealed, outcome);
                }
            }
        }
        self.stale(error, now)
    }

    /// Metadata is to be asked for anew, unless that cannot help.
    pub(super) fn stale(&mut self, error: ClientError, now: Instant) -> Result<(), ClientError> {
        match self.router.failed(error, now) {
            Err(error) if is_gone(&error) => {
                self.fail_unsent(&error);
                Ok(())
            }
            result => result,
        }
    }

    /// Tries to get lost connections back, if it is time.
    pub(super) fn mend(&mut self, now: Instant) -> Result<(), ClientError> {
        let count = partition_count(&self.router);
        match self.router.mend(now, (0..count).map(|partition| (0, partition))) {
            Err(error) if is_gone(&error) => {
                self.fail_unsent(&error);
                self.router.served();
                Ok(())
            }
            result => result.map(|_| ()),
        }
    }

    /// The topic is gone: fails what is not on its way.
    fn fail_unsent(&mut self, error: &ClientError) {
        for &partition in &self.active {
            let queue = &mut self.queues[index(partition)];
            while let Some(sealed) = queue.take_unsent() {
                self.sealed_count -= 1;
                let code = ErrorCode::UnknownTopic.number();
                let outcome = Outcome::Failed { code, detail: error.to_string() };
                self.deliveries.finish(&mut self.spares, partition, sealed, outcome);
            }
        }
    }

    /// Closes the producer if `result` is an error: what was sent is in doubt, the rest failed.
    pub(super) fn close_on_error(
        &mut self,
        result: Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let Err(error) = result else { return Ok(()) };
        self.closed = true;
        let now = Instant::now();
        for partition in std::mem::take(&mut self.active) {
            let queue = &mut self.queues[index(partition)];
            if !queue.open().is_empty() {
                queue.seal(now, BatchBuilder::with_capacity(0));
            }
            while let Some((sealed, was_sent)) = queue.take_any() {
                let outcome = if was_sent {
                    Outcome::InDoubt { detail: error.to_string() }
                } else {
                    Outcome::Failed { code: 0, detail: format!("never sent: {error}") }
                };
                self.deliveries.finish(&mut self.spares, partition, sealed, outcome);
            }
        }
        self.sealed_count = 0;
        Err(error)
    }
}

/// Whether the topic that the producer was made for is no more.
fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::TopicRecreated { .. })
        || error.error_code() == Some(ErrorCode::UnknownTopic)
}
