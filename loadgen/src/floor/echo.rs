//! The round trip of a small message: what no answer of a broker can undercut.

use super::ring::ProbeRing;
use super::{IdleMode, ProbeError, Setting};
use crate::clock::monotonic_ns;
use crate::cores::pin_to;
use crate::latency::Latencies;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const MESSAGE_LEN: usize = 128;
/// The first round trips of a slice find cold caches.
const WARM_UP_TRIPS: u64 = 16;
const SEND: usize = 0;
const RECEIVE: usize = 1;

/// Sends 128 bytes back and forth over loopback TCP for `time`, between a client on the
/// generator's core and a server on the broker's, both on raw io_uring in the same idle mode.
pub fn echo_slice(setting: &Setting, time: Duration) -> Result<Latencies, ProbeError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let _hang_up = HangUp(&server);
            pin_to(&[setting.broker_core])?;
            serve(&server, setting.echo_idle)
        });
        let calling = scope.spawn(|| {
            let _hang_up = HangUp(&client);
            pin_to(&[setting.generator_core])?;
            call(&client, setting.echo_idle, time)
        });
        let latencies = calling.join().expect("the echo client does not panic")?;
        serving.join().expect("the echo server does not panic")?;
        Ok(latencies)
    })
}

/// Ends the stream when its thread ends, however it ends, so that the other side ends too.
struct HangUp<'a>(&'a TcpStream);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        // Fails only if the other side has closed it already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn serve(stream: &TcpStream, idle: IdleMode) -> Result<(), ProbeError> {
    let mut ring = ProbeRing::new(stream.as_fd(), 2, MESSAGE_LEN)?;
    ring.receive(RECEIVE, MESSAGE_LEN);
    loop {
        match ring.wait(idle) {
            Ok(done) if done.slot == SEND => {}
            Ok(done) if done.bytes == MESSAGE_LEN => {
                // One entry into the kernel answers and asks for the next message.
                ring.send(SEND, MESSAGE_LEN);
                ring.receive(RECEIVE, MESSAGE_LEN);
            }
            // The client has hung up, whichever operation notices first.
            Ok(_) | Err(_) if ring.in_flight() == 0 => return Ok(()),
            Ok(_) | Err(_) => {}
        }
    }
}

fn call(stream: &TcpStream, idle: IdleMode, time: Duration) -> Result<Latencies, ProbeError> {
    let mut ring = ProbeRing::new(stream.as_fd(), 2, MESSAGE_LEN)?;
    let mut latencies = Latencies::new();
    let end = Instant::now() + time;
    for trip in 0.. {
        let begin = monotonic_ns();
        ring.send(SEND, MESSAGE_LEN);
        ring.receive(RECEIVE, MESSAGE_LEN);
        while ring.in_flight() > 0 {
            if ring.wait(idle)?.bytes != MESSAGE_LEN {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
        if trip >= WARM_UP_TRIPS {
            latencies.record(monotonic_ns() - begin);
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(latencies)
}
