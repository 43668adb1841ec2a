//! The bandwidth of one loopback TCP stream: what one connection can carry at best.

use super::{ProbeError, Setting, Transfer};
use crate::cores::pin_to;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const CHUNK_LEN: usize = 256 << 10;
/// Neither side waits longer than this for the other.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Writes 256 KiB chunks for `time` from the generator's core, with plain blocking sockets, and
/// reads them on the broker's.
pub fn loopback_slice(setting: &Setting, time: Duration) -> Result<Transfer, ProbeError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    sender.set_write_timeout(Some(STALL_MAX))?;
    receiver.set_read_timeout(Some(STALL_MAX))?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            pin_to(&[setting.generator_core])?;
            send(sender, time)
        });
        let receiving = scope.spawn(|| {
            pin_to(&[setting.broker_core])?;
            receive(&receiver)
        });
        sending.join().expect("the sender does not panic")?;
        receiving.join().expect("the receiver does not panic")
    })
}

/// Takes the stream, since closing it is what ends the transfer.
fn send(mut stream: TcpStream, time: Duration) -> Result<(), ProbeError> {
    let chunk = vec![0xA5; CHUNK_LEN];
    let end = Instant::now() + time;
    while Instant::now() < end {
        stream.write_all(&chunk)?;
    }
    Ok(())
}

fn receive(mut stream: &TcpStream) -> Result<Transfer, ProbeError> {
    let mut chunk = vec![0; CHUNK_LEN];
    let mut bytes = stream.read(&mut chunk)? as u64;
    let begin = Instant::now();
    let first = bytes;
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
    }
    // The clock began after the first bytes were there, so they do not count.
    let elapsed_ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Transfer { bytes: bytes - first, elapsed_ns })
}
