//! What a generator thread runs against: brokers behind sockets, or nothing at all.
//!
//! A target makes connections and waits for them. Everything that is measured is the same for all
//! targets, so that `null` and `echo` show what the generator itself can do.

mod echo;
mod null;
mod sink;
mod sockets;

pub(super) use echo::EchoServer;
pub(super) use null::Null;
pub(super) use sink::SinkCounters;
#[cfg(test)]
pub(super) use sink::{Proof, Sink};
pub(super) use sockets::Sockets;

use client::transport::{Received, Transport};
use client::{ClientError, ConnectOptions, Connection};
use std::io;
use std::time::Duration;

use super::work::Work;

/// Where the requests of one generator thread go.
pub(super) trait Target: Sized {
    /// How bytes get there.
    type Transport: Transport;

    /// Connects producer or consumer `number`; `lane` names the connection in [`Target::wait`].
    fn connect(
        &mut self,
        work: &Work<'_>,
        lane: usize,
        number: u32,
    ) -> Result<Connection<Self::Transport>, ClientError>;

    /// Ends a connection from this side; it is then lost as any is that the broker ends.
    fn hang_up(&self, connection: &mut Connection<Self::Transport>);

    /// A round of a busy-polling loop found nothing to do.
    fn rest(&self);

    /// Waits until something may have come, at most this long, and names those lanes. May name
    /// lanes to which nothing has come.
    fn wait(&mut self, timeout_ns: u64, readable: &mut dyn FnMut(usize)) -> io::Result<()>;
}

/// Receives once; gives the number of bytes. A read that does not fill its space has emptied the
/// socket: then it is no longer `readable`.
pub(super) fn receive(
    connection: &mut Connection<impl Transport>,
    readable: &mut bool,
) -> Result<usize, ClientError> {
    let (session, transport) = connection.parts_mut();
    let space = session.receive_space();
    let room = space.len();
    let received = transport.receive(space);
    match received.map_err(|source| ClientError::Lost { source: Some(source) })? {
        Received::Closed => Err(ClientError::Lost { source: None }),
        Received::Nothing => {
            *readable = false;
            Ok(0)
        }
        Received::Bytes(count) => {
            session.received(count);
            *readable = count == room;
            Ok(count)
        }
    }
}

/// How generator threads introduce themselves.
pub(super) fn connect_options() -> ConnectOptions {
    ConnectOptions {
        client_name: "pelton-bench".to_owned(),
        request_timeout: Duration::from_secs(10),
        ..ConnectOptions::default()
    }
}
